"""A classified set of radiographs in a folder: splits, classes, patients, and a fingerprint.

The tree is SPLIT/CLASS/files, in any case and at any depth. `trainer.data.annotations` describes
the files beside it.

    folder = image_folder.find(Path("download"), ("Train", "Test"), ("non_covid", "covid"))
    folder.splits["Train"][0].path
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from trainer.data import (
    annotations,
    columns,
    file_listing,
    file_names,
    image_files,
    mask_files,
    patients,
)
from trainer.data.annotations import Annotations, normalize, normalize_path
from trainer.data.radiograph import FORMATS
from trainer.errors import UserError

_NO_COLUMNS: Mapping[str, str] = {}  # Shared: a large set has many entries.


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One file of a set.

    Attributes:
      filename: SPLIT/CLASS/name with the canonical names of split and class.
      path: path of the file.
      label: the class's name; empty where an image may have several findings.
      group: the patient, else the filename itself.
      columns: further columns of groups.csv.
      findings: 1, 0 or -1 (unknown) for each finding; None where an image has one class.
    """

    filename: str
    path: Path
    label: str
    group: str
    columns: Mapping[str, str]
    findings: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A set on disk.

    Attributes:
      root: the folder that holds the splits.
      splits: canonical split name → entries, sorted by filename.
      remarks: notes for the user, one line each.
      fingerprint: SHA-256 over names, sizes, groups.csv and exclude.txt.
      class_names: classes, or findings, in label order.
      positive_class: the class that sensitivity refers to; None with more than two.
      multi_label: whether an image may have several findings.
      summary: how the set was read, or its numbers, in one line.
    """

    root: Path
    splits: Mapping[str, Sequence[Entry]]
    remarks: Sequence[str]
    fingerprint: str
    class_names: tuple[str, ...] = ()
    positive_class: str | None = None
    multi_label: bool = False
    summary: str = ""

    def without(self, filenames: Collection[str]) -> "ImageFolder":
        """Returns the set without some of its files."""
        splits = {
            name: [entry for entry in entries if entry.filename not in filenames]
            for name, entries in self.splits.items()
        }
        return dataclasses.replace(self, splits=splits)


@dataclasses.dataclass
class _Scan:
    """The results of scanning folders of classes.

    Attributes:
      notes: the files beside the set.
      splits: split → the images that exclude.txt does not name.
      filenames: all images, excluded ones too.
      masks: names of the images that are masks.
      others: names of files that are no images.
      outside: names of images and archives in no folder of a class.
    """

    notes: Annotations
    splits: dict[str, list[Entry]]
    filenames: list[str] = dataclasses.field(default_factory=list)
    masks: list[str] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    outside: list[str] = dataclasses.field(default_factory=list)

    def add_class(self, split: str, folder: Path, prefix: str, label: str) -> int:
        """Adds the images of one class; returns their number without excluded ones."""
        listing = image_files.list_files(folder)
        self.others += [f"{prefix}/{name}" for name in (*listing.archives, *listing.others)]
        entries = []
        for name, is_mask in zip(listing.images, mask_files.recognize(listing.images), strict=True):
            filename = f"{prefix}/{name}"
            if is_mask:
                self.masks.append(filename)
                continue
            self.filenames.append(filename)
            if normalize_path(filename) in self.notes.excluded:
                continue
            path = file_names.locate(folder, name)
            row = self.notes.row(filename)
            further = {key: row[key] for key in row if key not in ("filename", "patient")}
            # A row without a patient leaves the file its own group.
            group = row.get("patient") or filename
            entries.append(Entry(filename, path, label, group, further or _NO_COLUMNS))
        self.splits[split] += entries
        return len(entries)


def find(folder: Path, splits: Sequence[str], classes: Sequence[str]) -> ImageFolder:
    """Finds the set at or below a folder.

    Args:
      folder: the root of the set, or any folder above it.
      splits: canonical names of the splits; case, spaces and hyphens do not matter.
      classes: canonical names of the classes; case, spaces and hyphens do not matter.

    Raises:
      UserError: no such tree, several, a class without images, an exclusion that names no file, or
        an ambiguous groups.csv.
    """
    root, split_folders = _find_root(folder, splits)
    validation = _find_validation(root)
    if validation:
        split_folders[validation.name] = validation
    scan = _Scan(annotations.read_annotations(root), {split: [] for split in split_folders})
    used = set(split_folders.values())
    for split, split_folder in split_folders.items():
        class_folders = _match_children(split_folder, classes)
        used |= set(class_folders.values())
        for name in classes:
            class_folder = class_folders.get(name)
            count = class_folder and scan.add_class(split, class_folder, f"{split}/{name}", name)
            if not count:
                raise UserError(
                    f"{split_folder} has no images of class {name}; put them into a folder {name}/ "
                    "there."
                )
    scan.outside = _list_outside(root, list(split_folders.values()), used)
    scan.notes.check_excluded(scan.filenames)
    scan.notes.check_rows(scan.filenames)
    return _create_folder(scan)


def check_patients(splits: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Describes patients that make splits or scores doubtful, see `patients.check`."""
    rows = [(entry, split) for split, entries in splits.items() for entry in entries]
    entries = [entry for entry, _ in rows]
    several = any(entry.findings for entry in entries)
    return patients.check(
        [entry.group for entry in entries],
        [entry.filename for entry in entries],
        None if several else [entry.label for entry in entries],
        [split for _, split in rows],
    )


