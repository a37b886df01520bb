"""Labels of images from a table: one class an image, or several findings.

labels = table_labels.read(table, roles, rows)
labels.values[0]  # the class of the first image, or its findings
"""

import ast
import dataclasses
from collections.abc import Sequence

import numpy as np

from trainer.data import columns
from trainer.data.annotations import normalize
from trainer.data.columns import Roles
from trainer.data.tables import Table, is_missing
from trainer.errors import UserError

UNCERTAIN = -1
BLANK = -2

_READERS = ("radid", "reader", "readerid", "radiologist", "annotator")
_MAX_CLASSES = 200


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of some images.

    Attributes:
      names: of the classes or findings.
      values: of one class an image, [n] int64, its index, or -1 for none. Of several findings,
        [n, findings] int8: 1, 0, -1 for uncertain, -2 for blank.
      source: column or columns, in words.
    """

    names: tuple[str, ...]
    values: np.ndarray
    source: str

    @property
    def multi(self) -> bool:
        """Tells whether an image may have several findings."""
        return self.values.ndim == 2


def read(table: Table, roles: Roles, images: np.ndarray, count: int) -> Labels:
    """Reads the labels of images.

    Args:
      table: with a row, or several, for each image.
      roles: of its columns.
      images: [rows] int, the image of each row; -1 for none.
      count: number of images.

    Raises:
      UserError: the column of labels holds too many values, or two rows of an image contradict.
    """
    if roles.label is None:
        return _from_flags(table, roles, images, count)
    cells = table.columns[roles.label]
    lists = {cell: split_list(cell) for cell in set(cells)}
    distinct = {name for parsed in lists.values() for name in parsed}
    names = sorted(distinct, key=columns.negative_first)
    if len(names) > _MAX_CLASSES:
        raise UserError(
            f"{table.path} has {len(names)} values in {roles.label}, too many for classes; name "
            "the columns of labels with --label_columns."
        )
    several = any(len(parsed) > 1 for parsed in lists.values())
    if several or _has_several_rows(cells, images, count):
        return _from_lists(table, roles, images, count, lists, names)
    index = {name: position for position, name in enumerate(names)}
    values = np.full(count, -1, np.int64)
    for image, cell in zip(images, cells, strict=True):
        if image >= 0 and lists[cell]:
            values[image] = index[lists[cell][0]]
    return Labels(tuple(names), values, f"column {roles.label}")


def as_findings(labels: Labels) -> Labels:
    """Turns one class an image into findings; negative classes become none."""
    kept = [index for index, name in enumerate(labels.names) if not columns.is_negative(name)]
    values = (labels.values[:, None] == np.array(kept)).astype(np.int8)  # [n, findings]
    names = tuple(labels.names[index] for index in kept)
    return dataclasses.replace(labels, names=names, values=values)


def split_list(cell: str) -> list[str]:
    """Splits a cell with one or several names: a|b, ['a', 'b'] or a; empty for none."""
    if cell.startswith("["):
        try:
            parsed = ast.literal_eval(cell)
        except (ValueError, SyntaxError):
            parsed = cell.strip("[]").split(",")
        names = [str(name).strip() for name in parsed]
    else:
        names = [name.strip() for name in cell.split("|")]
    return [name for name in names if not is_missing(name)]


def _has_several_rows(cells: Sequence[str], images: np.ndarray, count: int) -> bool:
    # Several rows of an image with different names: one a finding, or one a reader.
    first: list[str | None] = [None] * count
    for image, cell in zip(images, cells, strict=True):
        if image < 0:
            continue
        if first[image] is None:
            first[image] = cell
        elif first[image] != cell:
            return True
    return False


def _from_lists(
    table: Table,
    roles: Roles,
    images: np.ndarray,
    count: int,
    lists: dict[str, list[str]],
    names: list[str],
) -> Labels:
    names = [name for name in names if not columns.is_negative(name)]
    index = {name: position for position, name in enumerate(names)}
    by_name = {normalize(column): column for column in table.columns}
    reader_column = next((by_name[name] for name in _READERS if name in by_name), None)
    readers = table.columns[reader_column] if reader_column else ("",) * len(table)
    # (image, reader) → the findings of all rows, and a row without any.
    votes: dict[tuple[int, str], set[int]] = {}
    negative: dict[tuple[int, str], str] = {}
    cells = table.columns[str(roles.label)]
    for image, reader, cell in zip(images.tolist(), readers, cells, strict=True):
        if image >= 0:
            marked = votes.setdefault((image, reader), set())
            findings = [index[name] for name in lists[cell] if name in index]
            marked.update(findings)
            if lists[cell] and not findings:
                negative[image, reader] = cell
    _check_consistent(table, roles, images, votes, negative)
    counts = np.zeros((count, len(names)), np.int32)
    readers_of = np.zeros(count, np.int32)
    for (image, _), marked in votes.items():
        counts[image, list(marked)] += 1
        readers_of[image] += 1
    # At least half of the readers.
    values = (2 * counts >= np.maximum(readers_of, 1)[:, None]).astype(np.int8)
    values[readers_of == 0] = BLANK
    source = f"column {roles.label}"
    if reader_column:
        source += f", where half of the readers ({reader_column}) agree"
    return Labels(tuple(names), values, source)


def _check_consistent(
    table: Table,
    roles: Roles,
    images: np.ndarray,
    votes: dict[tuple[int, str], set[int]],
    negative: dict[tuple[int, str], str],
) -> None:
    # A row without a finding beside one with a finding, of the same reader.
    conflict = next((key for key in negative if votes[key]), None)
    if conflict:
        row = int(np.flatnonzero(images == conflict[0])[0])
        raise UserError(
            f"{table.path} has {negative[conflict]} and a finding in {roles.label} for "
            f"{table.columns[roles.file][row]}; leave one."
        )


def _from_flags(table: Table, roles: Roles, images: np.ndarray, count: int) -> Labels:
    kept = [name for name in roles.findings if not columns.is_negative(name)]
    values = np.full((count, len(kept)), BLANK, np.int8)
    rows = np.flatnonzero(images >= 0)
    for position, name in enumerate(kept):
        column = _codes(table, name)
        filled = rows[column[rows] != BLANK]
        values[images[filled], position] = column[filled]
        conflicts = filled[values[images[filled], position] != column[filled]]
        if len(conflicts):
            image = table.columns[roles.file][conflicts[0]]
            raise UserError(f"{table.path} has two values in {name} for {image}; leave one.")
    for name in set(roles.findings) - set(kept):
        negative = images[rows[_codes(table, name)[rows] == 1]]
        # CheXpert leaves the findings of such an image blank.
        marks = values[negative]
        marks[marks == BLANK] = 0
        values[negative] = marks
    shown = ", ".join(kept[:3]) + (" …" if len(kept) > 3 else "")
    return Labels(tuple(kept), values, f"columns {shown}")


def _codes(table: Table, name: str) -> np.ndarray:
    # [rows] int8, of a column of findings.
    cells = table.columns[name]
    codes = {cell: _code(cell, name, table) for cell in set(cells)}
    return np.fromiter((codes[cell] for cell in cells), np.int8, len(cells))


def _code(cell: str, name: str, table: Table) -> int:
    if is_missing(cell):
        return BLANK
    code = columns.BINARY.get(cell.lower())
    if code is None:
        raise UserError(
            f"{table.path} has {cell} in {name}; a column of findings holds 1, 0, -1, yes, no or "
            "nothing."
        )
    return code
