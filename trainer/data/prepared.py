"""Finds, prepares and opens a data set, and says which one it is. Builders are loaded by file path.

Loading by path keeps `import datasets` free: pip's package of that name, if there is one, does not get in the way.
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

from trainer.errors import UserError

_FOLDER = Path(__file__).resolve().parents[2] / "datasets"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set that is ready to be read.

    Attributes:
      name: covid_xray or phantom.
      builder: the prepared tfds.core.DatasetBuilder, with splits train and test.
      synthetic: whether its images are drawn.
      class_names: in label order.
      positive_class: the class that sensitivity speaks of, for sets of two classes.
      fingerprint: what tells it apart: name, config, version, source_fingerprint, synthetic, images a split.
      reason: one line: which set this is and why it was chosen.
      data_dir: where prepared sets are kept, and the ledger of test scorings.
    """

    name: str
    builder: Any
    synthetic: bool
    class_names: tuple[str, ...]
    positive_class: str | None
    fingerprint: dict[str, Any]
    reason: str
    data_dir: Path

    @property
    def side(self) -> int:
        """Of the prepared squares, in pixels."""
        return self.builder.info.features["image"].shape[0]


def open_dataset(
    name: str = "auto",
    data_dir: str | None = None,
    manual_dir: str | None = None,
    phantom_train: int = 256,
    phantom_test: int = 64,
    config_name: str = "gray500",
    phantom_shortcut: str = "none",
) -> Prepared:
    """Opens a data set, preparing it first where needed.

    Args:
      name: covid_xray; phantom; or auto: covid_xray where it is prepared, given or downloadable, else phantom.
      data_dir: where prepared sets are kept; default $TFDS_DATA_DIR, else ~/tensorflow_datasets, as TFDS itself has it.
      manual_dir: a folder or zip with the radiographs.
      phantom_train, phantom_test: how many synthetic images to draw.
      config_name: gray500, gray256, gray128 or gray64, by the side of the squares; of covid_xray also original.
      phantom_shortcut: what is planted into the phantom set, of `planted.SHORTCUTS`.

    Raises:
      UserError: no data, damaged data, a data_dir that cannot be written, or a prepared set made from other files.
    """
    place = Path(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    ).expanduser()
    if name == "phantom":
        if manual_dir:
            raise UserError(
                "--manual_dir goes with --dataset=covid_xray; the phantom set is drawn."
            )
        planted = (
            "." if phantom_shortcut == "none" else f", with a shortcut planted: {phantom_shortcut}."
        )
        return _phantom(
            place,
            phantom_train,
            phantom_test,
            phantom_shortcut,
            config_name,
            f"Data: phantom, SYNTHETIC radiographs, as asked{planted}",
        )
    try:
        return _covid_xray(place, manual_dir, config_name)
    except UserError as error:
        if name == "covid_xray" or manual_dir:
            raise
        why = str(error).split(" Download it by hand")[0]
    reason = (
        f"Data: phantom, SYNTHETIC radiographs, drawn because no real ones were found ({why}) For "
        "real ones add --manual_dir=FOLDER_OR_ZIP (see datasets/covid_xray/README.md)."
    )
    print(f"\n*** SYNTHETIC DATA ***\n{reason}\n", file=sys.stderr, flush=True)
    return _phantom(place, phantom_train, phantom_test, phantom_shortcut, config_name, reason)


