"""Stages of training: input pipeline, step, overheads of the loop.

for row in training_stages.measure_step(quick=True):
    print(row.name, row.against, row.ratio)
"""

import contextlib
import dataclasses
import functools
import io
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tests.benchmark import fixtures, keras_peer, peers, rows
from tests.benchmark.fixtures import BATCH, SIDE, ImageSet, Training
from tests.benchmark.rows import Row, Spread, elapsed, interleave
from trainer.config import TrainConfig
from trainer.training import checkpoint, input_pipeline, progress, recovery
from trainer.workdir import Workdir

# Ends of row names.
_DEFAULT_MODEL = "default model, 16 x 500 x 500"
_CHECKPOINT_STEPS = 100  # Steps between checkpoints.
_LOGGED_STEPS = 100_000  # A long run: overheads must not grow with its history.


@dataclasses.dataclass(frozen=True)
class _StepPeer:
    """Another way to run the reference's training step, see `peers.PeerProcess`."""

    against: str
    process: str
    settings: dict[str, Any]
    target: float
    quick: bool = True  # Whether --quick measures it.


# (description, target) in the order of measurement.
_INPUT_PEERS = (
    ("Keras ImageDataGenerator", 12.0),
    ("Keras preprocessing layers in tf.data, images cached", 1.5),
    ("torch DataLoader + torchvision v2, 2 workers, images cached", 1.5),
)
_STEP_PEERS = (
    _StepPeer(
        "plain Keras fit, compiled as compile() does", "keras_peer:FitStep", {"jit": "auto"}, 1.3
    ),
    _StepPeer(
        "plain Keras fit, jit_compile=False", "keras_peer:FitStep", {"jit": False}, 1.3, quick=False
    ),
    _StepPeer("PyTorch channels-last, eager", "peers:torch_step", {"compiled": False}, 1.1),
    _StepPeer(
        "PyTorch channels-last, torch.compile",
        "peers:torch_step",
        {"compiled": True},
        1.1,
        quick=False,
    ),
)


def measure_pipeline(images: ImageSet, quick: bool) -> Iterator[Row]:
    """Measures images a second of the input pipeline: 500 x 500, shear, zoom, flip.

    Args:
      images: to read.
      quick: whether to take fewer rounds and batches.

    Yields:
      The first epoch from files, then later ones beside each peer.
    """
    batches = 12 if quick else 40  # Of one measurement.
    # The slowest by far: a few batches are enough.
    generator = functools.partial(
        keras_peer.generator_rate, images.folder / "Train", SIDE, BATCH, 3 if quick else 8
    )
    first, first_generator = interleave(
        2 if quick else 7, functools.partial(_first_epoch_rate, images), generator
    )
    yield rows.compare(
        "input pipeline, first epoch from files",
        "images/s",
        first,
        first_generator,
        "Keras ImageDataGenerator",
        4.0,
        note="ours from prepared records: reading, decoding and one epoch; the set is built "
        "once, see builder",
    )

    data = fixtures.input_batches(images.train, BATCH)
    squares = np.asarray(images.train.images)  # [n, side, side, 1]
    loader = {"count": len(images.train), "side": SIDE, "batch": BATCH, "batches": batches}
    with contextlib.ExitStack() as stack:
        # Empty without PyTorch.
        torch = peers.start_peers(stack, ("peers:torch_loader_rate", {**loader, "workers": 2}))
        later, generator_rates, layer_rates, *loader_rates = interleave(
            3 if quick else 7,
            lambda: BATCH * batches / rows.time_batches(data, batches),
            generator,
            keras_peer.layers_rate(squares, BATCH, batches),
            *filter(None, torch),
        )
    all_series: list[Sequence[float]] = [generator_rates, layer_rates]
    # As a list, without CPU time: that of the loader's worker processes is not known.
    all_series += [list(rates) for rates in loader_rates]
    for (against, target), series in itertools.zip_longest(_INPUT_PEERS, all_series):
        yield rows.compare(
            "input pipeline, later epochs", "images/s", later, series, against, target
        )


def measure_step(quick: bool) -> Iterator[Row]:
    """Measures one training step of seed_cnn, the same arithmetic in three frameworks.

    Args:
      quick: whether to take fewer rounds and leave two peers out.

    Yields:
      One row for each peer.
    """
    chosen = [peer for peer in _STEP_PEERS if peer.quick or not quick]
    common = {"side": SIDE, "batch": BATCH, "steps": 1}
    project = {"steps": 1, "model": "seed_cnn", "batch_size": BATCH, "image_size": SIDE}
    with contextlib.ExitStack() as stack:
        processes = peers.start_peers(
            stack,
            ("fixtures:project_step", project),
            *((peer.process, common | peer.settings) for peer in chosen),
        )
        names = ["project", *(peer.against for peer in chosen)]
        # Without the peers whose package is missing.
        installed = {name: peer for name, peer in zip(names, processes, strict=True) if peer}
        measured = interleave(2 if quick else 7, *installed.values())
    series = dict(zip(installed, measured, strict=True))
    for peer in _STEP_PEERS:
        yield rows.compare(
            "seed_cnn training step, 16 x 500 x 500, float32",
            "s",
            series["project"],
            series.get(peer.against),
            peer.against,
            peer.target,
            note="" if peer in chosen else "left out by --quick",
        )


