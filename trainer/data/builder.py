"""The TFDS builder of radiographs in files, the base of every set that is read from a folder.

    class Builder(RadiographBuilder):
        pkg_dir_path = epath.Path(__file__).parent
        KAGGLE_HANDLE = "owner/name"
        CLASSES = ("normal", "tuberculosis")

A module in datasets/ also binds find_source and builder_config, see `trainer.data.prepared`.
"""

import dataclasses
import functools
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from trainer import compat
from trainer.config import TrainConfig
from trainer.data import any_source, kaggle, shards, views
from trainer.data.image_folder import ImageFolder
from trainer.errors import UserError

SIDES = (500, 256, 128, 64)
"""Side lengths of prepared squares in pixels; the first is the default, the reference's."""

_ORIGINALS_PER_SHARD = 64  # Files of `original` may take several megabytes each.
_OF_FILES = "One folder's files."
_KEY_LENGTH = 10  # Letters of the fingerprint in the name of a configuration.

compat.require_prepare_hook(tfds.core.ShardBasedBuilder)


@dataclasses.dataclass
class RadiographConfig(tfds.core.BuilderConfig):
    """A configuration of the builder.

    Attributes:
      settings: how the files are read, as `TrainConfig` has it.
    """

    settings: TrainConfig = dataclasses.field(default_factory=TrainConfig)