@contextlib.contextmanager
def reading(builder: Any, split: str) -> Iterator[None]:
    """Says which set it is where a record read within is damaged or its file gone.

    Raises:
      UserError: so it is; the message says how to prepare the set anew.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in (
            "DataLossError",
            "NotFoundError",
        ):  # TensorFlow's, which may not be loaded here.
            raise
        why = str(error).splitlines()[0].split("}} ")[-1].split(" [")[0]
        raise UserError(
            f"the records of {split} in {builder.data_path} are damaged ({why}); remove that "
            "folder and give the same command with --manual_dir again: the set is prepared anew, a "
            "run goes on."
        ) from error


def load_builder_module(name: str) -> ModuleType:
    """Loads datasets/NAME/NAME_dataset_builder.py by its path; a second call gives the same module."""
    module_name = f"{name}_dataset_builder"
    if module_name in sys.modules:
        return sys.modules[module_name]
    path = _FOLDER / name / f"{module_name}.py"
    if not path.exists():
        raise UserError(f"{path} is missing; install from a checkout with 'pip install -e .'.")
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _covid_xray(place: Path, manual_dir: str | None, config_name: str) -> Prepared:
    module = load_builder_module("covid_xray")
    builder = _make(module, place, config_name)
    if manual_dir and not Path(manual_dir).expanduser().exists():
        raise UserError(
            f"--manual_dir={manual_dir} does not exist; give the folder or the zip. "
            f"{module.EXPECTED_TREE}"
        )
    manual = Path(manual_dir).expanduser().resolve() if manual_dir else None
    if builder.is_prepared():
        if manual:
            _check_made_from(builder, module.find_source(manual, place / "downloads"), manual)
        return _opened(builder, place, f"Data: covid_xray, prepared in {builder.data_path}.")
    _prepare(builder, place, manual)
    return _opened(
        builder,
        place,
        f"Data: covid_xray, prepared now from {manual or 'Kaggle'} in {builder.data_path}.",
    )


def _phantom(
    place: Path, train: int, test: int, shortcut: str, config_name: str, reason: str
) -> Prepared:
    module = load_builder_module("phantom")
    builder = _make(
        module,
        place,
        module.config_of(train, test, shortcut, int(config_name.removeprefix("gray"))),
    )
    if not builder.is_prepared():
        _prepare(builder, place, None)
    return _opened(builder, place, reason)


def _make(module: ModuleType, place: Path, config: Any) -> Any:
    try:
        place.mkdir(parents=True, exist_ok=True)
        return module.Builder(data_dir=str(place), config=config)
    except OSError as error:
        raise UserError(
            f"cannot use {place} ({error.strerror or error}); give a --data_dir you can write to."
        ) from error


def _prepare(builder: Any, place: Path, manual: Path | None) -> None:
    import tensorflow_datasets as tfds

    settings = tfds.download.DownloadConfig(
        manual_dir=str(manual) if manual else None, try_download_gcs=False
    )
    try:
        builder.download_and_prepare(
            download_dir=str(place / "downloads"), download_config=settings, file_format="tfrecord"
        )
    except Exception as error:
        if meant := _user_error_in(error):
            raise UserError(str(meant)) from error
        if isinstance(error, OSError):
            raise UserError(
                f"cannot prepare the set in {place} ({error.strerror or error}); free space or "
                "give another --data_dir."
            ) from error
        raise


def _user_error_in(error: BaseException | None) -> UserError | None:
    """TFDS wraps what a builder raises; the message for the user is somewhere in the chain."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _check_made_from(builder: Any, found: Any, manual: Path) -> None:
    if builder.info.metadata["source_fingerprint"] != found.fingerprint:
        raise UserError(
            f"{builder.data_path} was prepared from other files than those in {manual}; remove it "
            "to prepare anew, give another --data_dir, or leave --manual_dir out to use what is "
            "prepared."
        )


def _opened(builder: Any, place: Path, reason: str) -> Prepared:
    info = builder.info
    fingerprint = {
        "name": builder.name,
        "config": builder.builder_config.name,
        "version": str(builder.version),
        "source_fingerprint": info.metadata["source_fingerprint"],
        "synthetic": bool(info.metadata["synthetic"]),
        "images": {name: split.num_examples for name, split in sorted(info.splits.items())},
    }
    return Prepared(
        builder.name,
        builder,
        bool(info.metadata["synthetic"]),
        tuple(info.features["label"].names),
        info.metadata["positive_class"],
        fingerprint,
        reason,
        place,
    )