def measure_overheads(images: ImageSet, quick: bool) -> Iterator[Row]:
    """Measures costs of the loop besides its steps, with the default model.

    Args:
      images: to train on.
      quick: whether to take fewer rounds.

    Yields:
      Waiting for input, checkpoints, metrics and progress, and two logical devices.
    """
    training = Training(TrainConfig())
    waits, steps = _waits_and_steps(training, images, 8 if quick else 40)
    totals = [wait + step for wait, step in zip(waits, steps, strict=True)]
    # By its sum: one long wait among many short ones is what this row is to find.
    shares = dataclasses.replace(rows.ratio_spread(waits, totals), median=sum(waits) / sum(totals))
    note = "the share of the steps' whole time"
    yield _share_row(f"waiting for input, {_DEFAULT_MODEL}", waits, totals, shares, 0.02, note)

    step = Spread.of(steps).median
    with tempfile.TemporaryDirectory(prefix="benchmark_") as name:
        saves = _checkpoint_times(training, Path(name), 3 if quick else 10)
        logs = _logging_times(Path(name), 20 if quick else 100)
    # Shares of the median step: saves and steps are not measured in turns.
    totals = [_CHECKPOINT_STEPS * step] * len(saves)
    yield _share_row(
        f"checkpoint every {_CHECKPOINT_STEPS} steps, {_DEFAULT_MODEL}",
        saves,
        totals,
        rows.ratio_spread(saves, totals),
        0.02,
        "the share of 100 steps; written, summed, flushed to disk",
    )
    totals = [step] * len(logs)
    shares = rows.ratio_spread(logs, totals)
    note = "the share of a step"
    yield _share_row(f"metrics and progress, {_DEFAULT_MODEL}", logs, totals, shares, 0.01, note)
    yield _two_devices_row(3 if quick else 25)


def _first_epoch_rate(images: ImageSet) -> float:
    """Images a second of one epoch that begins with reading the prepared records."""
    labels: list[Any] = []

    def read() -> None:
        train = input_pipeline.load(images.data.builder, "train", SIDE)
        batches = -(-len(train) // BATCH)  # Rounded up.
        for batch in fixtures.input_batches(train, BATCH).take(batches):
            labels.append(batch["label"])  # [batch]

    return len(images.train) / elapsed(read)


def _waits_and_steps(
    training: Training, images: ImageSet, count: int
) -> tuple[list[float], list[float]]:
    """Seconds of waiting for each batch, and of each step."""
    batches = training.batches(images.train)
    for _ in range(3):  # Traces, and fills what is prepared ahead.
        training.run_step(next(batches))
    waits = []
    steps = []
    for _ in range(count):
        start = time.perf_counter()
        batch = next(batches)
        # At once in the ideal case: the batch was prepared during the step before.
        waits.append(time.perf_counter() - start)
        steps.append(elapsed(functools.partial(training.run_step, batch)))
    return waits, steps


def _checkpoint_times(training: Training, folder: Path, count: int) -> list[float]:
    checkpoints = checkpoint.Checkpoints(
        folder / "checkpoints", training.state.model, training.state.optimizer
    )
    return [elapsed(functools.partial(checkpoints.save, step)) for step in range(1, count + 1)]


def _logging_times(folder: Path, count: int) -> list[float]:
    """Seconds of checking and logging a step, late in a long run."""
    workdir = Workdir(folder)
    history = [{"step": step, "loss": 0.5} for step in range(1, _LOGGED_STEPS + 1)]
    metrics = {"loss": 0.5, "accuracy": 0.5, "gradient_norm": 1.0, "learning_rate": 1e-3}

    def log(step: int) -> None:
        losses = progress.recent_losses(history, recovery.WINDOW)
        # Two classes, float32.
        recovery.find_problem(losses, 0.5, 1.0, 2, False)
        progress.log_step(workdir, bar, history, step, metrics)

    steps = range(_LOGGED_STEPS + 1, _LOGGED_STEPS + 1 + count)
    with (
        # The bar writes to memory, but formats its line as on a terminal.
        progress.event_writer(workdir).as_default(),
        tqdm(total=_LOGGED_STEPS + count, initial=_LOGGED_STEPS, file=io.StringIO()) as bar,
    ):
        return [elapsed(functools.partial(log, step)) for step in steps]


def _share_row(
    name: str, times: list[float], totals: list[float], shares: Spread, target: float, note: str
) -> Row:
    """Builds the row of a cost as a share of the steps' time."""
    return Row(
        name,
        "s",
        Spread.of(times),
        Spread.of(totals),
        "step time",
        shares,
        target,
        at_most=True,
        note=note,
    )


def _two_devices_row(rounds: int) -> Row:
    """Measures the default model's step on two logical devices beside one."""
    with contextlib.ExitStack() as stack:
        processes = peers.start_peers(
            stack,
            ("fixtures:project_step", {"steps": 3, "logical_devices": 0}),
            ("fixtures:project_step", {"steps": 3, "logical_devices": 2}),
        )
        one, two = interleave(rounds, *filter(None, processes))
    # 0 if two devices on the same cores cost nothing.
    increases = [b / a - 1.0 for a, b in zip(one, two, strict=True)]
    return Row(
        f"two logical devices, {_DEFAULT_MODEL}",
        "s",
        Spread.of(two),
        Spread.of(one),
        "one device",
        Spread.of(increases),
        0.10,
        at_most=True,
        cpu_ratio=rows.cpu_ratio(two, one),
        note="the share by which a step is longer",
    )
