"""A classified set of radiographs in a folder: splits, classes, patients, and a fingerprint.

The tree is SPLIT/CLASS/files, in any case and at any depth. `trainer.data.annotations` describes
the files beside it.

    folder = image_folder.find(Path("download"), ("Train", "Test"), ("non_covid", "covid"))
    folder.splits["Train"][0].path
"""

import dataclasses
import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.data import annotations, file_listing
from trainer.data.annotations import Annotations, normalize, normalize_path
from trainer.data.radiograph import EXTENSIONS, FORMATS
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


@dataclasses.dataclass
class _Scan:
    """The results of scanning folders of classes.

    Attributes:
      notes: the files beside the set.
      splits: split → the images that exclude.txt does not name.
      filenames: all images, excluded ones too.
      other_files: number of files that are no images.
      other_folders: SPLIT/NAME of folders that are no class.
    """

    notes: Annotations
    splits: dict[str, list[Entry]]
    filenames: list[str] = dataclasses.field(default_factory=list)
    other_files: int = 0
    other_folders: list[str] = dataclasses.field(default_factory=list)

    def add_class(self, split: str, folder: Path, prefix: str, label: str) -> int:
        """Adds the images of one class; returns their number without excluded ones."""
        images, other_files = _list_images(folder, prefix)
        entries = []
        for filename, path in images:
            if normalize_path(filename) in self.notes.excluded:
                continue
            row = self.notes.row(filename)
            columns = {name: row[name] for name in row if name not in ("filename", "patient")}
            # A row without a patient leaves the file its own group.
            group = row.get("patient") or filename
            entries.append(Entry(filename, path, label, group, columns or _NO_COLUMNS))
        self.splits[split] += entries
        self.filenames += [filename for filename, _ in images]
        self.other_files += other_files
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
    scan = _Scan(annotations.read_annotations(root), {split: [] for split in splits})
    for split in splits:
        split_folder = split_folders[split]
        class_folders = _match_children(split_folder, classes)
        scan.other_folders += [
            f"{split}/{child.name}"
            for child in _subfolders(split_folder)
            if child not in class_folders.values() and not _is_hidden(child.name)
        ]
        for name in classes:
            class_folder = class_folders.get(name)
            if not class_folder or not scan.add_class(split, class_folder, f"{split}/{name}", name):
                raise UserError(
                    f"{split_folder} has no images of class {name}; put them into a folder {name}/ "
                    "there."
                )
    scan.notes.check_excluded(scan.filenames)
    return _create_folder(scan)


def find_classes(folder: Path, classes: Sequence[str], split: str = "all") -> ImageFolder:
    """Finds a set without splits: the folders of the classes side by side.

    Args:
      folder: the root of the set, or any folder above it.
      classes: canonical names of the classes.
      split: the name of its only split in the result.

    Raises:
      UserError: no such folders, several, or an ambiguous groups.csv.
    """
    root, class_folders = _find_root(folder, classes)
    scan = _Scan(annotations.read_annotations(root), {split: []})
    for name in classes:
        scan.add_class(split, class_folders[name], name, name)
    return _create_folder(scan)


def find_loose(folder: Path) -> list[Entry]:
    """Finds the images of a folder at any depth, without classes.

    Each image is its own group; its label is empty.

    Raises:
      UserError: the folder does not exist, or holds no image.
    """
    entries = []
    for name in list_images(folder):
        filename = f"{folder.name}/{name}"
        entries.append(Entry(filename, folder / name, "", filename, _NO_COLUMNS))
    return entries


def list_images(folder: Path) -> list[str]:
    """Lists the images of a folder at any depth, as paths relative to it.

    Raises:
      UserError: the folder does not exist, or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one that holds images.")
    images = [name for name in file_listing.walk(folder) if _is_image(folder, name)]
    if not images:
        raise UserError(f"{folder} holds no {FORMATS} file; give a folder of images.")
    return images


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
        real = {child.resolve(): child for child in children if not _is_hidden(child.name)}
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


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _list_images(folder: Path, prefix: str) -> tuple[list[tuple[str, Path]], int]:
    """Returns ([(filename, path)], the number of other files)."""
    files = list(file_listing.walk(folder))
    images = [(f"{prefix}/{name}", folder / name) for name in files if _is_image(folder, name)]
    return images, len(files) - len(images)


def _is_image(folder: Path, name: str) -> bool:
    # Archives of macOS contain hidden twins of each file.
    if any(map(_is_hidden, name.split("/"))):
        return False
    if os.path.splitext(name)[1].lower() in EXTENSIONS:
        return True
    try:
        # DICOM files are often called IM0001, or 1.2.840.10008; their mark is at byte 128.
        with open(folder / name, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _create_folder(scan: _Scan) -> ImageFolder:
    for split_entries in scan.splits.values():
        split_entries.sort(key=lambda entry: entry.filename)
    entries = list(itertools.chain.from_iterable(scan.splits.values()))
    counts = scan.notes.count_rows(entry.filename for entry in entries)
    without_row = counts[None] if scan.notes.rows else 0
    unused_rows = len(scan.notes.rows.keys() - counts.keys())
    others = len(scan.other_folders)
    examples = ", ".join(scan.other_folders[:3])
    excluded = len(scan.notes.excluded)
    remarks = [  # (count, text)
        (
            without_row,
            f"{without_row} images have no row in groups.csv; each counts as a patient of its own",
        ),
        (unused_rows, f"{unused_rows} rows of groups.csv name no image of the set"),
        (others, f"{others} folders are no class of the set and were passed over ({examples})"),
        (
            scan.other_files,
            f"{scan.other_files} files that are not {FORMATS} were passed over",
        ),
        (excluded, f"{excluded} images were left out as exclude.txt asks"),
    ]
    return ImageFolder(
        root=scan.notes.root,
        splits=scan.splits,
        remarks=[text for count, text in remarks if count],
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