def find_loose(folder: Path) -> list[Entry]:
    """Finds the images of a folder at any depth, without classes.

    Each image is its own group; its label is empty.

    Raises:
      UserError: the folder does not exist, or holds no image.
    """
    entries = []
    for name in image_files.list_images(folder).images:
        filename = f"{file_names.to_text(folder.name)}/{name}"
        path = file_names.locate(folder, name)
        entries.append(Entry(filename, path, "", filename, _NO_COLUMNS))
    return entries


def _find_root(folder: Path, names: Sequence[str]) -> tuple[Path, dict[str, Path]]:
    """Returns the nearest folder that holds all names, and their folders."""
    wording = " and ".join(names)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the one that holds {wording}.")
    level = [folder]
    seen: set[Path] = set()
    while level:
        matches = [(candidate, _match_children(candidate, names)) for candidate in level]
        complete = [match for match in matches if len(match[1]) == len(names)]
        if len(complete) > 1:
            roots = ", ".join(str(root) for root, _ in complete[:3])
            raise UserError(f"{folder} holds several sets ({roots}); give one.")
        if complete:
            return complete[0]
        incomplete = dict(matches).get(folder)  # None below the first level.
        if incomplete:
            missing = [name for name in names if name not in incomplete]
            raise UserError(
                f"{folder} has no folder {' or '.join(missing)}; it needs {wording} side by side."
            )
        children = itertools.chain.from_iterable(map(_subfolders, level))
        # Links may form circles, so each real folder counts once.
        real = {
            child.resolve(): child for child in children if not file_listing.is_hidden(child.name)
        }
        level = sorted(child for path, child in real.items() if path not in seen)
        seen |= real.keys()
    raise UserError(
        f"{folder} holds no folder with {wording} side by side; give the one that does."
    )


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except PermissionError:
        return []  # Readable folders beside it may still hold the set.


def _find_validation(root: Path) -> Path | None:
    folders = [child for child in _subfolders(root) if columns.split_of(child.name) == "validation"]
    if len(folders) > 1:
        names = " and ".join(child.name for child in folders)
        raise UserError(f"{root} has two folders for validation, {names}; make them one.")
    return next(iter(folders), None)


def _list_outside(root: Path, splits: list[Path], used: set[Path]) -> list[str]:
    """Lists images and archives that lie in no folder of a split and class."""
    listings = [(parent, image_files.list_files(parent, depth=1)) for parent in (root, *splits)]
    listings += [
        (child, image_files.list_files(child))
        for parent in (root, *splits)
        for child in _subfolders(parent)
        if child not in used and not file_listing.is_hidden(child.name)
    ]
    return [
        file_names.to_text((folder / name).relative_to(root).as_posix())
        for folder, listing in listings
        for name in (*listing.images, *listing.archives)
    ]


def _match_children(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    canonical = {normalize(name): name for name in names}
    matches: dict[str, Path] = {}
    for child in _subfolders(folder):
        name = canonical.get(normalize(child.name))
        if name in matches:
            raise UserError(
                f"{folder} has two folders for {name}, {matches[name].name} and {child.name}; make "
                "them one."
            )
        if name:
            matches[name] = child
    return matches


def _create_folder(scan: _Scan) -> ImageFolder:
    for split_entries in scan.splits.values():
        split_entries.sort(key=lambda entry: entry.filename)
    entries = list(itertools.chain.from_iterable(scan.splits.values()))
    counts = scan.notes.count_rows(entry.filename for entry in entries)
    without_row = counts[None] if scan.notes.rows else 0
    rows = (scan.notes.row(entry.filename) for entry in entries)
    without_patient = sum(bool(row) and not row["patient"] for row in rows)
    unused_rows = len(scan.notes.rows.keys() - counts.keys())
    excluded = len(scan.notes.excluded)
    remarks = [  # (count, text)
        (
            without_row,
            f"{without_row} images have no row in groups.csv; each counts as a patient of its own",
        ),
        (unused_rows, f"{unused_rows} rows of groups.csv name no image of the set"),
        (excluded, f"{excluded} images were left out as exclude.txt asks"),
    ]
    passed_over = [
        *image_files.remark(scan.outside, "files are in no folder of a split and class"),
        *image_files.remark(scan.notes.other_tables(), "tables are not called groups.csv"),
        *image_files.remark(scan.masks, "images are masks"),
        *image_files.remark(scan.others, f"files are no {FORMATS}"),
    ]
    return ImageFolder(
        root=scan.notes.root,
        splits=scan.splits,
        remarks=[
            *(text for count, text in remarks if count),
            *patients.describe_unknown(without_patient, "groups.csv"),
            *passed_over,
            *check_patients(scan.splits),
        ],
        fingerprint=_fingerprint(entries, scan.notes),
    )


def _fingerprint(entries: Sequence[Entry], notes: Annotations) -> str:
    # Sizes instead of contents: reading a large set would take hours.
    sizes = [f"{entry.filename}\0{entry.path.stat().st_size}" for entry in entries]
    digest = hashlib.sha256("\n".join(sorted(sizes)).encode())
    for name in annotations.FILES:
        path = annotations.find_beside(notes.root, name)
        content = path.read_bytes() if path else b""
        digest.update(b"\0" + name.encode() + b"\0" + content)
    return digest.hexdigest()
