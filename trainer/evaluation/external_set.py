"""Images of another hospital for external validation, without copies of training images.

name, records, remarks = open_external("OTHER_FOLDER", data)
"""

import dataclasses
from pathlib import Path

from trainer.data import image_folder, records
from trainer.data.image_folder import Entry
from trainer.data.prepared import PreparedDataset
from trainer.data.records import Records
from trainer.errors import UserError
from trainer.evaluation import near_duplicates

_PREFIX = "external/"  # Keeps names and groups apart from those of the training set.


def open_external(manual_dir: str, data: PreparedDataset) -> tuple[str, Records, tuple[str, ...]]:
    """Reads a folder of radiographs that the model was not trained on.

    Args:
      manual_dir: a folder with one subfolder a class, at any depth; all of its splits are read.
      data: the set the model was trained on; the folder must have the same classes.

    Returns:
      A name for the set; its records, with near-duplicates merged into one group; remarks for the
      reader, one line each.

    Raises:
      UserError: the folder or a class is missing, or no readable image is new to the model.
    """
    folder = Path(manual_dir).expanduser()
    external, unreadable = records.from_folder(
        _entries(folder, data.class_names), data.class_names, data.side, data.view
    )
    # By pixels: another hospital's file names say nothing of copies.
    train = records.read(data.builder, "train")
    duplicates = near_duplicates.find_in_records([train, external])
    copied = duplicates.across(external.filenames, train.filenames)
    if copied.all():
        raise UserError(
            f"every image of {folder} copies a training image, so no score can be given; give "
            "images the model has not seen."
        )
    remarks = [f"External images: {len(external)} from {folder.name}."]
    if unreadable:
        remarks.append(
            f"{len(unreadable)} files could not be read and are left out: {unreadable[0]}"
        )
    if copied.any():
        remarks.append(f"{copied.sum()} images copy a training image and are left out.")
    # Grouped before the copies are left out: two images may be linked by one of them.
    new = duplicates.merge_records(external).take(~copied)
    return f"external_{folder.name}", new, tuple(remarks)


def _entries(folder: Path, class_names: tuple[str, ...]) -> list[Entry]:
    """Lists the images of a folder, split or not."""
    if not folder.is_dir():
        raise UserError(
            f"--manual_dir={folder} is not a folder; give one that holds "
            f"{' and '.join(class_names)}."
        )
    # A folder without Train and Test is a single split.
    try:
        images = image_folder.find(folder, ("Train", "Test"), class_names)
    except UserError:
        images = image_folder.find_classes(folder, class_names)
    return [_renamed(entry) for split in images.splits.values() for entry in split]


def _renamed(entry: Entry) -> Entry:
    # An image without a patient is its own group. Real patients keep theirs.
    has_patient = entry.group != entry.filename
    group = entry.group if has_patient else _PREFIX + entry.group
    return dataclasses.replace(entry, filename=_PREFIX + entry.filename, group=group)
