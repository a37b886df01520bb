"""Another hospital's images for external validation: read as they lie, without those the model was trained on."""

from pathlib import Path

from trainer.data import image_folder, records
from trainer.data.image_folder import Entry
from trainer.data.prepared import Prepared
from trainer.data.records import Records
from trainer.errors import UserError
from trainer.evaluation import near_duplicates


def open_other(manual_dir: str, data: Prepared) -> tuple[str, Records, list[str]]:
    """Reads a set that is not the one trained on.

    Args:
      manual_dir: a folder with the classes' folders side by side, at any depth; where it is split, all splits count.
      data: the set the model was trained on, whose classes it must have.

    Returns:
      (a name for it, its records in groups that hold their copies, what a reader must know of them).

    Raises:
      UserError: no such folder or classes, no readable image, or none that does not copy a training image.
    """
    folder = Path(manual_dir).expanduser()
    entries = _entries(folder, data.class_names)
    part, unreadable = records.from_folder(entries, data.class_names)
    train = records.read(data.builder, "train")
    known = near_duplicates.search([train, part])
    copied = known.across(part.filenames, train.filenames)
    if copied.all():
        raise UserError(
            f"every image of {folder} copies a training image, so no score can be given; give "
            "images the model has not seen."
        )
    remarks = [f"External images: {len(part)} from {folder.name}."]
    remarks += (
        [f"{len(unreadable)} files could not be read and are left out: {unreadable[0]}"]
        if unreadable
        else []
    )
    remarks += (
        [f"{copied.sum()} images copy a training image and are left out."] if copied.any() else []
    )
    kept = known.joined(part).take(~copied)
    return f"external_{folder.name}", kept, remarks


def _entries(folder: Path, class_names: tuple[str, ...]) -> list[Entry]:
    if not folder.is_dir():
        raise UserError(
            f"--manual_dir={folder} is not a folder; give one that holds "
            f"{' and '.join(class_names)}."
        )
    try:
        found = image_folder.find(folder, ("Train", "Test"), class_names)
    except UserError:
        found = image_folder.find_classes(folder, class_names)
    # Names of an own set, so that they cannot be taken for the training set's.
    return [
        Entry(f"external/{entry.filename}", entry.path, entry.label, _group(entry), entry.columns)
        for entries in found.splits.values()
        for entry in entries
    ]


def _group(entry: Entry) -> str:
    return f"external/{entry.group}" if entry.group == entry.filename else entry.group
