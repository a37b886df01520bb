"""Audits a data set before any training: reads it as it is, looks for copies, runs the controls, writes a folder.

python -m trainer.audit --dataset=covid_xray --manual_dir=FOLDER_OR_ZIP --output=audits/mine
"""

import os
from pathlib import Path

from trainer.data import image_folder, prepared, records
from trainer.data.records import Records
from trainer.errors import UserError
from trainer.evaluation import data_audit, near_duplicates


def audit_set(
    dataset: str,
    output: str | None,
    manual_dir: str | None = None,
    data_dir: str | None = None,
    also: tuple[str, ...] = (),
    phantom_train: int = 256,
    phantom_test: int = 64,
    phantom_shortcut: str = "none",
    seed: int = 0,
) -> str:
    """Audits a set and returns the lines for the screen.

    Args:
      dataset: covid_xray, phantom or auto, as for `prepared.open_dataset`.
      output: the folder to write to; None for a new one under audits/. An earlier audit in it is replaced.
      manual_dir: the radiographs; they are then read from there, so that unreadable files can be listed and not refused.
      data_dir: where prepared sets are kept.
      also: further folders in which to look for copies of the set's images.
      phantom_train, phantom_test, phantom_shortcut: of the phantom set.
      seed: of the controls.

    Raises:
      UserError: no such data, or a folder that cannot be written or holds something else.
    """
    folder = _output(output)
    if manual_dir and dataset != "phantom":
        module = prepared.load_builder_module("covid_xray")
        parts, unreadable = _from_files(module, Path(manual_dir).expanduser(), data_dir)
        class_names, positive, synthetic, known = tuple(module.CLASSES), "covid", False, None
    else:
        data = prepared.open_dataset(
            dataset,
            data_dir=data_dir,
            manual_dir=manual_dir,
            phantom_train=phantom_train,
            phantom_test=phantom_test,
            phantom_shortcut=phantom_shortcut,
        )
        print(data.reason, flush=True)
        parts = {
            split: records.read(data.builder, split, masks=False) for split in ("train", "test")
        }
        unreadable = []
        class_names, positive, synthetic = data.class_names, data.positive_class, data.synthetic
        known = None if also else near_duplicates.of_prepared(data, thorough=True)
    for place in also:
        parts[f"also:{place}"], damaged = records.from_folder(
            image_folder.find_loose(Path(place).expanduser()), ("",)
        )
        unreadable += damaged
    known = known or near_duplicates.search(list(parts.values()))
    found = data_audit.audit(
        parts, class_names, positive, known, synthetic, tuple(unreadable), seed
    )
    data_audit.write(folder, found, parts, known)
    return f"{found}\neverything lies in {folder}: audit.json, controls.csv, near_duplicates.csv and their figures"


def _from_files(module, manual: Path, data_dir: str | None) -> tuple[dict[str, Records], list[str]]:
    if not manual.exists():
        raise UserError(
            f"--manual_dir={manual} does not exist; give the folder or the zip. "
            f"{module.EXPECTED_TREE}"
        )
    downloads = (
        Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
        / "downloads"
    )
    source = module.find_source(manual.resolve(), downloads)
    for remark in source.remarks:
        print(remark, flush=True)
    parts, unreadable = {}, []
    for split, name in module.SPLITS.items():
        parts[split], damaged = records.from_folder(source.splits[name], module.CLASSES)
        unreadable += damaged
    return parts, unreadable


def _output(output: str | None) -> Path:
    folder = Path(output).expanduser() if output else _new_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}); give another --output."
        ) from error
    if any(folder.iterdir()) and not (folder / "audit.json").exists():
        raise UserError(
            f"{folder} holds other files and no audit.json; give a new or empty folder as --output."
        )
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write to {folder}; give another --output.")
    return folder


def _new_folder() -> Path:
    number = 1
    while (folder := Path("audits") / f"{number:03d}").exists():
        number += 1
    return folder
