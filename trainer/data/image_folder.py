"""Finds a classified set of radiographs in a folder: splits, classes, patients, and a fingerprint of it all.

The tree looked for is SPLIT/CLASS/files, in any case and at any depth; beside the splits may lie `groups.csv` (filename,
patient and any further columns) and `exclude.txt` (filenames to leave out on purpose, one a line).
"""

import collections
import csv
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainer.data.radiograph import EXTENSIONS
from trainer.errors import UserError

_NO_COLUMNS: Mapping[str, str] = {}  # One for all: a large set has many entries.


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One file of a set.

    Attributes:
      filename: SPLIT/CLASS/name with the canonical names of split and class.
      path: where it lies.
      label: the class's name.
      group: the patient, else the filename itself.
      columns: further columns of groups.csv.
    """

    filename: str
    path: Path
    label: str
    group: str
    columns: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A set found on disk.

    Attributes:
      root: the folder that holds the splits.
      splits: canonical split name → entries, sorted by filename.
      remarks: what a user may want to know, one line each.
      fingerprint: SHA-256 over names, sizes, groups.csv and exclude.txt.
    """

    root: Path
    splits: Mapping[str, Sequence[Entry]]
    remarks: Sequence[str]
    fingerprint: str


def find(folder: Path, splits: Sequence[str], classes: Sequence[str]) -> ImageFolder:
    """Finds the set below (or at) a folder.

    Args:
      folder: the root of the set, or any folder above it.
      splits, classes: the canonical names looked for; case, spaces and hyphens do not matter.

    Raises:
      UserError: no such tree, several, a class without images, an exclusion that names no file, or a groups.csv that
        leaves open which patient a file belongs to.
    """
    root, split_folders = _find_root(folder, splits)
    groups, excluded = _read_groups(root), _read_excluded(root)
    entries, passed_over, sizes, used, others = {}, 0, [], set(), []
    for split in splits:
        class_folders = _children(split_folders[split], classes)
        others += [
            f"{split}/{place.name}"
            for place in _folders(split_folders[split])
            if _plain(place.name) not in {_plain(name) for name in classes} and not _hidden(place)
        ]
        entries[split] = []
        for name in classes:
            found, other = _images(class_folders.get(name), f"{split}/{name}")
            kept = [(filename, path) for filename, path in found if _key(filename) not in excluded]
            used |= {_key(filename) for filename, _ in found}
            passed_over += other
            if not kept:
                raise UserError(
                    f"{split_folders[split]} has no images of class {name}; put them into a folder "
                    f"{name}/ there."
                )
            sizes += [f"{filename}\0{path.stat().st_size}" for filename, path in kept]
            entries[split] += [_entry(filename, path, name, groups) for filename, path in kept]
        entries[split].sort(key=lambda entry: entry.filename)
    if unknown := [line for key, line in excluded.items() if key not in used]:
        raise UserError(
            f"{_beside(root, 'exclude.txt')} names files that are not there "
            f"({', '.join(unknown[:3])}); write them as Train/covid/x.png."
        )
    remarks = _remarks(
        _rows_used(entries, groups, root), groups, passed_over, len(excluded), others
    )
    return ImageFolder(root, entries, remarks, _fingerprint(sizes, root))


def find_classes(folder: Path, classes: Sequence[str], split: str = "all") -> ImageFolder:
    """Finds a set that is not split: the folders of the classes side by side, at or below a folder.

    Args:
      folder: the root of the set, or any folder above it.
      classes: the canonical names looked for.
      split: what its only split is called.

    Raises:
      UserError: no such folders, several, or a groups.csv that leaves open which patient a file belongs to.
    """
    root, class_folders = _find_root(folder, classes)
    groups, excluded = _read_groups(root), _read_excluded(root)
    entries, sizes, passed_over = [], [], 0
    for name in classes:
        found, other = _images(class_folders[name], name)
        kept = [(filename, path) for filename, path in found if _key(filename) not in excluded]
        passed_over += other
        sizes += [f"{filename}\0{path.stat().st_size}" for filename, path in kept]
        entries += [_entry(filename, path, name, groups) for filename, path in kept]
    splits = {split: sorted(entries, key=lambda entry: entry.filename)}
    remarks = _remarks(_rows_used(splits, groups, root), groups, passed_over, len(excluded), [])
    return ImageFolder(root, splits, remarks, _fingerprint(sizes, root))


