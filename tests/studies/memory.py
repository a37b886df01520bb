"""Memory and time an image of building and training, as the set grows.

    python -m tests.studies.memory [--sizes=1000,10000,100000] [--rounds=3]

The set holds drawn images of 64 pixels. Each cell of the table is a process of its own: its peak
resident memory, and its processor time an image, which other load on the machine disturbs less
than the clock. The time runs from the first image to the last for building, and from step 100 to
step 300 for training. Training goes over all sizes in turn, several rounds; the table has the
median time and the largest peak. Nothing is validated: the epochs of a small set end more often.
"""

import itertools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from tests.conftest import ROOT
from tests.studies import parse_arguments

_SIDE = 64  # Pixels.
_BATCH = 16
_TEST_IMAGES = 32
# Training is timed between these steps and stopped after the last.
_FIRST_STEP = 100
_LAST_STEP = 300
_STOPPED = 130  # Exit status of a run that was asked to stop.
_BEAM = "--beam_pipeline_options=runner=DirectRunner"
# Column of the table → value of --cache.
_CACHES = {"train, records": "none", "train, file": "disk"}

# The command `tfds build` with one line in a log for each image: the processor time so far.
_BUILD = """
import sys, time
from tensorflow_datasets.scripts.cli import main
from trainer.data import shards

examples = shards.examples
log = sys.argv.pop(1)

def timed(*arguments):
    for example in examples(*arguments):
        with open(log, "a") as file:
            file.write(f"{time.process_time()}\\n")
        yield example

shards.examples = timed
main.launch_cli()
"""

# (processor seconds an image, peak resident memory in MB)
Cost = tuple[float, float]


def draw(folder: Path, count: int) -> Path:
    """Writes a set of two classes in the layout of the Kaggle set.

    Args:
      folder: root of the set.
      count: number of training images.

    Returns:
      The folder.
    """
    rng = np.random.default_rng(0)
    noise = rng.normal(120, 30, (1024, 1024)).clip(0, 255).astype(np.uint8)
    for split, number in (("Train", count), ("Test", _TEST_IMAGES)):
        for label in ("covid", "non_covid"):
            class_folder = folder / split / label
            class_folder.mkdir(parents=True)
            # Squares cut out of one picture: faster than new noise for each.
            corners = rng.integers(0, 1024 - _SIDE, (number // 2, 2))
            progress = tqdm(corners, f"drawing {count}", leave=False, delay=2, disable=None)
            for index, (row, column) in enumerate(progress):
                square = noise[row : row + _SIDE, column : column + _SIDE]
                path = class_folder / f"{index:06d}.png"
                Image.fromarray(square).save(path, compress_level=1)
    return folder


def build(manual_dir: Path, data_dir: Path, *flags: str) -> Cost:
    """Builds a set in a process and measures it."""
    log = data_dir.with_suffix(".log")
    process = _start(
        "-c",
        _BUILD,
        str(log),
        "build",
        "datasets/covid_xray",
        f"--config=gray{_SIDE}",
        f"--manual_dir={manual_dir}",
        f"--data_dir={data_dir}",
        "--file_format=tfrecord",
        *flags,
    )
    peak = _peak_at_end(process, 0)
    times = [float(line) for line in log.read_text(encoding="utf-8").split()]
    # Without the start of TensorFlow, which does not grow with the set.
    return (max(times) - min(times)) / (len(times) - 1), peak


def train(data_dir: Path, cache: str, workdir: Path) -> Cost:
    """Trains 300 steps in a process and measures it.

    Args:
      data_dir: where the set is prepared.
      cache: value of --cache.
      workdir: a new one.
    """
    process = _start(
        "-m",
        "trainer.main",
        "--dataset=covid_xray",
        f"--data_dir={data_dir}",
        f"--workdir={workdir}",
        f"--prepared_side={_SIDE}",
        f"--image_size={_SIDE}",
        "--model=compact",
        f"--batch_size={_BATCH}",
        "--epochs=1000",
        "--nogroup_copies",
        f"--cache={cache}",
        "--validation_fraction=0",
        "--select=last",
    )
    log = workdir / "metrics.jsonl"
    first, last = (_seconds_at_step(process, log, step) for step in (_FIRST_STEP, _LAST_STEP))
    process.send_signal(signal.SIGTERM)  # The run saves a checkpoint and ends.
    seconds = (last - first) / (_LAST_STEP - _FIRST_STEP) / _BATCH
    return seconds, _peak_at_end(process, _STOPPED)


def measure(folder: Path, sizes: list[int], rounds: int) -> dict[str, dict[int, list[Cost]]]:
    """Builds sets of all sizes and trains on them.

    Args:
      folder: an empty one, for sets and runs.
      sizes: numbers of training images.
      rounds: how often training goes over all sizes.

    Returns:
      Column of the table → size → costs, one a process.
    """
    costs: dict[str, dict[int, list[Cost]]] = {"build": {}, "build by Beam": {}}
    for size in sizes:
        manual_dir = draw(folder / f"drawn{size}", size)
        costs["build"][size] = [build(manual_dir, folder / f"build{size}")]
        costs["build by Beam"][size] = [build(manual_dir, folder / f"beam{size}", _BEAM)]
        shutil.rmtree(manual_dir)  # 100,000 files: the prepared set replaces them.
    # Sizes take turns, so that a slow hour of the machine hits all of them.
    runs = list(itertools.product(range(rounds), _CACHES.items(), sizes))
    for number, (_, (column, cache), size) in enumerate(tqdm(runs, "training", disable=None)):
        cost = train(folder / f"build{size}", cache, folder / f"run{number}")
        costs.setdefault(column, {}).setdefault(size, []).append(cost)
    return costs


def main() -> None:
    """Prints one row a size."""
    args = parse_arguments(__doc__, sizes="1000,10000,100000", rounds=3)
    sizes = [int(size) for size in args.sizes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(Path(folder), sizes, args.rounds)
    print(f"{'images':>8}" + "".join(f"{column:>24}" for column in costs))
    for size in sizes:
        cells = [f"{_cell(by_size[size]):>24}" for by_size in costs.values()]
        print(f"{size:>8}" + "".join(cells))


def _start(*arguments: str) -> subprocess.Popen:
    """Starts `python ARGUMENTS` from the checkout's root; its output is dropped."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _peak_at_end(process: subprocess.Popen, expected: int) -> float:
    """Waits for the end with the exit status `expected`; returns the peak memory in MB.

    Raises:
      CalledProcessError: another status; run the command by itself to see why.
    """
    # Only wait4 gives the peak of one child.
    _, status, usage = os.wait4(process.pid, 0)
    # wait4 took the status away from the Popen object.
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != expected:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage.ru_maxrss / 1e3  # Linux counts in kB.


def _seconds_at_step(process: subprocess.Popen, log: Path, step: int) -> float:
    """Waits until `step` steps are logged; returns the processor seconds spent.

    Raises:
      CalledProcessError: the process has ended; run the command by itself to see why.
    """
    while not log.exists() or log.read_text(encoding="utf-8").count('"loss"') < step:
        if process.poll() is not None:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        time.sleep(0.02)
    return sum(psutil.Process(process.pid).cpu_times()[:2])  # User and system.


def _cell(costs: list[Cost]) -> str:
    seconds, peaks = zip(*costs, strict=True)
    return f"{max(peaks):.0f} MB {statistics.median(seconds) * 1e3:8.2f} ms"


if __name__ == "__main__":
    main()
