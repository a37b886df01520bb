"""Stages that a user waits for: start of the commands, prediction for a file, building a set.

for row in usage_stages.measure_start(quick=True):
    print(row.name, row.project)
"""

import concurrent.futures
import contextlib
import functools
import io
import itertools
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from tests.benchmark import peers
from tests.benchmark.fixtures import ROOT, SIDE, ImageSet
from tests.benchmark.rows import Row, Spread, compare, elapsed, interleave
from trainer.config import TrainConfig
from trainer.data import phantom, prepared, radiograph
from trainer.errors import UserError
from trainer.evaluation import export_network  # Registers layers that load_model needs.
from trainer.inference import exporting, runtime
from trainer.training import models

# Prints seconds of importing TensorFlow, and of everything from there to the first step.
_FIRST_STEP = """
import time
from trainer import tf_startup
start = time.perf_counter()
tf_startup.start_tensorflow()
imported = time.perf_counter()
import tensorflow_datasets
from tests.benchmark import fixtures
from trainer.config import TrainConfig
training = fixtures.Training(TrainConfig())
examples = fixtures.noise_examples(64, training.config.image_size)
training.run_step(next(training.batches(examples)))
print(imported - start, time.perf_counter() - imported)
"""
_FILE_SIDE = 390  # Pixels.
_CALLS = 5  # In a row: the other process has emptied the caches, and its threads may still run.
_BUILD_PROCESSES = 2  # As many as the builder has threads.


def measure_start(quick: bool) -> Iterator[Row]:
    """Measures the time to --help and to the first training step.

    Each time is that of a new process.

    Args:
      quick: whether to take fewer rounds.
    """
    rounds = 1 if quick else 3
    show_help = functools.partial(_run_python, "-m", "trainer.main", "--help")
    # Two rounds more: it is short.
    help_times = Spread.of([elapsed(show_help) for _ in range(rounds + 2)])
    yield Row("trainer.main --help", "s", help_times, ratio=help_times, target=1.0, at_most=True)
    # [rounds, 2], as text
    printed = [_run_python("-c", _FIRST_STEP).split() for _ in range(rounds)]
    import_times, step_times = np.array(printed, float).T.tolist()
    first_step = Spread.of(step_times)
    yield Row(
        "first training step after import tensorflow, default model",
        "s",
        first_step,
        Spread.of(import_times),
        "import tensorflow itself",
        first_step,
        5.0,
        at_most=True,
        note="the rest of the imports, the network, the step's graph and the first batch; the "
        "ratio is its seconds",
    )


def measure_inference(quick: bool) -> Iterator[Row]:
    """Measures the time from a file to a probability and a map, warm.

    Args:
      quick: whether to take fewer rounds.
    """
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark_"))
        folder = Path(name)
        path = folder / "radiograph.jpg"
        side = radiograph.STANDARD_SIDE
        square = phantom.draw(seed=0, index=0, label=0, side=side).image  # [side, side]
        Image.fromarray(square).resize((_FILE_SIDE, _FILE_SIDE)).save(path, quality=90)
        _write_untrained(folder, square)
        processes = peers.start_peers(
            stack,
            ("usage_stages:project_inference", {"folder": folder, "path": path}),
            ("usage_stages:keras_inference", {"folder": folder, "path": path}),
        )
        project, peer = interleave(7 if quick else 30, *filter(None, processes))
    yield compare(
        f"one {_FILE_SIDE}-px JPEG, file to probability and map, warm",
        "s",
        project,
        peer,
        "Pillow and keras.Model.predict",
        15.0,
        note=f"the same network, not trained; {_CALLS} in a row, each framework in a process of "
        "its own",
    )


def project_inference(folder: Path, path: Path) -> Callable[[], float]:
    """Prepares the measurement of this project's runtime.

    Args:
      folder: with model.onnx.
      path: of the image file.

    Returns:
      A function that returns seconds.
    """
    model = runtime.load(folder / "model.onnx")

    def predict() -> None:
        image = radiograph.read(path)
        # The probability and the map, as trainer.predict gives them.
        model.explain(radiograph.standardize(image, radiograph.STANDARD_SIDE))

    return _warm(predict)


