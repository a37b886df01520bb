"""Measures whether memory and cost an image stay the same while a set grows: of building, plain and by Beam, and of training.

python -m tests.studies.memory [--sizes=1000,10000,100000] [--rounds=3]

Images of 64 pixels, drawn here. Each cell is a process of its own: its peak resident memory, as the system tells it at the end,
and processor time an image, which other work on the machine disturbs less than the clock. It is taken from the first image to
the last for building, from the 100th step to the last, the 300th, for training. Training takes turns over all sizes: the
median of the rounds stands, and the largest peak. It validates nothing: the epochs of a small set end more often.
"""

import argparse
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

_SIDE, _BATCH, _TESTS = 64, 16, 32
_FIRST, _LAST = 100, 300  # Steps between which training is timed; it is stopped after the last.
_BEAM = "--beam_pipeline_options=runner=DirectRunner"
_BUILD = """
import sys, time
from tensorflow_datasets.scripts.cli import main
from trainer import shards

examples, log = shards.examples, sys.argv.pop(1)

def timed(part, side):
    for example in examples(part, side):
        with open(log, "a") as file:
            file.write(f"{time.process_time()}\\n")
        yield example

shards.examples = timed
main.launch_cli()
"""


def draw(folder: Path, count: int) -> Path:
    """Writes `count` training images and a few test images, two classes, in the layout of the Kaggle set."""
    rng = np.random.default_rng(0)
    noise = rng.normal(120, 30, (1024, 1024)).clip(0, 255).astype(np.uint8)
    for split, number in (("Train", count), ("Test", _TESTS)):
        for label in ("covid", "non_covid"):
            place = folder / split / label
            place.mkdir(parents=True)
            corners = rng.integers(0, 1024 - _SIDE, (number // 2, 2))
            for index, (row, column) in enumerate(
                tqdm(corners, f"drawing {count}", leave=False, delay=2, disable=None)
            ):
                square = noise[row : row + _SIDE, column : column + _SIDE]
                Image.fromarray(square).save(place / f"{index:06d}.png", compress_level=1)
    return folder


def build(manual: Path, data_dir: Path, *more: str) -> tuple[float, float]:
    """Builds a set in a process of its own: (processor seconds an image, peak resident memory in MB)."""
    log = data_dir.with_suffix(".log")
    command = [
        sys.executable,
        "-c",
        _BUILD,
        str(log),
        "build",
        "datasets/covid_xray",
        f"--config=gray{_SIDE}",
        f"--manual_dir={manual}",
        f"--data_dir={data_dir}",
        "--file_format=tfrecord",
        *more,
    ]
    peak = _ended(_started(command), 0)
    times = [float(line) for line in log.read_text().split()]
    return (max(times) - min(times)) / (len(times) - 1), peak


def train(data_dir: Path, cache: str, workdir: Path) -> tuple[float, float]:
    """Trains 300 steps in a process of its own: (processor seconds an image, peak resident memory in MB)."""
    command = [
        sys.executable,
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
    ]
    process = _started(command)
    first, last = (_reached(process, workdir / "metrics.jsonl", step) for step in (_FIRST, _LAST))
    process.send_signal(signal.SIGTERM)
    return (last - first) / (_LAST - _FIRST) / _BATCH, _ended(process, 130)


def _started(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )


def _ended(process: subprocess.Popen, expected: int) -> float:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != expected:
        raise RuntimeError(
            f"{' '.join(process.args)} ended with {process.returncode}; run it by itself to see "
            "why."
        )
    return usage.ru_maxrss / 1e3


def _reached(process: subprocess.Popen, log: Path, step: int) -> float:
    while not log.exists() or log.read_text().count('"loss"') < step:
        if process.poll() is not None:
            raise RuntimeError(
                f"{' '.join(process.args)} ended before step {step}; run it by itself to see why."
            )
        time.sleep(0.02)
    spent = psutil.Process(process.pid).cpu_times()
    return spent.user + spent.system


def _cell(taken: list[tuple[float, float]]) -> str:
    seconds, peaks = zip(*taken, strict=True)
    return f"{max(peaks):.0f} MB {statistics.median(seconds) * 1e3:8.2f} ms"


def main() -> None:
    """Prints one row a size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=3)
    settings = parser.parse_args()
    sizes = [int(size) for size in settings.sizes.split(",")]
    taken: dict[tuple[int, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for size in sizes:
            manual = draw(folder / f"drawn{size}", size)
            for way, more in (("build", ()), ("build by Beam", (_BEAM,))):
                taken[size, way] = [build(manual, folder / f"{way}{size}", *more)]
            shutil.rmtree(manual)
        runs = [
            (size, way, cache)
            for way, cache in (("train, records", "none"), ("train, file", "disk"))
            for size in sizes
        ]
        for turn, (size, way, cache) in enumerate(
            tqdm(runs * settings.rounds, "training", disable=None)
        ):
            taken.setdefault((size, way), []).append(
                train(folder / f"build{size}", cache, folder / f"run{turn}")
            )
    ways = list(dict.fromkeys(way for _, way in taken))
    print(f"{'images':>8}" + "".join(f"{way:>24}" for way in ways))
    for size in sizes:
        print(f"{size:>8}" + "".join(f"{_cell(taken[size, way]):>24}" for way in ways))


if __name__ == "__main__":
    main()
