"""Shared fixtures and helpers: real radiographs, a tiny generated data set, a command runner.

write_set(folder, TINY_COUNTS)                    # writes 40 PNG files
run_command("-m", "trainer.audit", "--help")      # runs python from the checkout
"""

import json
import os

# TensorFlow reads both variables while it is imported, so they come before other imports.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from trainer.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]

# (split, class) → number of images.
TINY_COUNTS = {
    ("Train", "covid"): 14,
    ("Train", "non_covid"): 12,
    ("Test", "covid"): 6,
    ("Test", "non_covid"): 8,
}

# The same examples in every run, and no time limit: the machine may be busy.
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("steady")


# For `python -c`: the process kills itself after as many files as the variable READS says.
KILL_AFTER_READS = """
import os, signal
from trainer.data import radiograph

calls = []
read = radiograph.read

def read_and_kill(*arguments, **options):
    calls.append(1)
    if len(calls) > int(os.environ["READS"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return read(*arguments, **options)

radiograph.read = read_and_kill
"""


@pytest.fixture(scope="session")
def sample_dir() -> Path:
    """The sample of real radiographs beside the checkout."""
    folder = ROOT.parent / "shared" / "data" / "covid_xray_sample"
    if not folder.is_dir():
        pytest.skip(f"the sample of real radiographs is not at {folder}")
    return folder


def write_set(folder: Path, counts: dict[tuple[str, str], int], side: int = 48) -> Path:
    """Writes grey PNG images of noise in the layout of the Kaggle set.

    Args:
      folder: root of the set; images of class covid are brighter than the others.
      counts: (split, class) → number of images.
      side: height in pixels; the width is up to two pixels more.

    Returns:
      The folder.
    """
    rng = np.random.default_rng(0)
    for (split, label), count in counts.items():
        class_folder = folder / split / label
        class_folder.mkdir(parents=True)
        level = 150 if label == "covid" else 90
        for number in range(count):
            # Widths differ, so that the reader has to pad.
            noise = rng.normal(level, 25, (side, side + number % 3))
            pixels = np.clip(noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(class_folder / f"{label}_{number:03d}.png")
    return folder


def prepare(manual_dir: Path, data_dir: Path) -> Path:
    """Prepares a set in the layout of the Kaggle set; returns data_dir."""
    from trainer.data import prepared  # Imported lazily: TensorFlow takes seconds.

    prepared.open_from_config(
        TrainConfig(dataset="covid_xray", data_dir=str(data_dir), manual_dir=str(manual_dir))
    )
    return data_dir


def build_shards(folder: Path, shards: int) -> Any:
    """Prepares folder/set at 64 pixels in folder/data; returns the TFDS builder.

    Args:
      folder: holds the images in set/.
      shards: number of record files a split.
    """
    import tensorflow_datasets as tfds  # Imported lazily: TensorFlow takes seconds.

    from trainer.data import prepared

    module = prepared.load_builder_module("covid_xray")
    builder = module.Builder(data_dir=str(folder / "data"), config="gray64")
    options = tfds.download.DownloadConfig(manual_dir=str(folder / "set"), num_shards=shards)
    builder.download_and_prepare(
        download_dir=str(folder), file_format="tfrecord", download_config=options
    )
    return builder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 40 tiny images; every patient has two."""
    folder = write_set(tmp_path_factory.mktemp("tiny") / "set", TINY_COUNTS)
    rows = [
        f"{split}/{label}/{label}_{number:03d}.png,{split}-{label}-{number // 2},AP"
        for (split, label), count in TINY_COUNTS.items()
        for number in range(count)
    ]
    (folder / "groups.csv").write_text(
        "\n".join(["filename,patient,view", *rows]) + "\n", encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="session")
def tiny_data_dir(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir in which the tiny set is prepared."""
    return prepare(tiny_folder, tmp_path_factory.mktemp("data"))


def read_log(workdir: Path) -> list[dict[str, Any]]:
    """Reads the lines of metrics.jsonl; lines of an epoch have the key `epoch`."""
    return [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def run_command(
    *arguments: str, timeout: float = 240, **environment: str
) -> subprocess.CompletedProcess:
    """Runs `python ARGUMENTS` from the checkout's root as a user would.

    Args:
      *arguments: of the interpreter.
      timeout: seconds.
      **environment: variables added to those of this process.

    Returns:
      The ended process with stdout and stderr as text.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )
