"""Packages the Kaggle COVID-19 chest X-ray set, or any set in its layout.

tfds build datasets/covid_xray --manual_dir=FOLDER_OR_ZIP
tfds build datasets/covid_xray --manual_dir=FOLDER --beam_pipeline_options=runner=DirectRunner
"""

import collections
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from trainer.data import archive, image_folder, kaggle, shards
from trainer.errors import UserError

KAGGLE_HANDLE = "akhilkasare/covid19-chest-xray-detection"
SIDES = (500, 256, 128, 64)  # The first is the default, the reference's.
SPLITS = {"train": "Train", "test": "Test"}
CLASSES = ("non_covid", "covid")  # Label order: covid, 1, is the positive class.
KAGGLE_COUNTS = {
    ("Train", "covid"): 250,
    ("Train", "non_covid"): 203,
    ("Test", "covid"): 100,
    ("Test", "non_covid"): 119,
}

EXPECTED_TREE = """the expected tree:
    FOLDER/Train/covid/*.png|jpg|dcm    FOLDER/Train/non_covid/*
    FOLDER/Test/covid/*                 FOLDER/Test/non_covid/*
    FOLDER/groups.csv (optional: filename,patient,…)"""

_ORIGINALS = 64  # Files a shard of `original`, which may take several megabytes each.


class Builder(tfds.core.ShardBasedBuilder):
    """The set as grey squares of 500, 256, 128 or 64 pixels (`gray500`, …) or as the files are (`original`)."""

    pkg_dir_path = epath.Path(
        __file__
    ).parent  # Also where the module was loaded by its path, outside a package.
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Give the folder or zip as --manual_dir, or nothing to download it; {EXPECTED_TREE}"
    )
    BUILDER_CONFIGS = [
        *(
            tfds.core.BuilderConfig(
                name=f"gray{side}", description=f"One channel, stretched to {side}x{side}, 8 bits."
            )
            for side in SIDES
        ),
        tfds.core.BuilderConfig(
            name="original", description="The file's bytes untouched; a DICOM as PNG, without tags."
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        side = _side_of(self.builder_config.name)
        picture = (
            {
                "image": tfds.features.Image(
                    shape=(side, side, 1), dtype=np.uint8, encoding_format="png"
                )
            }
            if side
            else {"file": tfds.features.Text()}
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    **picture,
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                    "filename": tfds.features.Text(),
                    "sha256": tfds.features.Text(),
                    "format": tfds.features.Text(),
                    "width": np.int32,
                    "height": np.int32,
                    "channels": np.int32,
                    "bit_depth": np.int32,
                    "byte_size": np.int64,
                    "group": tfds.features.Text(),
                    "columns": tfds.features.Text(),
                }
            ),
            supervised_keys=("image" if side else "file", "label"),
            homepage=f"https://www.kaggle.com/datasets/{KAGGLE_HANDLE}",
            metadata=tfds.core.MetadataDict(
                source_fingerprint="", synthetic=False, positive_class="covid"
            ),
        )

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        self._asked = download_config or tfds.download.DownloadConfig()
        if not (self._asked.beam_options or self._asked.beam_runner):
            super()._download_and_prepare(dl_manager, self._asked)
            return
        parts, side = self._parts(dl_manager), _side_of(self.builder_config.name)
        self.info.set_splits(
            tfds.core.splits.SplitDict(shards.write_by_beam(self, parts, side, self._asked))
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable]]:
        return shards.generators(self._parts(dl_manager), _side_of(self.builder_config.name))

    def _parts(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list[shards.Part]]:
        """The files of each shard of each split."""
        found = find_source(_manual_path(dl_manager), Path(dl_manager.download_dir))
        self.info.metadata["source_fingerprint"] = found.fingerprint
        for line in [counts_line(found), *found.remarks]:
            print(f"covid_xray: {line}", flush=True)
        length = shards.LENGTH if _side_of(self.builder_config.name) else _ORIGINALS
        return {
            split: shards.parts_of(found.splits[name], self._asked.num_shards, length)
            for split, name in SPLITS.items()
        }


def find_source(manual: Path | None, download_dir: Path) -> image_folder.ImageFolder:
    """Finds the radiographs: in the folder or zip given, else on Kaggle.

    Raises:
      UserError: nowhere; the message holds the expected tree and the next command.
    """
    if manual is not None and manual.is_file():
        manual = archive.unpack(manual, download_dir / "unpacked")
    if manual is None:
        try:
            manual = kaggle.download(KAGGLE_HANDLE)
        except UserError as error:
            raise UserError(
                f"{error} Download it by hand from kaggle.com/datasets/{KAGGLE_HANDLE} and add "
                f"--manual_dir=FOLDER_OR_ZIP; {EXPECTED_TREE}"
            ) from error
    return image_folder.find(manual, tuple(SPLITS.values()), CLASSES)


def counts_line(found: image_folder.ImageFolder) -> str:
    """The numbers found, beside the Kaggle set's where they differ."""
    counts = collections.Counter(
        (split, entry.label) for split, entries in found.splits.items() for entry in entries
    )
    shown = ", ".join(f"{split}/{label} {counts[split, label]}" for split, label in KAGGLE_COUNTS)
    if dict(counts) == KAGGLE_COUNTS:
        return f"{shown}: the Kaggle set's numbers"
    expected = ", ".join(str(count) for count in KAGGLE_COUNTS.values())
    return f"{shown}; the Kaggle set has {expected}, so this is another set or a part of it"


def _manual_path(dl_manager: tfds.download.DownloadManager) -> Path | None:
    """What the user gave, be it there or not; None where that is nothing.

    TFDS's own default place does not count: what lies there may belong to other sets.
    """
    try:
        manual = Path(dl_manager.manual_dir)
    except (
        AssertionError,
        NotADirectoryError,
    ):  # TFDS wants a folder with something in it, and this is none: ask inside.
        manual = Path(dl_manager._manual_dir)
    return None if manual == Path(dl_manager.download_dir) / "manual" else manual


def _side_of(config: str) -> int:
    """The side of the squares of a configuration; 0 for original."""
    return int(config.removeprefix("gray")) if config.startswith("gray") else 0
