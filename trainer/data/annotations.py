"""The files beside a set: patients in groups.csv, exclusions in exclude.txt.

groups.csv has the columns filename and patient, and any further ones. exclude.txt names one file a
line. Both lie in the folder that holds the splits, or in its parent.

    annotations = read_annotations(root)
    row = annotations.row("Train/covid/a.png")  # {"filename": …, "patient": …, …}; {} without a row
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trainer.data import file_names, tables
from trainer.errors import UserError

FILES = ("groups.csv", "exclude.txt")


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The rows of groups.csv and the lines of exclude.txt of one set.

    Attributes:
      root: the folder that holds the splits.
      rows: normalized filename → row of groups.csv, see `tables.Table.rows`.
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
        files = {normalize_path(name): name for name in filenames}
        missing = [line for key, line in self.excluded.items() if key not in files]
        if missing:
            raise UserError(
                f"{find_beside(self.root, 'exclude.txt')} names files that are not there "
                f"({file_names.show(missing, ', ')}); write them as "
                f"{file_names.show(files.values())}."
            )

    def check_rows(self, filenames: Sequence[str]) -> None:
        """Checks that groups.csv is of the files of the set, excluded ones among them.

        Raises:
          TableError: as `tables.check_matches`.
        """
        keys = [key for key in map(self._row_key, filenames) if key is not None]
        used = set(keys)
        names = [row["filename"] for row in self.rows.values()]
        matches = [key in used for key in self.rows]
        path = find_beside(self.root, "groups.csv")
        if path:
            tables.check_matches(path, names, matches, filenames, len(keys))

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

    def other_tables(self) -> list[str]:
        """Lists the tables in the folder that are not read."""
        names = (file_names.to_text(path.name) for path in self.root.glob("*.[ct]sv"))
        return sorted(name for name in names if name not in FILES)

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
    rows = _read_rows(path) if path else {}
    excluded = {normalize_path(name): name for name in read_excluded(root)}
    return Annotations(root, rows, excluded)


def read_excluded(root: Path) -> list[str]:
    """Reads the names in exclude.txt; none without the file.

    Raises:
      UserError: the file cannot be read.
    """
    path = find_beside(root, "exclude.txt")
    return tables.read_names(path) if path else []


def find_beside(root: Path, name: str) -> Path | None:
    """Returns the path of an annotation file in `root` or its parent; None without one."""
    paths = (root / name, root.parent / name)
    return next((path for path in paths if path.is_file()), None)


@functools.lru_cache(maxsize=2**14)  # Folders and cells repeat in large sets.
def normalize(name: str) -> str:
    """Reduces a folder's name to its lower-case letters and digits, of any script."""
    composed = tables.compose(name.lower())
    return re.sub(r"[\W_]", "", composed) or composed


def normalize_path(filename: str) -> str:
    """Brings a filename with its folders into the form used for comparison."""
    *folders, name = tables.path_key(filename).split("/")
    return "/".join([*map(normalize, folders), name])


def _read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Reads groups.csv as normalized filename → row."""
    table = tables.read(path)
    if not {"filename", "patient"} <= table.columns.keys():
        columns = ", ".join(table.columns)
        raise UserError(f"{path} needs the columns filename and patient; it has {columns}.")
    rows: dict[str, dict[str, str]] = {}
    for row in table.rows():
        if not row["filename"]:
            continue
        first = rows.setdefault(normalize_path(row["filename"]), row)
        if first["patient"] != row["patient"]:
            raise UserError(f"{path} gives {row['filename']} two patients; correct it.")
    return rows
