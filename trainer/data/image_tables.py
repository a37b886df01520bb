"""The table beside the images of a set: found, joined and matched to the files.

rows, patients = image_tables.read(folder, FileIndex(filenames), columns.Named())
rows.by_image("Patient Age", len(filenames))  # a cell for each image
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.data import columns, tables
from trainer.data.columns import Named, Roles
from trainer.data.file_index import FileIndex
from trainer.data.tables import Table
from trainer.errors import UserError

LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
"""File with one image a line → its split, as NIH ChestX-ray14 has them."""
MIN_SHARE = 0.5
"""Share of the images, or of the rows, that must match for a table to be of these images."""

_TABLE_DEPTH = 3  # Levels of folders below the given one in which tables are read.


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """A table with a row, or several, for each image.

    Attributes:
      table: the table.
      roles: of its columns.
      images: [rows] int, the image of each row; -1 for none.
    """

    table: Table
    roles: Roles
    images: np.ndarray

    @property
    def has_labels(self) -> bool:
        """Tells whether a column, or several, hold labels."""
        return bool(self.roles.label or self.roles.findings)

    def by_image(self, column: str, count: int) -> list[str]:
        """Returns the cells of each image's last row; empty without a row."""
        values = [""] * count
        for image, cell in zip(self.images, self.table.columns[column], strict=True):
            if image >= 0 and not tables.is_missing(cell):
                values[image] = cell
        return values


def read(
    folder: Path, index: FileIndex, named: Named
) -> tuple[ImageTable | None, ImageTable | None]:
    """Reads the tables below a folder, and chooses those of labels and of patients.

    Tables called train, valid and the like are joined; the split becomes a column.

    Returns:
      (The table of the images, the table with their patients), often the same; None where no table
      names images.

    Raises:
      UserError: several tables are of the same images, or one cannot be read.
    """
    candidates = []
    for path in _table_paths(folder):
        table = tables.read(path)
        roles = columns.recognize(table, index, named)
        if roles is not None:
            candidates.append(ImageTable(table, roles, _match(table.columns[roles.file], index)))
    by_split = {
        split: rows for rows in candidates if (split := columns.split_of(rows.table.path.stem))
    }
    if len(by_split) > 1:
        joined = _join(by_split)
        return joined, joined
    candidates = [rows for rows in candidates if (rows.images >= 0).any()] or candidates
    labelled = [rows for rows in candidates if rows.has_labels] or candidates
    if not labelled:
        return None, None
    sizes = [len(np.unique(rows.images[rows.images >= 0])) for rows in labelled]
    best = [rows for rows, size in zip(labelled, sizes, strict=True) if size == max(sizes)]
    if len(best) > 1:
        names = " and ".join(rows.table.path.name for rows in best[:3])
        raise UserError(
            f"{folder} holds several tables of the same images ({names}); leave one there."
        )
    # groups.csv may lie beside a table of labels.
    with_patients = [rows for rows in (*best, *candidates) if rows.roles.patient]
    return best[0], next(iter(with_patients), None)


def _table_paths(folder: Path) -> list[Path]:
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in tables.EXTENSIONS
        and len(path.relative_to(folder).parts) <= _TABLE_DEPTH
        and path.name not in (*LISTS, "exclude.txt")
        and not path.name.startswith(".")
        and path.is_file()
    ]
    # Prose has the extension of a table.
    return [path for path in paths if path.suffix.lower() != ".txt" or _is_table(path)]


def _is_table(path: Path) -> bool:
    try:
        return len(tables.read(path).columns) > 1
    except UserError:
        return False


def _match(names: Sequence[str], index: FileIndex) -> np.ndarray:
    # [rows] int; extensions count unless more names match without.
    exact = np.array([_position(index.find(name)) for name in names], np.int64)
    if (exact >= 0).mean() > MIN_SHARE or not len(names):
        return exact
    stems = np.array([_position(index.find_stem(name)) for name in names], np.int64)
    return stems if (stems >= 0).sum() > (exact >= 0).sum() else exact


def _position(found: int | None) -> int:
    return -1 if found is None else found


def _join(by_split: dict[str, ImageTable]) -> ImageTable:
    """Joins tables of one split each; the split becomes a column."""
    first, *others = by_split.values()
    header = list(first.table.columns)
    for rows in others:
        if list(rows.table.columns) != header:
            raise UserError(
                f"{first.table.path.name} and {rows.table.path.name} have other columns; give "
                "them the same."
            )
    joined = {
        name: [cell for rows in by_split.values() for cell in rows.table.columns[name]]
        for name in header
    }
    split_column = "split"
    while split_column in joined:
        split_column += "_"
    joined[split_column] = [
        split for split, rows in by_split.items() for _ in range(len(rows.table))
    ]
    names = " and ".join(rows.table.path.name for rows in by_split.values())
    return ImageTable(
        Table(first.table.path.with_name(names), joined),
        dataclasses.replace(first.roles, split=split_column, validation=None),
        np.concatenate([rows.images for rows in by_split.values()]),
    )
