"""Data sets: found by name, prepared where needed, opened.

    data = prepared.open_from_config(TrainConfig(dataset="phantom"))
    data.builder.as_dataset("train")

A folder datasets/NAME with a module NAME_dataset_builder.py is a data set. The module declares:

    Builder         the TFDS builder, with splits train and test. Its features are those of
                    `trainer.data.shards`: pictures and describe_file; its metadata has
                    source_fingerprint, synthetic, positive_class and view, and multi_label where
                    an image may have several findings.
    builder_config  function: (TrainConfig, ImageFolder or None, data_dir) → the configuration of
                    Builder; the folder is that of --manual_dir.
    describe        function: TrainConfig → one sentence; for sets that are drawn.
    find_source     function: (manual_dir or None, download_dir, TrainConfig) → ImageFolder; for
                    sets read from files. Such a module also has EXPECTED_TREE, a description of the
                    files, and ORIGIN, their source without --manual_dir.

Builders are loaded by file path. So `import datasets` stays free for pip's package of that name.
"""

import contextlib
import dataclasses
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer.config import TrainConfig
from trainer.data import any_source, views
from trainer.data.image_folder import ImageFolder
from trainer.data.tables import TableError
from trainer.errors import UserError

_FOLDER = Path(__file__).resolve().parents[2] / "datasets"

