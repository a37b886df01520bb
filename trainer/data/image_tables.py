"""The table beside the images of a set: found, joined and matched to the files.

tables = image_tables.read(folder, files, FileIndex(filenames), columns.Named())
tables.labels.by_image("Patient Age", len(filenames))  # a cell for each image
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.data import annotations, columns, tables
from trainer.data.columns import Named, Roles
from trainer.data.file_index import FileIndex
from trainer.data.tables import Table
from trainer.errors import UserError

LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
"""File with one image a line → its split, as NIH ChestX-ray14 has them."""
DEPTH = 3
"""Levels of names in the path of a table, below the folder of the set."""
_MIN_MATCHES = 0.5  # Share of the rows that name a file by its whole name.


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

    @functools.cached_property
    def count(self) -> int:
        """Number of images that the table names."""
        return len(np.unique(self.images[self.images >= 0]))

    def check(self, index: FileIndex) -> None:
        """Checks that the table is of these images.

        Raises:
          TableError: as `tables.check_matches`.
        """
        names = self.table.columns[self.roles.file]
        matches = (self.images >= 0).tolist()
        tables.check_matches(self.table.path, names, matches, index.filenames, self.count)

    def by_image(self, column: str, count: int, unique: bool = False) -> list[str]:
        """Returns the cells of each image's last row; empty without a row.

        Args:
          column: of the table.
          count: number of images.
          unique: whether the rows of an image must agree.

        Raises:
          UserError: they do not.
        """
        values = [""] * count
        for image, cell in zip(self.images.tolist(), self.table.columns[column], strict=True):
            if image < 0 or tables.is_missing(cell):
                continue
            if unique and values[image] not in ("", cell):
                raise UserError(
                    f"{self.table.path} has {values[image]} and {cell} in {column} for one image; "
                    "correct it."
                )
            values[image] = cell
        return values


@dataclasses.dataclass(frozen=True)
class ImageTables:
    """The tables of a set.

    Attributes:
      labels: the table of the images; None where no table names images.
      patients: the table with their patients, often the same.
      others: tables that name no images.
    """

    labels: ImageTable | None
    patients: ImageTable | None
    others: Sequence[Table]


def read(folder: Path, files: Sequence[Path], index: FileIndex, named: Named) -> ImageTables:
    """Reads the tables of a set, and chooses those of labels and of patients.

    Tables called train, valid and the like are joined; the split becomes a column.

    Args:
      folder: of the set.
      files: below the folder, among them the tables.
      index: the images.
      named: columns that the user named.

    Raises:
      UserError: several tables are of the same images, one cannot be read or names few of the
        images, or none has a column that the user named.
    """
    every = [tables.read(path) for path in _table_paths(files)]
    _check_named(folder, every, named)
    candidates = []
    others = []
    for table in every:
        roles = columns.recognize(table, index, named)
        if roles is None:
            others.append(table)
        else:
            candidates.append(ImageTable(table, roles, _match(table.columns[roles.file], index)))
    by_split = {
        split: rows for rows in candidates if (split := columns.split_of(rows.table.path.stem))
    }
    labels = _join(by_split) if len(by_split) > 1 else _choose(folder, candidates)
    if labels is None:
        return ImageTables(None, None, others)
    # groups.csv may lie beside a table of labels.
    ordered = [labels, *sorted(candidates, key=lambda rows: not rows.count)]
    patients = next((rows for rows in ordered if rows.roles.patient), None)
    groups = [rows for rows in candidates if rows.table.path.name in annotations.FILES]
    for rows in (labels, *groups, *([patients] if patients else [])):
        rows.check(index)
    others += [rows.table for rows in candidates if not rows.count]
    return ImageTables(labels, patients, others)


def _choose(folder: Path, candidates: Sequence[ImageTable]) -> ImageTable | None:
    """Chooses the table of labels: of those with labels the one that names the most images."""
    matching = [rows for rows in candidates if rows.count] or candidates
    labelled = [rows for rows in matching if rows.has_labels] or matching
    most = max((rows.count for rows in labelled), default=0)
    best = [rows for rows in labelled if rows.count == most]
    if len(best) > 1:
        names = " and ".join(rows.table.path.name for rows in best[:3])
        raise UserError(
            f"{folder} holds several tables of the same images ({names}); leave one there."
        )
    return next(iter(best), None)


def _check_named(folder: Path, every: Sequence[Table], named: Named) -> None:
    for flag, column in named.flags:
        if not every:
            raise UserError(f"{flag}={column}: {folder} has no table of its images.")
        if not any(column in table.columns for table in every):
            there = ", ".join(list(every[0].columns)[:20])
            raise UserError(f"{flag}={column}: {every[0].path} has the columns {there}.")


def _table_paths(files: Sequence[Path]) -> list[Path]:
    paths = [
        path
        for path in files
        if path.suffix.lower() in tables.EXTENSIONS
        and path.name not in (*LISTS, "exclude.txt")
        and not path.name.startswith(".")
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
    if (exact >= 0).mean() > _MIN_MATCHES or not len(names):
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
