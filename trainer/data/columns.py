"""Columns of a table by their meaning: file, patient, split, labels.

    roles = columns.recognize(table, index)
    roles.file  # "Image Index"

Names are compared by their letters and digits alone, in any case.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence

from trainer.data.annotations import normalize
from trainer.data.file_index import FileIndex
from trainer.data.tables import Table, is_missing
from trainer.errors import UserError

# Split → names of its folders, and its values in a column.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# Names of a class, or a finding, that stand for the absence of any. Not nodule.
_NEGATIVE = re.compile(
    r"normal|nofindings?|none|healthy|neg(ative)?|clear|controls?|noncovid(19)?|0"
)
_NEGATED = re.compile(r"(no|non|not)[ _-].+|(No|Non|Not)[A-Z].+")

_FILES = (
    *("filename", "file", "image", "imageid", "imageindex", "path", "imagepath", "filepath"),
    *("imagename", "img", "dicomid", "imagefilename"),
)
_PATIENTS = ("patient", "patientid", "subjectid", "subject")
_SPLITS = ("split", "subset", "set", "partition", "dataset", "fold")
SITES = ("site", "hospital", "institution", "source", "centre", "center")
"""Names of columns of sites, in the order of preference."""
_VALIDATION_FLAGS = ("isvalid", "valid")
_CLASSES = (
    *("label", "labels", "class", "classname", "finding", "findings", "findinglabels"),
    *("diagnosis", "category", "target", "disease", "pathology", "classes"),
)
_YES = {"1": 1, "1.0": 1, "yes": 1, "true": 1, "y": 1, "t": 1}
_NO = {"0": 0, "0.0": 0, "no": 0, "false": 0, "n": 0, "f": 0}
_UNCERTAIN = {"-1": -1, "-1.0": -1}
BINARY = _YES | _NO | _UNCERTAIN
"""Lower-case cell → 1, 0, or -1 for uncertain."""

_CHECKED_ROWS = 5_000  # Whether a column names files, or holds flags, shows in fewer.
_MIN_MATCHES = 0.5  # Share of rows that name a file, for a column to be of files.


@dataclasses.dataclass(frozen=True)
class Roles:
    """The meaning of the columns of a table; None and () where there is none.

    Attributes:
      file: column that names the image.
      patient: column of patients.
      split: column of train, validation or test.
      validation: column of flags for validation.
      label: column of class names or lists of findings.
      findings: columns of 1, 0, -1 or nothing, one a finding.
    """

    file: str
    patient: str | None
    split: str | None
    validation: str | None
    label: str | None
    findings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Named:
    """The columns and the site that the user named; None without.

    Attributes:
      classes: names that are known to be of classes, for a set that may have one of them alone.
    """

    image_column: str | None = None
    patient_column: str | None = None
    split_column: str | None = None
    label_columns: tuple[str, ...] = ()
    hold_out_site: str | None = None
    classes: tuple[str, ...] = ()

    @property
    def flags(self) -> list[tuple[str, str]]:
        """(flag, column) of each column that was named."""
        named = [
            ("--image_column", self.image_column),
            ("--patient_column", self.patient_column),
            ("--split_column", self.split_column),
            *(("--label_columns", column) for column in self.label_columns),
        ]
        return [(flag, column) for flag, column in named if column]


def split_of(name: str) -> str | None:
    """Returns the split that a name stands for; None for any other name."""
    return _SPLIT_OF.get(normalize(name))


def called_like_split(table: Table) -> str | None:
    """Returns the column named like a column of splits; None without one."""
    return _first(list(table.columns), _SPLITS, table)


def called_like_sites(names: Iterable[str]) -> list[str]:
    """Returns the columns whose names are those of columns of sites, by preference."""
    by_name = {normalize(name): name for name in names}
    return [by_name[name] for name in SITES if name in by_name]


def is_negative(name: str) -> bool:
    """Tells whether a class stands for the absence of a finding."""
    return bool(
        _NEGATIVE.fullmatch(normalize(name))
        or _NEGATED.fullmatch(name)
        or _NEGATED.fullmatch(name.lower())
    )


def negative_first(name: str) -> tuple[bool, str]:
    """Returns the key that sorts classes: those that stand for no finding, then by name."""
    return not is_negative(name), normalize(name)


def recognize(table: Table, index: FileIndex, named: Named) -> Roles | None:
    """Recognizes the columns of a table.

    Args:
      table: of any content.
      index: the images of the folder.
      named: columns that the user named; some may be of another table.

    Returns:
      None where the table is not one of images: no column names files.

    Raises:
      UserError: it cannot be told which column names the files, or which ones hold the labels.
    """
    file = _file_column(table, index, named.image_column)
    if file is None:
        return None
    others = [name for name in table.columns if name != file]
    split = _own(table, named.split_column) or _first(others, _SPLITS, table, _are_splits)
    validation = None if split else _first(others, _VALIDATION_FLAGS, table, _are_flags)
    patient = _own(table, named.patient_column) or _first(others, _PATIENTS, table)
    labels = [name for name in others if name not in (split, validation, patient)]
    label, findings = _label_columns(table, labels, named.label_columns)
    return Roles(file, patient, split, validation, label, findings)


def _file_column(table: Table, index: FileIndex, named: str | None) -> str | None:
    if named:
        return _own(table, named)
    candidates = [name for name in _FILES if any(normalize(c) == name for c in table.columns)]
    by_name = {normalize(column): column for column in table.columns}
    # A column of another name counts if its values are names of files.
    columns = [by_name[name] for name in candidates] + [
        column for name, column in by_name.items() if name not in candidates
    ]
    # Names without extensions only if the others fail: their index is as large as the set.
    fitting = _best_matches(table, columns, index.find)
    fitting = fitting or _best_matches(table, columns, index.find_stem)
    if not fitting and candidates:
        return by_name[candidates[0]]
    called_files = [column for column in fitting if normalize(column) in _FILES]
    for other in called_files[1:]:
        if _differ(table, called_files[0], other, index):
            raise UserError(
                f"{table.path} names other images in {called_files[0]} than in {other}; give one "
                "of them as --image_column."
            )
    return next(iter(fitting), None)


def _best_matches(table: Table, columns: list[str], find: Callable[[str], int | None]) -> list[str]:
    # The columns that name the most files; none if they name too few.
    shares = {column: _share(table.columns[column], find) for column in columns}
    best = max(shares.values(), default=0.0)
    return [column for column, share in shares.items() if share == best >= _MIN_MATCHES]


def _differ(table: Table, first: str, second: str, index: FileIndex) -> bool:
    # Whether a row names two images.
    rows = zip(table.columns[first][:_CHECKED_ROWS], table.columns[second], strict=False)
    positions = ((_find(one, index), _find(other, index)) for one, other in rows)
    return any(None not in pair and pair[0] != pair[1] for pair in positions)


def _find(name: str, index: FileIndex) -> int | None:
    position = index.find(name)
    return index.find_stem(name) if position is None else position


def _share(values: Sequence[str], find: Callable[[str], int | None]) -> float:
    # The share of the values that name a file.
    counts = collections.Counter(values[:_CHECKED_ROWS])
    matching = sum(count for value, count in counts.items() if find(value) is not None)
    return matching / counts.total()


def _own(table: Table, column: str | None) -> str | None:
    # A named column, unless it is another table's.
    return column if column in table.columns else None


def _first(
    columns: list[str],
    names: tuple[str, ...],
    table: Table,
    fits: Callable[[Sequence[str]], bool] = bool,
) -> str | None:
    # The column of the first of these names whose values fit.
    by_name = {normalize(column): column for column in reversed(columns)}
    present = [by_name[name] for name in names if name in by_name]
    return next((column for column in present if fits(table.columns[column])), None)


def _are_splits(values: Sequence[str]) -> bool:
    distinct = {value for value in values if not is_missing(value)}
    return bool(distinct) and all(split_of(value) for value in distinct)


def _are_flags(values: Sequence[str]) -> bool:
    distinct = {value.lower() for value in values if not is_missing(value)}
    return bool(distinct) and distinct <= _YES.keys() | _NO.keys()


def is_binary(values: Sequence[str]) -> bool:
    """Tells whether a column holds flags alone: those of `BINARY`, or blanks."""
    distinct = {value.lower() for value in set(values) if not is_missing(value)}
    return bool(distinct) and distinct <= BINARY.keys()


def _label_columns(
    table: Table, columns: list[str], named: tuple[str, ...]
) -> tuple[str | None, tuple[str, ...]]:
    if not table.columns.keys() >= set(named):
        return None, ()
    if len(named) > 1:
        return None, named
    if named:
        return (None, named) if is_binary(table.columns[named[0]]) else (named[0], ())
    label = _first(columns, _CLASSES, table)
    findings = tuple(column for column in columns if is_binary(table.columns[column]))
    if label in findings or (len(findings) < 2 and label):
        findings = ()  # One column of flags beside the classes describes the image otherwise.
    if label and findings:
        raise UserError(
            f"{table.path} has labels in {label} and in {', '.join(findings[:3])}; name one kind "
            f"with --label_columns={label} or --label_columns={','.join(findings[:3])}."
        )
    return label, findings


_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
