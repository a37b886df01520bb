"""The files beside a set: patients in groups.csv, exclusions in exclude.txt.

groups.csv has the columns filename and patient, and any further ones. exclude.txt names one file a
line. Both lie in the folder that holds the splits, or in its parent.

    annotations = read_annotations(root)
    row = annotations.row("Train/covid/a.png")  # {"filename": …, "patient": …, …}; {} without a row
"""

import collections
import csv
import dataclasses
import functools
import io
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import UserError

FILES = ("groups.csv", "exclude.txt")


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The rows of groups.csv and the lines of exclude.txt of one set.

    Attributes:
      root: the folder that holds the splits.
      rows: normalized filename → row of groups.csv.
      excluded: normalized filename → line of exclude.txt.
    """

    root: Path
    rows: Mapping[str, Mapping[str, str]]
    excluded: Mapping[str, str]

    def row(self, filename: str) -> Mapping[str, str]:
        """Returns the row of a file; empty where it has none."""
        key = self._row_key(filename)
        return {} if key is None else self.rows[key]

    def check_excluded(self, filenames: Iterable[str]) -> None:
        """Checks that every line of exclude.txt names a file of the set.

        Raises:
          UserError: a line names none.
        """
        existing = set(map(normalize_path, filenames))
        missing = [line for key, line in self.excluded.items() if key not in existing]
        if missing:
            raise UserError(
                f"{find_beside(self.root, 'exclude.txt')} names files that are not there "
                f"({', '.join(missing[:3])}); write them as Train/covid/x.png."
            )

    def count_rows(self, filenames: Iterable[str]) -> collections.Counter:
        """Counts the files of each row; files without a row count under None.

        Raises:
          UserError: a row names several files, which would make one patient of them.
        """
        counts = collections.Counter(self._row_key(filename) for filename in filenames)
        for key, count in counts.items():
            if key is not None and count > 1:
                raise UserError(
                    f"{find_beside(self.root, 'groups.csv')} names {self.rows[key]['filename']}, "
                    f"but {count} files are called that; write each with its folders, as "
                    "Train/covid/x.png."
                )
        return counts

    def _row_key(self, filename: str) -> str | None:
        # A row may leave out the folders before the name; the longest match counts.
        levels = normalize_path(filename).split("/")
        keys = ("/".join(levels[start:]) for start in range(len(levels)))
        return next((key for key in keys if key in self.rows), None)


def read_annotations(root: Path) -> Annotations:
    """Reads groups.csv and exclude.txt, where they exist.

    Args:
      root: the folder that holds the splits.

    Raises:
      UserError: a file cannot be read, or groups.csv gives one file two patients.
    """
    path = find_beside(root, "groups.csv")
    rows = _read(path, _parse_csv)
    if rows and not {"filename", "patient"} <= set(rows[0]):
        columns = ", ".join(map(str, rows[0]))
        raise UserError(f"{path} needs the columns filename and patient; it has {columns}.")
    groups: dict[str, dict[str, str]] = {}
    for values in rows:
        # Short rows have None as values, long ones None as a key.
        row = {column: value or "" for column, value in values.items() if column}
        first = groups.setdefault(normalize_path(row["filename"]), row)
        if first["patient"] != row["patient"]:
            raise UserError(f"{path} gives {row['filename']} two patients; correct it.")
    lines = _read(find_beside(root, "exclude.txt"), str.splitlines)
    names = [line for line in lines if line.strip() and not line.startswith("#")]
    excluded = {normalize_path(name): name.strip() for name in names}
    return Annotations(root, groups, excluded)


def find_beside(root: Path, name: str) -> Path | None:
    """Returns the path of an annotation file in `root` or its parent; None without one."""
    paths = (root / name, root.parent / name)
    return next((path for path in paths if path.is_file()), None)


@functools.lru_cache(maxsize=2**14)  # Folders and cells repeat in large sets.
def normalize(name: str) -> str:
    """Reduces a folder's name to its lower-case letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def normalize_path(filename: str) -> str:
    """Brings a filename with its folders into the form used for comparison."""
    *folders, name = filename.strip().replace("\\", "/").split("/")
    return "/".join([*map(normalize, folders), name.lower()])


def _parse_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _read(path: Path | None, parse: Callable[[str], list[Any]]) -> list[Any]:
    if path is None:
        return []
    try:
        # Excel writes a byte order mark, which utf-8-sig removes.
        return parse(path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read ({error}); save it as a UTF-8 {path.suffix} file."
        ) from error