# The sets behind --dataset=auto.
_REAL = "covid_xray"
_ANY = "radiographs"
_SYNTHETIC = "phantom"


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A prepared data set.

    Attributes:
      name: the folder's name in datasets/.
      builder: the prepared tfds.core.DatasetBuilder, with splits train and test.
      synthetic: whether its images are drawn.
      class_names: classes, or findings, in label order.
      positive_class: the class that sensitivity refers to, for sets of two classes.
      multi_label: whether an image may have several findings.
      fingerprint: its identity: name, config, version, source_fingerprint, synthetic, images a
        split.
      reason: one line: the set and why it was chosen.
      data_dir: the folder of prepared sets, and of the ledger of test scorings.
      unreadable: one line for each file that was left out because it cannot be read.
    """

    name: str
    builder: Any
    synthetic: bool
    class_names: tuple[str, ...]
    positive_class: str | None
    multi_label: bool
    fingerprint: dict[str, Any]
    reason: str
    data_dir: Path
    unreadable: tuple[str, ...]

    @property
    def side(self) -> int:
        """Side length of the prepared images, in pixels."""
        return self.builder.info.features["image"].shape[0]

    @property
    def view(self) -> str:
        """The view of the prepared images: whole or lungs."""
        return _view(self.builder)["name"]


def open_from_config(config: TrainConfig, recorded: str | None = None) -> PreparedDataset:
    """Opens the data set of a configuration, preparing it first where needed.

    `auto` is the set of --manual_dir: covid_xray where its folders are called so, else radiographs.
    Without --manual_dir it is covid_xray where that is prepared or downloadable, else phantom.

    Args:
      config: its settings of data count.
      recorded: name of the builder's configuration that a finished run was trained on; then the
        files are not read again.

    Raises:
      UserError: no data, damaged data, a data_dir that cannot be written, or a prepared set made
        from other files.
    """
    if recorded is None:
        _check_reading(config)
    name = _resolve_name(config)
    if name != "auto":
        return _open(name, config, recorded)
    try:
        return _open(_REAL, config)
    except UserError as error:
        # The rest of the message is advice for those who asked for the real set.
        cause = str(error).split(" Download it by hand")[0]
    reason = (
        f"Data: {_SYNTHETIC}, SYNTHETIC radiographs, drawn because no real ones were found "
        f"({cause}) For real ones add --manual_dir=FOLDER_OR_ZIP (see datasets/{_REAL}/README.md)."
    )
    print(f"\n*** SYNTHETIC DATA ***\n{reason}\n", file=sys.stderr, flush=True)
    return dataclasses.replace(_open(_SYNTHETIC, config), reason=reason)


def find_source(config: TrainConfig) -> ImageFolder:
    """Finds the files of --manual_dir, without preparing a set.

    Args:
      config: its settings of data count.

    Raises:
      UserError: the files are missing or incomplete, or the data set is drawn.
    """
    _check_reading(config)
    name = _resolve_name(config)
    if name == "auto":
        name = _REAL
    module = load_builder_module(name)
    downloads = data_folder(config.data_dir) / "downloads"
    manual_dir = _check_manual_dir(name, module, config.manual_dir)
    return module.find_source(manual_dir, downloads, config)


def _check_reading(config: TrainConfig) -> None:
    """Checks that settings on how a folder is read are not given in vain.

    Raises:
      UserError: they are; the message names the first one, and the fix.
    """
    given = any_source.given_flags(config)
    if given and config.dataset in (_REAL, _SYNTHETIC):
        raise UserError(
            f"{given[0]} does not go with --dataset={config.dataset}, which is read in one way; "
            f"use --dataset={_ANY}."
        )
    if given and config.dataset == "auto" and not config.manual_dir:
        raise UserError(
            f"{given[0]} says how a folder is read; give it, too, as --manual_dir=FOLDER_OR_ZIP."
        )


def _resolve_name(config: TrainConfig) -> str:
    """Returns the name of the set; auto only where no folder is given."""
    if config.dataset != "auto" or not config.manual_dir:
        return config.dataset
    if any_source.given_flags(config):
        return _ANY  # The layout of the Kaggle set leaves nothing to name.
    module = load_builder_module(_REAL)
    manual_dir = _check_manual_dir(_ANY, module, config.manual_dir)
    try:
        module.find_source(manual_dir, data_folder(config.data_dir) / "downloads", config)
    except TableError:
        raise  # In another layout a table beside the folder would not be read.
    except UserError:
        return _ANY
    return _REAL


def data_folder(data_dir: str | None) -> Path:
    """Returns the folder of prepared sets, for a setting of --data_dir.

    Args:
      data_dir: the setting; None for $TFDS_DATA_DIR, else ~/tensorflow_datasets, as in TFDS itself.
    """
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


@contextlib.contextmanager
def convert_read_errors(builder: Any, split: str) -> Iterator[None]:
    """Converts TensorFlow's read errors into a UserError that names the set.

    Args:
      builder: the builder whose records are read.
      split: train or test.

    Raises:
      UserError: a record is damaged or missing; the message says how to prepare the set again.
    """
    try:
        yield
    except Exception as error:
        # By name: TensorFlow may not be loaded here.
        if type(error).__name__ not in ("DataLossError", "NotFoundError"):
            raise
        # TensorFlow names the node before the cause, and the operation behind it.
        cause = str(error).splitlines()[0].split("}} ")[-1].split(" [")[0]
        raise UserError(
            f"the records of {split} in {builder.data_path} are damaged ({cause}); remove that "
            "folder and give the same command with --manual_dir again: the set is prepared anew, a "
            "run goes on."
        ) from error


def load_builder_module(name: str) -> ModuleType:
    """Loads datasets/NAME/NAME_dataset_builder.py by its path, once.

    Raises:
      UserError: the file is missing.
    """
    module_name = f"{name}_dataset_builder"
    if module_name in sys.modules:
        return sys.modules[module_name]
    path = _FOLDER / name / f"{module_name}.py"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if not path.exists() or spec is None or spec.loader is None:
        raise UserError(f"{path} is missing; install from a checkout with 'pip install -e .'.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # Before it runs: dataclasses look their module up there.
    spec.loader.exec_module(module)
    return module


def _open(name: str, config: TrainConfig, recorded: str | None = None) -> PreparedDataset:
    module = load_builder_module(name)
    # The files of a finished run need not be there any more.
    manual_dir = None if recorded else _check_manual_dir(name, module, config.manual_dir)
    data_dir = data_folder(config.data_dir)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        source = None
        if manual_dir:
            source = module.find_source(manual_dir, data_dir / "downloads", config)
        builder_config = _recorded_config(module, config, recorded)
        if builder_config is None:
            builder_config = module.builder_config(config, source, data_dir)
        builder = module.Builder(data_dir=str(data_dir), config=builder_config)
    except OSError as error:
        raise UserError(
            f"cannot use {data_dir} ({error.strerror or error}); give a --data_dir you can write "
            "to."
        ) from error
    was_prepared = builder.is_prepared()
    if not was_prepared:
        manual_dir = _check_manual_dir(name, module, config.manual_dir)
        builder.skip_unreadable = config.skip_unreadable
        _prepare(builder, data_dir, manual_dir)
    elif source and builder.info.metadata["source_fingerprint"] != source.fingerprint:
        raise UserError(
            f"{builder.data_path} was prepared from other files than those in {manual_dir}; "
            "remove it to prepare anew, give another --data_dir, or leave --manual_dir out to "
            "use what is prepared."
        )
    _check_segmenter(builder)
    if not hasattr(module, "find_source"):
        description = module.describe(config)
    elif was_prepared:
        description = f"prepared in {builder.data_path}."
        if source:
            description += f" {source.summary}"
    else:
        description = f"prepared now from {manual_dir or module.ORIGIN} in {builder.data_path}."
    left_out = len(_unreadable(builder))
    if left_out:
        description += f" {left_out} files that could not be read are left out."
    return _describe(builder, data_dir, f"Data: {name}, {description}")


def _recorded_config(module: ModuleType, config: TrainConfig, recorded: str | None) -> Any:
    # Of a drawn set the run's own settings say more than the name.
    if recorded is None or not hasattr(module, "find_source"):
        return None
    builtin = module.Builder.builder_configs
    if recorded in builtin:
        return recorded
    return dataclasses.replace(next(iter(builtin.values())), name=recorded, settings=config)


def _view(builder: Any) -> dict[str, Any]:
    # Sets of earlier versions are of whole radiographs and do not say so.
    return builder.info.metadata.get("view") or views.describe(views.WHOLE)


def _unreadable(builder: Any) -> tuple[str, ...]:
    return tuple(builder.info.metadata.get("unreadable", {}).values())


def _check_segmenter(builder: Any) -> None:
    view = _view(builder)
    if view != views.describe(view["name"]):
        raise UserError(
            f"{builder.data_path} was cut by version {view['segmenter']} of the lung segmenter; "
            "remove it to prepare it anew."
        )


def _check_manual_dir(name: str, module: ModuleType, manual_dir: str | None) -> Path | None:
    if not manual_dir:
        return None
    if not hasattr(module, "find_source"):
        raise UserError(f"--manual_dir goes with --dataset={_REAL}; the {name} set is drawn.")
    path = Path(manual_dir).expanduser()
    if not path.exists():
        raise UserError(
            f"--manual_dir={manual_dir} does not exist; give the folder or the zip. "
            f"{module.EXPECTED_TREE}"
        )
    return path.resolve()


def _prepare(builder: Any, data_dir: Path, manual_dir: Path | None) -> None:
    import tensorflow_datasets as tfds  # Imported lazily: slow.

    try:
        builder.download_and_prepare(
            download_dir=str(data_dir / "downloads"),
            # Google Cloud Storage has none of these sets; asking would only need a network.
            download_config=tfds.download.DownloadConfig(
                manual_dir=str(manual_dir) if manual_dir else None, try_download_gcs=False
            ),
            file_format="tfrecord",
        )
    except Exception as error:
        user_error = _find_user_error(error)
        if user_error:
            raise UserError(str(user_error)) from error
        if isinstance(error, OSError):
            raise UserError(
                f"cannot prepare the set in {data_dir} ({error.strerror or error}); free space or "
                "give another --data_dir."
            ) from error
        raise


def _find_user_error(error: BaseException | None) -> UserError | None:
    # TFDS wraps what a builder raises.
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _describe(builder: Any, data_dir: Path, reason: str) -> PreparedDataset:
    info = builder.info
    synthetic = bool(info.metadata["synthetic"])
    # Recorded in each workdir: a run goes on only with an equal fingerprint.
    fingerprint = {
        "name": builder.name,
        "config": builder.builder_config.name,
        "version": str(builder.version),
        "source_fingerprint": info.metadata["source_fingerprint"],
        "synthetic": synthetic,
        "images": {name: split.num_examples for name, split in sorted(info.splits.items())},
    }
    return PreparedDataset(
        name=builder.name,
        builder=builder,
        synthetic=synthetic,
        class_names=tuple(info.features["label"].names),
        positive_class=info.metadata["positive_class"],
        multi_label=bool(info.metadata.get("multi_label")),
        fingerprint=fingerprint,
        reason=reason,
        data_dir=data_dir,
        unreadable=_unreadable(builder),
    )