class RadiographBuilder(
    tfds.core.ShardBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """Chest radiographs as grey squares or as the original files.

    Configurations by the side of the squares in pixels: gray500 to gray64 of whole radiographs,
    lungs500 to lungs64 cut at the lungs; and original. A name may go on after an underscore.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Give the folder or zip as --manual_dir."
    BUILDER_CONFIGS: ClassVar[list[RadiographConfig]] = [
        *(
            RadiographConfig(
                name=f"gray{side}", description=f"One channel, stretched to {side}x{side}, 8 bits."
            )
            for side in SIDES
        ),
        *(
            RadiographConfig(
                name=f"lungs{side}", description=f"The lungs alone, stretched to {side}x{side}."
            )
            for side in SIDES
        ),
        RadiographConfig(
            name="original", description="The file's bytes untouched; a DICOM as PNG, without tags."
        ),
    ]
    skip_unreadable = False  # Whether a preparation leaves out the files that cannot be read.
    KAGGLE_HANDLE = ""  # OWNER/NAME
    EXPECTED_TREE = ""
    CLASSES: ClassVar[tuple[str, ...] | None] = None  # In label order; None: those of the files.
    SEVERAL_FINDINGS: ClassVar[bool] = False  # Whether CLASSES are findings an image may share.

    @classmethod
    def find_source(
        cls, manual_dir: Path | None, download_dir: Path, config: TrainConfig
    ) -> ImageFolder:
        """Finds the files, in any layout; downloads them from Kaggle where no folder is given.

        Args:
          manual_dir: a folder or a zip; None to download the set.
          download_dir: the folder of downloads and unpacked archives.
          config: how the files are read.

        Raises:
          UserError: no source, or not the classes of this set.
        """
        folder = kaggle.locate(manual_dir, download_dir, cls.KAGGLE_HANDLE, cls.EXPECTED_TREE)
        return any_source.find(
            folder, download_dir, config, cls.CLASSES or (), cls.SEVERAL_FINDINGS
        )

    @property
    def _side(self) -> int:
        # Side length of the squares in pixels; 0 for the original files.
        square = self.builder_config.name.partition("_")[0]
        return int(square.lstrip(string.ascii_lowercase) or 0)

    @property
    def _view(self) -> str:
        return views.LUNGS if self.builder_config.name.startswith("lungs") else views.WHOLE

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict = {"file": tfds.features.Text()}
        if self._side:
            features = shards.pictures(self._side, self._view)
        several = self.SEVERAL_FINDINGS or self.CLASSES is None
        labels = shards.describe_file(self.CLASSES, several)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({**features, **labels}),
            supervised_keys=(next(iter(features)), "label"),
            homepage=f"https://www.kaggle.com/datasets/{self.KAGGLE_HANDLE}"
            if self.KAGGLE_HANDLE
            else None,
            metadata=tfds.core.MetadataDict(
                source_fingerprint="",
                synthetic=False,
                positive_class=None,
                multi_label=False,
                view=views.describe(self._view),
                unreadable={},  # Filename → reason.
            ),
        )

    def download_and_prepare(self, **settings: Any) -> None:
        """Prepares the set; one that is prepared from other files is an error, not reused.

        Raises:
          UserError: the folder of this configuration holds other files' records.
        """
        given = settings.get("download_config")
        if self.is_prepared() and given is not None and given.manual_dir:
            downloads = settings.get("download_dir") or Path(self._data_dir_root) / "downloads"
            source = self.find_source(
                Path(given.manual_dir), Path(downloads), self.builder_config.settings
            )
            if source.fingerprint != self.info.metadata["source_fingerprint"]:
                raise UserError(
                    f"{self.data_path} was prepared from other files than those in "
                    f"{given.manual_dir}; give another --data_dir."
                )
        super().download_and_prepare(**settings)

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        self._settings = download_config or tfds.download.DownloadConfig()
        self._unreadable: dict[str, str] | None = {} if self.skip_unreadable else None
        # TFDS's own way ignores Beam's options, see `shards.write_by_beam`.
        if not (self._settings.beam_options or self._settings.beam_runner):
            super()._download_and_prepare(dl_manager, self._settings)
            self._record_unreadable()
            return
        infos = shards.write_by_beam(
            self, self._find_shards(dl_manager), self._side, self._view, self._settings
        )
        self.info.set_splits(tfds.core.splits.SplitDict(infos))

    def _record_unreadable(self) -> None:
        if not self._unreadable:
            return
        self.info.metadata["unreadable"] = self._unreadable
        remark = f"{len(self._unreadable)} files could not be read and are left out"
        print(f"{self.name}: {remark}: {next(iter(self._unreadable.values()))}", flush=True)
        any_source.check_splits(self._source.without(self._unreadable))

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable]]:
        return {
            split: [
                functools.partial(shards.examples, shard, self._side, self._view, self._unreadable)
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
        source = self.find_source(
            None if manual_dir == default else manual_dir,
            download_dir,
            self.builder_config.settings,
        )
        self._source = source
        # Known only now: `_info` runs before the files are found.
        self.info.metadata["source_fingerprint"] = source.fingerprint
        self.info.metadata["positive_class"] = source.positive_class
        self.info.metadata["multi_label"] = source.multi_label
        self.info.features["label"].names = list(source.class_names)
        for line in [source.summary, *source.remarks]:
            print(f"{self.name}: {line}", flush=True)
        length = shards.SHARD_LENGTH if self._side else _ORIGINALS_PER_SHARD
        return {
            split: shards.split_into_shards(entries, self._settings.num_shards, length)
            for split, entries in source.splits.items()
        }


def named_config(
    config: TrainConfig, source: ImageFolder | None, _: Path
) -> str | RadiographConfig:
    """Chooses the configuration of a set of one name.

    Its name is plain, unless settings change how the files are read.

    Args:
      config: of the run.
      source: the files; None where no folder is given.

    Raises:
      UserError: a setting says how the files are read, and no folder is given.
    """
    name = config_name(config)
    if source is None:
        _check_unread(config)
        return name
    if any_source.given_flags(config) or config.test_fraction != TrainConfig.test_fraction:
        return _config_of_files(name, config, source)
    return name


def config_name(config: TrainConfig, *_: object) -> str:
    """Returns the name of a run's configuration, for a set of one name."""
    kind = "lungs" if config.view == views.LUNGS else "gray"
    return f"{kind}{config.prepared_side}"


def choose_config(
    builder_class: type[RadiographBuilder],
    config: TrainConfig,
    source: ImageFolder | None,
    data_dir: Path,
) -> RadiographConfig:
    """Chooses the configuration of a set whose files decide its classes.

    Sets of different folders have different names, so that they share a data_dir.

    Args:
      builder_class: of the set.
      config: of the run.
      source: the files; None where no folder is given.
      data_dir: folder of prepared sets.

    Raises:
      UserError: no folder is given, and none or several sets are prepared.
    """
    name = config_name(config)
    if source is not None:
        return _config_of_files(name, config, source)
    _check_unread(config)
    folder = data_dir / builder_class.name
    prepared = sorted(path.name for path in folder.glob(f"{name}*") if path.is_dir())
    if len(prepared) != 1:
        several = f"several sets are prepared ({', '.join(prepared)})"
        raise UserError(
            f"{several if prepared else 'no set is prepared'} in {folder}; give the one to use as "
            "--manual_dir=FOLDER_OR_ZIP."
        )
    return RadiographConfig(name=prepared[0], description=_OF_FILES, settings=config)


def _config_of_files(name: str, config: TrainConfig, source: ImageFolder) -> RadiographConfig:
    key = source.fingerprint[:_KEY_LENGTH]
    return RadiographConfig(name=f"{name}_{key}", description=_OF_FILES, settings=config)


def _check_unread(config: TrainConfig) -> None:
    given = any_source.given_flags(config)
    if given:
        raise UserError(
            f"{given[0]} says how files are read; give them, too, as --manual_dir=FOLDER_OR_ZIP."
        )
