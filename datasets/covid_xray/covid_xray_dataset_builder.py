"""The Kaggle COVID-19 chest X-ray set, or any set in its layout.

tfds build datasets/covid_xray --manual_dir=FOLDER_OR_ZIP
tfds build datasets/covid_xray --manual_dir=FOLDER --beam_pipeline_options=runner=DirectRunner
"""

import collections
import functools
import string
from collections.abc import Callable
from pathlib import Path

import tensorflow_datasets as tfds
from etils import epath

from trainer import compat
from trainer.config import TrainConfig
from trainer.data import archive, image_folder, kaggle, shards, views
from trainer.errors import UserError

KAGGLE_HANDLE = "akhilkasare/covid19-chest-xray-detection"
ORIGIN = "Kaggle"
SIDES = (500, 256, 128, 64)  # The first is the default, the reference's.
SPLITS = {"train": "Train", "test": "Test"}
CLASSES = ("non_covid", "covid")  # In label order.
POSITIVE_CLASS = "covid"
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

_ORIGINALS_PER_SHARD = 64  # Files of `original` may take several megabytes each.

compat.require_prepare_hook(tfds.core.ShardBasedBuilder)


class Builder(tfds.core.ShardBasedBuilder):
    """Chest radiographs of two classes, as grey squares or as the original files.

    Configurations by the side of the squares in pixels: gray500 to gray64 of whole radiographs,
    lungs500 to lungs64 cut at the lungs; and original.
    """

    # Explicit: TFDS cannot derive it from a module that was loaded by its path.
    pkg_dir_path = epath.Path(__file__).parent
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
        *(
            tfds.core.BuilderConfig(
                name=f"lungs{side}", description=f"The lungs alone, stretched to {side}x{side}."
            )
            for side in SIDES
        ),
        tfds.core.BuilderConfig(
            name="original", description="The file's bytes untouched; a DICOM as PNG, without tags."
        ),
    ]

    @property
    def _side(self) -> int:
        # Side length of the squares in pixels; 0 for the original files.
        return int(self.builder_config.name.lstrip(string.ascii_lowercase) or 0)

    @property
    def _view(self) -> str:
        return views.LUNGS if self.builder_config.name.startswith("lungs") else views.WHOLE

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict = {"file": tfds.features.Text()}
        if self._side:
            features = shards.pictures(self._side, self._view)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({**features, **shards.describe_file(CLASSES)}),
            supervised_keys=(next(iter(features)), "label"),
            homepage=f"https://www.kaggle.com/datasets/{KAGGLE_HANDLE}",
            metadata=tfds.core.MetadataDict(
                source_fingerprint="",
                synthetic=False,
                positive_class=POSITIVE_CLASS,
                view=views.describe(self._view),
            ),
        )

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        self._settings = download_config or tfds.download.DownloadConfig()
        # TFDS's own way ignores Beam's options, see `shards.write_by_beam`.
        if not (self._settings.beam_options or self._settings.beam_runner):
            super()._download_and_prepare(dl_manager, self._settings)
            return
        infos = shards.write_by_beam(
            self, self._find_shards(dl_manager), self._side, self._view, self._settings
        )
        self.info.set_splits(tfds.core.splits.SplitDict(infos))

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable]]:
        return {
            split: [
                functools.partial(shards.examples, shard, self._side, self._view)
                for shard in split_shards
            ]
            for split, split_shards in self._find_shards(dl_manager).items()
        }

    def _find_shards(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[shards.Shard]]:
        download_dir = Path(dl_manager.download_dir)
        default = download_dir / "manual"
        try:
            manual_dir = Path(dl_manager.manual_dir)
        except (AssertionError, NotADirectoryError):
            # TFDS accepts only a folder with files in it; `find_source` takes a zip too, and has a
            # message for the rest.
            manual_dir = Path(self._settings.manual_dir or default).expanduser()
        # TFDS's own default folder may belong to other sets.
        source = find_source(None if manual_dir == default else manual_dir, download_dir)
        # Known only now: `_info` runs before the files are found.
        self.info.metadata["source_fingerprint"] = source.fingerprint
        for line in [counts_line(source), *source.remarks]:
            print(f"covid_xray: {line}", flush=True)
        length = shards.SHARD_LENGTH if self._side else _ORIGINALS_PER_SHARD
        return {
            split: shards.split_into_shards(source.splits[name], self._settings.num_shards, length)
            for split, name in SPLITS.items()
        }


def builder_config(config: TrainConfig) -> str:
    """Returns the name of the builder's configuration for a run."""
    kind = "lungs" if config.view == views.LUNGS else "gray"
    return f"{kind}{config.prepared_side}"


def find_source(manual_dir: Path | None, download_dir: Path) -> image_folder.ImageFolder:
    """Finds the radiographs: in the given folder or zip, else on Kaggle.

    Args:
      manual_dir: a folder or a zip; None to download the set.
      download_dir: the folder of downloads and unpacked archives.

    Raises:
      UserError: no source; the message contains the expected tree and the next command.
    """
    if manual_dir is not None and manual_dir.is_file():
        manual_dir = archive.unpack(manual_dir, download_dir / "unpacked")
    if manual_dir is None:
        try:
            manual_dir = kaggle.download(KAGGLE_HANDLE)
        except UserError as error:
            raise UserError(
                f"{error} Download it by hand from kaggle.com/datasets/{KAGGLE_HANDLE} and add "
                f"--manual_dir=FOLDER_OR_ZIP; {EXPECTED_TREE}"
            ) from error
    return image_folder.find(manual_dir, tuple(SPLITS.values()), CLASSES)


def counts_line(source: image_folder.ImageFolder) -> str:
    """Returns the numbers of images, beside the Kaggle set's where they differ."""
    counts = collections.Counter(
        (split, entry.label) for split, entries in source.splits.items() for entry in entries
    )
    line = ", ".join(f"{split}/{label} {counts[split, label]}" for split, label in KAGGLE_COUNTS)
    if dict(counts) == KAGGLE_COUNTS:
        return f"{line}: the Kaggle set's numbers"
    expected = ", ".join(str(count) for count in KAGGLE_COUNTS.values())
    return f"{line}; the Kaggle set has {expected}, so this is another set or a part of it"