def keras_inference(folder: Path, path: Path) -> Callable[[], float]:
    """Prepares the measurement of Pillow and `keras.Model.predict`.

    Args:
      folder: with model.keras.
      path: of the image file.

    Returns:
      A function that returns seconds.
    """
    network = keras.saving.load_model(folder / "model.keras", compile=False)
    size = (radiograph.STANDARD_SIDE, radiograph.STANDARD_SIDE)

    def predict() -> None:
        with Image.open(path) as image:
            square = image.convert("L").resize(size, Image.Resampling.BILINEAR)
        pixels = np.asarray(square, np.float32)
        network.predict(pixels[None, ..., None], verbose=0)  # [1, side, side, 1]

    return _warm(predict)


def measure_build(images: ImageSet, quick: bool) -> Iterator[Row]:
    """Measures images a second of the builder, beside Pillow on the same files.

    Args:
      images: whose files are built.
      quick: whether to take fewer images and rounds.
    """
    rounds = 2 if quick else 3
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="benchmark_") as name,
        concurrent.futures.ProcessPoolExecutor(_BUILD_PROCESSES, context) as pool,
    ):
        temporary = Path(name)
        folder = temporary / "files"
        paths = _link_files(images, folder, 96 if quick else 400)
        shares = [paths[index::_BUILD_PROCESSES] for index in range(_BUILD_PROCESSES)]
        encode = functools.partial(peers.pillow_squares, side=SIDE)
        # Once before: start of the processes and imports of the builder are not counted.
        list(pool.map(encode, [share[:1] for share in shares]))
        _build(folder, temporary / "warm")
        numbers = itertools.count()  # Each build goes into a folder of its own.
        project, pillow = interleave(
            rounds,
            lambda: (
                len(paths) / elapsed(lambda: _build(folder, temporary / f"data{next(numbers)}"))
            ),
            lambda: len(paths) / elapsed(lambda: list(pool.map(encode, shares))),
        )
    yield compare(
        "builder, two threads",
        "images/s",
        project,
        list(pillow),  # Without CPU time: that of its processes is not known.
        "Pillow alone: decode, resize, PNG, two processes",
        0.8,
        note=f"{len(paths)} files, the builder's start, checks and records included",
    )


def _run_python(*arguments: str) -> str:
    """Runs Python in a new process and returns the last line it prints."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if "Traceback" in result.stderr:
        reason = result.stderr.strip().splitlines()[-1]
        raise UserError(f"python {arguments[0]} failed ({reason}); install again: pip install -e .")
    return result.stdout.strip().rpartition("\n")[2]


def _write_untrained(folder: Path, square: np.ndarray) -> None:
    """Exports the default network with initial weights: training does not change its speed.

    Args:
      folder: for model.keras and model.onnx.
      square: [side, side] uint8, on which the two are compared.
    """
    side = radiograph.STANDARD_SIDE
    keras.utils.set_random_seed(0)
    network = models.build(models.resolve(TrainConfig()), 2)
    export = export_network.build_export(network, side)
    facts = {
        "class_names": ["non_covid", "covid"],
        "positive_class": "covid",
        "threshold": 0.5,
        "preprocessing": radiograph.PREPROCESSING_VERSION,
        "synthetic": True,
        "side": side,
    }
    export.save(folder / "model.keras")
    squares = square[None, ..., None]  # [1, side, side, 1]
    exporting.write(folder, export, facts, None, ("onnx",), squares)


def _warm(predict: Callable[[], None]) -> Callable[[], float]:
    """Prepares the measurement of one call, over some in a row."""

    def call() -> None:
        for _ in range(_CALLS):
            predict()

    predict()  # Loads what is loaded at first use.
    call()
    return lambda: elapsed(call) / _CALLS


def _link_files(images: ImageSet, folder: Path, count: int) -> list[str]:
    """Links about `count` training files as a set; returns their paths."""
    names = sorted(images.files)
    chosen = names[:: max(1, len(names) // count)]
    images.link(chosen, folder / "Train")
    # The builder wants both splits: one file of each class is Test.
    one_of_each_class = {images.files[name].parent: name for name in chosen}
    images.link(list(one_of_each_class.values()), folder / "Test")
    return [str(path.resolve()) for path in sorted(folder.rglob("*.*")) if path.is_file()]


def _build(folder: Path, data_dir: Path) -> None:
    config = TrainConfig(dataset="covid_xray", data_dir=str(data_dir), manual_dir=str(folder))
    with contextlib.redirect_stdout(io.StringIO()):  # It prints what it found.
        prepared.open_from_config(config)
