"""Delimited text files: encoding, delimiter and columns recognized.

table = tables.read(Path("Data_Entry_2017.csv"))
table.columns["Finding Labels"]  # [n] str
"""

import csv
import dataclasses
import io
import itertools
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainer.data import file_names
from trainer.errors import UserError

EXTENSIONS = frozenset({".csv", ".tsv", ".txt"})

_DELIMITERS = (",", ";", "\t")
_LINES_COMPARED = 20  # To choose the delimiter.
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# Written by pandas, R, Excel and people.
_MISSING = frozenset(
    {"", "nan", "-nan", "nat", "na", "n/a", "n.a.", "<na>", "#n/a", "#na", "none", "null", "nil"}
    | {"-", "--", "–", "—", "?", "."}
)


class TableError(UserError):
    """A table that is not of the images it lies beside."""


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of a file by column.

    Attributes:
      path: of the file.
      columns: name in the header → values, [rows] str without surrounding spaces; short rows are
        filled up with empty values.
    """

    path: Path
    columns: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self) -> Iterator[dict[str, str]]:
        """Yields column → value of each row; values that stand for none are empty."""
        for cells in zip(*self.columns.values(), strict=True):
            yield {
                column: "" if is_missing(cell) else cell
                for column, cell in zip(self.columns, cells, strict=True)
            }


def read(path: Path) -> Table:
    """Reads a delimited text file with a header.

    UTF-8 and UTF-16 with a byte order mark, UTF-8 without, and else Windows-1252; separated by
    commas, semicolons or tabs.

    Raises:
      UserError: the file cannot be read, has no rows, or has two columns of one name.
    """
    try:
        rows = _parse(_decode(path.read_bytes()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); save it as UTF-8 CSV.") from error
    header: list[str] = next(rows, [])
    if not any(header):
        raise UserError(f"{path} is empty; write a header and a row for each image.")
    names = [name for name in header if name]
    if any("\0" in name for name in names):
        raise UserError(f"{path} is no text, or UTF-16 without its mark; save it as UTF-8 CSV.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{path} has two columns called {twice}; rename one.")
    # As columns, which share equal values: a list for each row would take several times the memory.
    columns = list(itertools.zip_longest(*rows, fillvalue=""))
    if not columns:
        raise UserError(f"{path} has a header and no rows; write a row for each image.")
    columns += [("",) * len(columns[0])] * (len(header) - len(columns))
    return Table(
        path, {name: values for name, values in zip(header, columns, strict=False) if name}
    )


def read_names(path: Path) -> list[str]:
    """Reads a list of files, one a line; empty lines and those after # do not count.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        lines = _decode(path.read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); save it as UTF-8 text.") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_missing(value: str) -> bool:
    """Tells whether a value stands for none: empty, nan, NA, N/A, None, null, a dash."""
    return value.strip().lower() in _MISSING


def path_key(filename: str) -> str:
    """Brings a filename with its folders into the form in which names are compared."""
    key = compose(file_names.to_readable(filename)).strip().replace("\\", "/").lower()
    return key.removeprefix("./")


def compose(name: str) -> str:
    """Writes accents as one letter with theirs; macOS writes them as letters of their own."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def check_matches(
    path: Path, names: Sequence[str], matches: Sequence[bool], filenames: Sequence[str], count: int
) -> None:
    """Checks that a table names the images of a set.

    Args:
      path: of the table.
      names: [rows] str, its names of images.
      matches: [rows] bool, whether each is that of an image.
      filenames: of the images.
      count: number of images that it names.

    Raises:
      TableError: fewer than half of the rows name an image, and fewer than half of the images are
        named.
    """
    if 2 * sum(matches) >= len(matches) or 2 * count >= len(filenames):
        return
    unknown = [name for name, match in zip(names, matches, strict=True) if not match]
    raise TableError(
        f"{path} names {count} of {len(filenames)} images: it has {file_names.show(unknown)}, and "
        f"the files are {file_names.show(filenames)}; write the names as the files have them, "
        "give their column with --image_column, or move the table elsewhere."
    )


def _decode(content: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def _parse(text: str) -> Iterator[list[str]]:
    # Yields the cells of each line that is not empty.
    delimiter = max(_DELIMITERS, key=lambda candidate: _score(text, candidate))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return (
        [sys.intern(cell.strip()) for cell in row] for row in reader if any(map(str.strip, row))
    )


def _score(text: str, delimiter: str) -> tuple[bool, int]:
    # The best delimiter splits all lines alike, into many columns.
    lines = io.StringIO(text, newline="")
    rows = itertools.islice(csv.reader(lines, delimiter=delimiter), _LINES_COMPARED)
    widths = [len(row) for row in rows if row]
    alike = len(set(widths)) == 1
    return alike and widths[0] > 1, widths[0] if widths else 0