def find_loose(folder: Path) -> list[Entry]:
    """The images in a folder at any depth, without classes: each its own group, its label empty.

    Raises:
      UserError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one that holds images.")
    found, _ = _images(folder, folder.name)
    if not found:
        raise UserError(f"{folder} holds no PNG, JPEG or DICOM file; give a folder of images.")
    return [Entry(filename, path, "", filename, {}) for filename, path in found]


def _find_root(folder: Path, splits: Sequence[str]) -> tuple[Path, dict[str, Path]]:
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder; give the one that holds {' and '.join(splits)}."
        )
    for level in _levels(folder):
        found = [(place, _children(place, splits)) for place in level]
        complete = [(place, children) for place, children in found if len(children) == len(splits)]
        if len(complete) > 1:
            raise UserError(
                f"{folder} holds several sets "
                f"({', '.join(str(place) for place, _ in complete[:3])}); give one."
            )
        if complete:
            return complete[0]
        if partial := [
            (place, children) for place, children in found if children and place == folder
        ]:
            missing = [split for split in splits if split not in partial[0][1]]
            raise UserError(
                f"{folder} has no folder {' or '.join(missing)}; it needs {' and '.join(splits)} "
                "side by side."
            )
    raise UserError(
        f"{folder} holds no folder with {' and '.join(splits)} side by side; give the one that "
        "does."
    )


def _levels(folder: Path) -> Iterator[list[Path]]:
    level, seen = [folder], set()
    while level:
        yield level
        below = {
            child.resolve(): child
            for place in level
            for child in _folders(place)
            if not _hidden(child)
        }
        level = sorted(
            child for real, child in below.items() if real not in seen
        )  # Links may lead in circles.
        seen |= below.keys()


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(child for child in place.iterdir() if child.is_dir())
    except PermissionError:
        return []  # A set that cannot be read is not found; others beside it may be.


def _children(place: Path, names: Sequence[str]) -> dict[str, Path]:
    canonical, found = {_plain(name): name for name in names}, {}
    for child in _folders(place):
        name = canonical.get(_plain(child.name))
        if name in found:
            raise UserError(
                f"{place} has two folders for {name}, {found[name].name} and {child.name}; make "
                "them one."
            )
        if name:
            found[name] = child
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def _images(folder: Path | None, prefix: str) -> tuple[list[tuple[str, Path]], int]:
    """([(filename, path)], how many other files lie there)."""
    wanted, others = [], 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []:
        place = path.relative_to(folder)
        if not any(map(_hidden, [place, *place.parents[:-1]])) and _may_be_image(path):
            wanted.append((f"{prefix}/{place.as_posix()}", path))
        else:
            others += 1
    return wanted, others


def _may_be_image(path: Path) -> bool:
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:  # DICOM files are often called IM0001, or 1.2.840.10008; their mark is at byte 128.
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _entry(filename: str, path: Path, label: str, groups: dict[str, dict[str, str]]) -> Entry:
    row = _row_of(filename, groups)
    columns = (
        {key: value for key, value in row.items() if key not in ("filename", "patient")}
        if row
        else _NO_COLUMNS
    )
    return Entry(filename, path, label, row.get("patient") or filename, columns)


def _row_of(filename: str, groups: dict[str, dict[str, str]]) -> dict[str, str]:
    return groups.get(_key_in(filename, groups), {})


def _key_in(filename: str, groups: Mapping[str, dict[str, str]]) -> str | None:
    """The key of a file's row, which may leave out the folders before the name; None where it has no row."""
    parts = _key(filename).split("/")
    return next(
        (key for start in range(len(parts)) if (key := "/".join(parts[start:])) in groups), None
    )


def _key(filename: str) -> str:
    """A filename in the form in which it is compared."""
    *folders, name = filename.strip().replace("\\", "/").split("/")
    return "/".join([*map(_plain, folders), name.lower()])


def _read_groups(root: Path) -> dict[str, dict[str, str]]:
    path = _beside(root, "groups.csv")
    if path is None:
        return {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); save it as UTF-8 CSV.") from error
    if rows and not {"filename", "patient"} <= set(rows[0]):
        raise UserError(
            f"{path} needs the columns filename and patient; it has {', '.join(map(str, rows[0]))}."
        )
    groups = {}
    for row in ({key: value or "" for key, value in row.items() if key} for row in rows):
        if groups.setdefault(_key(row["filename"]), row)["patient"] != row["patient"]:
            raise UserError(f"{path} gives {row['filename']} two patients; correct it.")
    return groups


def _read_excluded(root: Path) -> dict[str, str]:
    path = _beside(root, "exclude.txt")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines() if path else []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); save it as UTF-8 text.") from error
    return {_key(line): line.strip() for line in lines if line.strip() and not line.startswith("#")}


def _beside(root: Path, name: str) -> Path | None:
    return next((place / name for place in (root, root.parent) if (place / name).is_file()), None)


def _rows_used(entries: dict[str, list[Entry]], groups: dict, root: Path) -> collections.Counter:
    """How many files use each row; the files without one count under None.

    A row that names several files would make one patient of them.
    """
    used = collections.Counter(
        _key_in(entry.filename, groups) for split in entries.values() for entry in split
    )
    for key, count in used.items():
        if key is not None and count > 1:
            raise UserError(
                f"{_beside(root, 'groups.csv')} names {groups[key]['filename']}, but {count} files "
                "are called that; write each with its folders, as Train/covid/x.png."
            )
    return used


def _remarks(
    used: collections.Counter, groups: dict, passed_over: int, excluded: int, others: list[str]
) -> list[str]:
    without, unused = used[None], len(groups.keys() - used.keys())
    said = []
    if groups and without:
        said.append(
            f"{without} images have no row in groups.csv; each counts as a patient of its own"
        )
    if unused > 0:
        said.append(f"{unused} rows of groups.csv name no image of the set")
    if others:
        said.append(
            f"{len(others)} folders are no class of the set and were passed over "
            f"({', '.join(others[:3])})"
        )
    if passed_over:
        said.append(f"{passed_over} files that are not PNG, JPEG or DICOM were passed over")
    if excluded:
        said.append(f"{excluded} images were left out as exclude.txt asks")
    return said


def _fingerprint(sizes: list[str], root: Path) -> str:
    digest = hashlib.sha256("\n".join(sorted(sizes)).encode())
    for name in ("groups.csv", "exclude.txt"):
        path = _beside(root, name)
        digest.update(b"\0" + name.encode() + b"\0" + (path.read_bytes() if path else b""))
    return digest.hexdigest()
