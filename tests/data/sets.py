"""Small data sets for tests of builders.

data = open_set(data_dir, manual_dir=write_set(folder, COUNTS))
rows = read_rows(data.builder)
"""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.data.prepared import PreparedDataset

# (split, class) → number of images.
COUNTS = {
    ("Train", "covid"): 3,
    ("Train", "non_covid"): 2,
    ("Test", "covid"): 2,
    ("Test", "non_covid"): 2,
}


def fault(name: str) -> Path:
    """Returns a small faulty input beside the checkout; skips the test without it."""
    path = ROOT.parent / "shared" / "data" / "faults" / name
    if not path.exists():
        pytest.skip(f"the faulty input is not at {path}")
    return path


def open_set(
    data_dir: Path,
    dataset: str = "covid_xray",
    manual_dir: Path | str | None = None,
    **fields: Any,
) -> PreparedDataset:
    """Opens a set as a run with these settings would."""
    config = TrainConfig(
        dataset=dataset,
        data_dir=str(data_dir),
        manual_dir=str(manual_dir) if manual_dir else None,
        **fields,
    )
    return prepared.open_from_config(config)


def read_rows(builder: Any, splits: tuple[str, ...] = ("train", "test")) -> dict[str, dict]:
    """Returns filename → example."""
    return {
        row["filename"].decode(): row
        for split in splits
        for row in builder.as_dataset(split).as_numpy_iterator()
    }


def build_originals(folder: Path, data_dir: Path) -> Any:
    """Builds covid_xray in the configuration that keeps the files' bytes."""
    import tensorflow_datasets as tfds

    module = prepared.load_builder_module("covid_xray")
    builder = module.Builder(data_dir=str(data_dir), config="original")
    settings = tfds.download.DownloadConfig(manual_dir=str(folder), try_download_gcs=False)
    builder.download_and_prepare(
        download_dir=str(data_dir / "downloads"),
        download_config=settings,
        file_format="tfrecord",
    )
    return builder
