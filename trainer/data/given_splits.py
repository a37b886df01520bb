"""The splits that a set is given with: by lists, a column, or folders.

splits = given_splits.read(files, rows, levels, index)
splits.values  # ["train", None, "test"]
"""

import dataclasses
from pathlib import Path

from trainer.data import columns, image_tables, tables
from trainer.data.file_index import FileIndex
from trainer.data.folder_levels import Levels
from trainer.data.image_tables import ImageTable
from trainer.errors import UserError

_SHOWN = 4  # Values of a column in a message.


@dataclasses.dataclass(frozen=True)
class Splits:
    """The split of each image.

    Attributes:
      values: [n] train, validation or test; None for an image of no split.
      source: of the splits, in words.
      remarks: notes for the user, one line each.
    """

    values: list[str | None]
    source: str
    remarks: list[str] = dataclasses.field(default_factory=list)


def read(files: list[Path], rows: ImageTable | None, levels: Levels, index: FileIndex) -> Splits:
    """Reads the splits of images: from lists, else a column, else folders.

    Args:
      files: of the set, among them the lists.
      rows: the table of the images; None without one.
      levels: the folders of the images.
      index: the images.

    Raises:
      UserError: a column that the user named holds other words than splits.
    """
    splits = (
        _from_lists(files, index, len(levels.splits))
        or (rows and _from_column(rows, len(levels.splits)))
        or _from_folders(levels)
    )
    remarks = _unused_column(rows) if rows is not None else []
    return dataclasses.replace(splits, remarks=remarks)


def _from_lists(files: list[Path], index: FileIndex, count: int) -> Splits | None:
    lists = {
        split: path
        for name, split in image_tables.LISTS.items()
        if (path := next((path for path in files if path.name == name), None))
    }
    if len(lists) < len(image_tables.LISTS):
        return None
    values: list[str | None] = [None] * count
    names: list[str] = []
    matches: list[bool] = []
    for split, path in lists.items():
        for name in tables.read_names(path):
            position = index.find(name)
            if position is not None:
                values[position] = split
            names.append(name)
            matches.append(position is not None)
    # Together: a part of a set may have images of one split alone.
    first = next(iter(lists.values()))
    tables.check_matches(first, names, matches, index.filenames, sum(map(bool, values)))
    return Splits(values, "splits by " + " and ".join(image_tables.LISTS))


def _from_column(rows: ImageTable, count: int) -> Splits | None:
    roles = rows.roles
    if roles.split:
        cells = rows.by_image(roles.split, count, unique=True)
        unknown = {cell for cell in cells if cell and columns.split_of(cell) is None}
        if unknown:
            raise UserError(
                f"{rows.table.path} has {sorted(unknown)[0]} in {roles.split}; a split is train, "
                "validation or test: name another column with --split_column."
            )
        values = [columns.split_of(cell) for cell in cells]
        return Splits(values, f"splits by column {roles.split}")
    if roles.validation:
        names = {1: "validation", 0: "train"}
        cells = rows.by_image(roles.validation, count)
        codes = [columns.BINARY.get(cell.lower()) for cell in cells]
        values = [None if code is None else names[code] for code in codes]
        return Splits(values, f"validation by column {roles.validation}")
    return None


def _from_folders(levels: Levels) -> Splits:
    if not levels.split_names:
        return Splits([None] * len(levels.splits), "no splits")
    shown = ", ".join(levels.split_names.values())
    return Splits(levels.splits, f"splits by folder ({shown})")


def _unused_column(rows: ImageTable) -> list[str]:
    """Returns a remark on a column named like a split without splits."""
    roles = rows.roles
    name = columns.called_like_split(rows.table)
    if name is None or roles.split or roles.validation or name == roles.label:
        return []
    distinct = sorted({cell for cell in rows.table.columns[name] if not tables.is_missing(cell)})
    if not distinct:
        return []
    shown = ", ".join(distinct[:_SHOWN]) + (" …" if len(distinct) > _SHOWN else "")
    remark = (
        f"column {name} of {rows.table.path.name} ({shown}) is not understood as train, validation "
        "and test, and was not used; name the column of splits with --split_column"
    )
    return [remark]
