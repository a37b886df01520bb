"""Images of another hospital for external validation, without copies of training images.

name, records, remarks = open_external("OTHER_FOLDER", data, TrainConfig())
"""

import dataclasses
from pathlib import Path

from trainer.config import TrainConfig
from trainer.data import any_source, class_selection, image_folder, records
from trainer.data.annotations import normalize
from trainer.data.image_folder import Entry
from trainer.data.prepared import PreparedDataset
from trainer.data.records import Records
from trainer.errors import UserError
from trainer.evaluation import near_duplicates

_PREFIX = "external/"  # Keeps names and groups apart from those of the training set.


def open_external(
    manual_dir: str, data: PreparedDataset, reading: TrainConfig
) -> tuple[str, Records, tuple[str, ...]]:
    """Reads radiographs that the model was not trained on, in any layout.

    Args:
      manual_dir: a folder or a zip; all of its splits are read.
      data: the set the model was trained on.
      reading: its settings on how a folder is read count. Those of the run do not: another hospital
        has columns of its own.

    Returns:
      A name for the set; its records, with near-duplicates merged into one group; remarks for the
      reader, one line each.

    Raises:
      UserError: the folder is missing, it cannot be told how it is labelled, it has none of the
        run's classes, or no readable image is new to the model.
    """
    folder = Path(manual_dir).expanduser()
    entries, remarks = _entries(folder, data, reading)
    external, unreadable = records.from_folder(entries, data.class_names, data.side, data.view)
    # By pixels: another hospital's file names say nothing of copies.
    duplicates, train = near_duplicates.find_beside_train(data, external.whole_radiographs())
    copied = duplicates.across(external.filenames, train)
    if copied.all():
        raise UserError(
            f"every image of {folder} copies a training image, so no score can be given; give "
            "images the model has not seen."
        )
    remarks.append(f"External images: {len(external)} from {folder.name}.")
    if unreadable:
        remarks.append(
            f"{len(unreadable)} files could not be read and are left out: {unreadable[0]}"
        )
    if copied.any():
        remarks.append(f"{copied.sum()} images copy a training image and are left out.")
    # Grouped before the copies are left out: two images may be linked by one of them.
    new = duplicates.merge_records(external).take(~copied)
    return f"external_{folder.name}", new, tuple(remarks)


def _entries(
    folder: Path, data: PreparedDataset, reading: TrainConfig
) -> tuple[list[Entry], list[str]]:
    """Lists images of the run's classes, and remarks on the others."""
    if not folder.exists():
        raise UserError(
            f"--manual_dir={folder} does not exist; give a folder or archive with "
            f"{' and '.join(data.class_names)}."
        )
    downloads = data.data_dir / "downloads"
    images = any_source.read(folder.resolve(), downloads, reading, data.class_names)
    remarks = [images.sentence, *images.remarks]
    if images.labels.multi != data.multi_label:
        kinds = ("one class an image", "several findings an image")
        raise UserError(
            f"{folder} has {kinds[images.labels.multi]} ({', '.join(images.labels.names)}), and "
            f"the run was trained on {kinds[data.multi_label]}; name columns of that kind with "
            "--label_columns, or give another set."
        )
    if images.labels.multi:
        labels, uncertain = any_source.without_uncertain(
            images.labels, reading.uncertain or "ignore"
        )
        images = dataclasses.replace(images, labels=labels)
        remarks += uncertain
    there = {normalize(name) for name in images.labels.names}
    missing = [name for name in data.class_names if normalize(name) not in there]
    if len(missing) == len(data.class_names):
        raise UserError(
            f"{folder} has {', '.join(images.labels.names)}, and the run "
            f"{', '.join(data.class_names)}; call them as the run does."
        )
    # -1: unknown where the other hospital does not label a finding.
    images, left_out = class_selection.select(images, data.class_names, missing=-1)
    remarks += left_out
    if missing and images.labels.multi:
        remarks.append(f"{', '.join(missing)}: not labelled there, so not scored")
    elif missing:
        remarks.append(
            f"no image of {', '.join(missing)}: scores that need every class are missing"
        )
    entries = [
        any_source.entry(images, index, fixed=True) for index in range(len(images.filenames))
    ]
    remarks += image_folder.check_patients({"external": entries})
    return [_renamed(entry) for entry in entries], remarks


def _renamed(entry: Entry) -> Entry:
    # An image without a patient is its own group. Real patients keep theirs.
    has_patient = entry.group != entry.filename
    group = entry.group if has_patient else _PREFIX + entry.group
    return dataclasses.replace(entry, filename=_PREFIX + entry.filename, group=group)
