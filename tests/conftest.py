"""Shared fixtures: real radiographs where they are at hand, and a tiny set in the same layout."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def sample_dir() -> Path:
    """The sample of real radiographs beside the checkout."""
    folder = ROOT.parent / "shared" / "data" / "covid_xray_sample"
    if not folder.is_dir():
        pytest.skip(f"the sample of real radiographs is not at {folder}")
    return folder


def write_set(folder: Path, counts: dict[tuple[str, str], int], side: int = 48) -> Path:
    """Writes grey PNG squares of noise, covid brighter than non_covid, in the layout of the Kaggle set."""
    rng = np.random.default_rng(0)
    for (split, label), count in counts.items():
        place = folder / split / label
        place.mkdir(parents=True)
        for number in range(count):
            level = 150 if label == "covid" else 90
            pixels = np.clip(rng.normal(level, 25, (side, side + number % 3)), 0, 255).astype(
                np.uint8
            )
            Image.fromarray(pixels).save(place / f"{label}_{number:03d}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A set of 40 tiny images; every patient has two."""
    counts = {
        ("Train", "covid"): 14,
        ("Train", "non_covid"): 12,
        ("Test", "covid"): 6,
        ("Test", "non_covid"): 8,
    }
    folder = write_set(tmp_path_factory.mktemp("tiny") / "set", counts)
    rows = [
        f"{split}/{label}/{label}_{number:03d}.png,{split}-{label}-{number // 2},AP"
        for (split, label), count in counts.items()
        for number in range(count)
    ]
    (folder / "groups.csv").write_text("\n".join(["filename,patient,view", *rows]) + "\n")
    return folder


@pytest.fixture(scope="session")
def tiny_data_dir(tiny_folder, tmp_path_factory) -> Path:
    """A data_dir in which the tiny set is prepared."""
    from trainer.data import prepared

    data_dir = tmp_path_factory.mktemp("data")
    prepared.open_dataset("covid_xray", data_dir=str(data_dir), manual_dir=str(tiny_folder))
    return data_dir


def run_command(
    *arguments: str, timeout: float = 240, **environment: str
) -> subprocess.CompletedProcess:
    """Runs `python ARGUMENTS` from the checkout's root as a user would, and returns what came out."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )
