"""A set of radiographs in whatever layout: folders of classes, a table, or both.

    images = radiograph_set.read(Path("NIH"), columns.Named())
    print(images.sentence)

Labels come from a table that names most of the images, else from folders. Splits come from lists
(train_val_list.txt and test_list.txt), a column, the names of tables (train.csv, valid.csv) or
folders; patients from a column, groups.csv or folders called patient00001.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainer.data import (
    annotations,
    columns,
    file_listing,
    file_names,
    folder_levels,
    given_splits,
    held_out_site,
    image_files,
    image_tables,
    patients,
    table_labels,
)
from trainer.data.annotations import normalize
from trainer.data.columns import Named
from trainer.data.file_index import FileIndex
from trainer.data.folder_levels import Levels
from trainer.data.held_out_site import HeldOut
from trainer.data.image_tables import ImageTable, ImageTables
from trainer.data.table_labels import Labels
from trainer.errors import UserError

_BY_FOLDER = "folder"  # Source of labels.


@dataclasses.dataclass(frozen=True)
class RadiographSet:
    """A set of radiographs, before it is prepared.

    Attributes:
      root: folder that the filenames are relative to.
      filenames: [n] str, sorted.
      labels: of these images.
      splits: [n] train, validation or test; None for an image of no split.
      groups: [n] str, the patients; the filename where the patient is not known.
      columns: name → [n] str, further columns of the table; empty where an image has no row.
      sentence: how the set was read, in one sentence.
      remarks: further notes for the user, one line each.
    """

    root: Path
    filenames: Sequence[str]
    labels: Labels
    splits: Sequence[str | None]
    groups: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    sentence: str
    remarks: Sequence[str]

    def take(self, indices: np.ndarray) -> "RadiographSet":
        """Selects images by their positions, [m] int."""
        values = dataclasses.replace(self.labels, values=self.labels.values[indices])
        return dataclasses.replace(
            self,
            filenames=[self.filenames[index] for index in indices],
            labels=values,
            splits=[self.splits[index] for index in indices],
            groups=[self.groups[index] for index in indices],
            columns={
                name: [cells[index] for index in indices] for name, cells in self.columns.items()
            },
        )


def read(folder: Path, named: Named) -> RadiographSet:
    """Reads splits, labels and patients of the images in a folder.

    Raises:
      UserError: there are no images, or it cannot be told how they are labelled; the message names
        a flag or a file.
    """
    listing = image_files.list_images(folder)
    images = read_files(folder, listing.images, named)
    return dataclasses.replace(images, remarks=[*images.remarks, *listing.remarks()])


def read_files(folder: Path, filenames: Sequence[str], named: Named) -> RadiographSet:
    """Reads a set as `read` does, of these files, which may lie elsewhere."""
    index = FileIndex(filenames)
    levels = _read_levels(folder, filenames, named)
    names = file_listing.walk(folder, image_tables.DEPTH)
    files = [file_names.locate(folder, name) for name in names]
    tables = image_tables.read(folder, files, index, named)
    rows = tables.labels
    patient_rows = tables.patients
    labels = _choose_labels(folder, tables, levels, len(filenames), named)
    further = _further_columns(patient_rows, len(filenames))
    further |= _further_columns(rows, len(filenames))
    given = given_splits.read(files, rows, levels, index)
    groups, group_source, remarks = patients.read(folder, patient_rows, filenames)
    splits = HeldOut(given.values, given.source, [])
    if named.hold_out_site:
        splits = held_out_site.hold_out(named.hold_out_site, given.values, groups, further)
    label_rows = rows if rows and labels.source != _BY_FOLDER else None
    sentence = (
        f"{folder}: {len(filenames)} images; {_describe(labels)}; {splits.source}; {group_source}"
    )
    result = RadiographSet(
        root=folder,
        filenames=filenames,
        labels=labels,
        splits=splits.splits,
        groups=groups,
        columns=further,
        sentence=sentence,
        remarks=[*given.remarks, *remarks, *_unused_tables(tables)],
    )
    excluded = np.zeros(len(filenames), bool)
    excluded[_excluded(folder, index)] = True
    left_out = [
        (np.array(levels.masks, bool), "are masks and were left out"),
        (excluded, "were left out as exclude.txt asks"),
        *splits.left_out,
    ]
    return _without_unlabelled(result, left_out, label_rows)


def _read_levels(folder: Path, filenames: Sequence[str], named: Named) -> Levels:
    levels = folder_levels.read(filenames, named.classes)
    expected = {normalize(name) for name in named.classes}
    names = {normalize(name) for name in levels.classes if name}
    if normalize(folder.name) in expected and not names & expected:
        # The folder itself is that of a class.
        inside = [f"{file_names.to_text(folder.name)}/{name}" for name in filenames]
        return folder_levels.read(inside, named.classes)
    return levels


def _excluded(folder: Path, index: FileIndex) -> list[int]:
    """Returns the positions of the images that exclude.txt names."""
    names = annotations.read_excluded(folder)
    positions = [index.find(name) for name in names]
    missing = [name for name, position in zip(names, positions, strict=True) if position is None]
    if missing:
        path = annotations.find_beside(folder, "exclude.txt")
        raise UserError(
            f"{path} names files that are not there, or several "
            f"({file_names.show(missing, ', ')}); write them as {file_names.show(index.filenames)}."
        )
    return [position for position in positions if position is not None]


def _unused_tables(tables: ImageTables) -> list[str]:
    # A text may be prose with a comma in each line.
    names = [table.path.name for table in tables.others if table.path.suffix.lower() != ".txt"]
    return image_files.remark(names, "tables name no images")


def _describe(labels: Labels) -> str:
    shown = ", ".join(labels.names[:6]) + (" …" if len(labels.names) > 6 else "")
    kind = "findings" if labels.multi else "classes"
    return f"{len(labels.names)} {kind} by {labels.source} ({shown})"


def _without_unlabelled(
    images: RadiographSet, left_out: list[tuple[np.ndarray, str]], rows: ImageTable | None
) -> RadiographSet:
    """Leaves out images without labels or split, and others.

    Args:
      images: the set.
      left_out: ([n] bool, reason) of others.
      rows: the table of the labels; None where folders are classes.
    """
    values = images.labels.values
    labelled = (values != table_labels.BLANK).any(axis=1) if values.ndim == 2 else values >= 0
    source = f"label in {rows.table.path.name}" if rows else "folder of a class"
    has_splits = any(images.splits)
    in_split = np.array([bool(split) or not has_splits for split in images.splits], bool)
    reasons = [
        *left_out,
        (~labelled, f"have no {source} and were left out"),
        (~in_split, "are of no split and were left out"),
    ]
    kept = np.ones(len(images.filenames), bool)
    remarks = list(images.remarks)
    for mask, reason in reasons:
        # An image counts once, under its first reason.
        positions = np.flatnonzero(mask & kept)
        kept &= ~mask
        if len(positions):
            first = file_names.printable(images.filenames[int(positions[0])])
            remarks.append(f"{len(positions)} images {reason} ({first} …)")
    if not kept.any():
        raise UserError(f"{images.root} holds no image with a label; see --label_columns.")
    if rows is not None and (unused := int((rows.images < 0).sum())):
        remarks.append(f"{unused} rows of {rows.table.path.name} name no image of the set")
    return dataclasses.replace(images.take(np.flatnonzero(kept)), remarks=remarks)


def _choose_labels(
    folder: Path, tables: ImageTables, levels: Levels, count: int, named: Named
) -> Labels:
    """Reads the labels from the table, else from folders."""
    rows = tables.labels
    names = {normalize(name): name for name in levels.classes if name}
    expected = {normalize(name) for name in named.classes}
    several = len(names) > 1 and not folder_levels.are_patients(list(names.values()))
    has_classes = several or bool(names.keys() & expected)
    if rows is not None and rows.has_labels:
        labels = table_labels.read(rows.table, rows.roles, rows.images, count)
        return _check_number(labels, rows, expected)
    if not has_classes:
        raise UserError(_unlabelled(folder, list(names.values()), tables))
    order = sorted(names.values(), key=columns.negative_first)
    position = {name: index for index, name in enumerate(order)}
    values = [-1 if name is None else position[names[normalize(name)]] for name in levels.classes]
    return Labels(tuple(order), np.array(values, np.int64), _BY_FOLDER)


def _check_number(labels: Labels, rows: ImageTable, expected: set[str]) -> Labels:
    # One class is enough only where the classes are those of a model.
    if not labels.multi and len(labels.names) == 1 and normalize(labels.names[0]) not in expected:
        raise UserError(
            f"{rows.table.path} has one class ({labels.names[0]}) in {rows.roles.label}; name "
            "another column with --label_columns, or add images of another class."
        )
    return labels


def _unlabelled(folder: Path, classes: list[str], tables: ImageTables) -> str:
    if tables.labels is not None:
        names = ", ".join(list(tables.labels.table.columns)[:8])
        return (
            f"{tables.labels.table.path} has no column of labels that is recognized ({names}); "
            "name it with --label_columns."
        )
    if tables.others:
        names = ", ".join(list(tables.others[0].columns)[:8])
        return (
            f"{tables.others[0].path} has no column of the images' names ({names}); write the "
            "names as the files have them, or give the column with --image_column."
        )
    if not classes:
        return (
            f"{folder} holds images in one folder and no table of labels; put them into a folder "
            "for each class, or add a table and name its column with --label_columns."
        )
    if len(classes) == 1:
        return (
            f"{folder} holds one class ({classes[0]}); give the folder above it, or a table of "
            "labels with --label_columns."
        )
    return (
        f"{folder} has folders of patients ({', '.join(sorted(classes)[:3])} …) and no table of "
        "labels; add one and name its column with --label_columns."
    )


def _further_columns(rows: ImageTable | None, count: int) -> dict[str, list[str]]:
    if rows is None:
        return {}
    roles = rows.roles
    used = {roles.file, roles.patient, roles.split, roles.validation, roles.label, *roles.findings}
    return {name: rows.by_image(name, count) for name in rows.table.columns if name not in used}


def describe(images: RadiographSet) -> str:
    """Lists splits, classes or findings, counts, patients and remarks, a line each."""
    counts = class_counts(images)
    width = max(map(len, images.labels.names))
    lines = [images.sentence, "  ".join(["".ljust(width), *(f"{name:>10}" for name in counts)])]
    for name in images.labels.names:
        cells = [f"{of_split[name]:>10}" for of_split in counts.values()]
        lines.append("  ".join([name.ljust(width), *cells]))
    if images.labels.multi:
        uncertain = int((images.labels.values == table_labels.UNCERTAIN).sum())
        blank = int((images.labels.values == table_labels.BLANK).sum())
        lines.append(f"{uncertain} labels are uncertain (-1), {blank} are blank")
    # Where no patient is known, each image is its own group.
    has_patients = list(images.groups) != list(images.filenames)
    of_patients = f" of {len(set(images.groups))} patients" if has_patients else ""
    lines.append(f"{len(images.filenames)} images{of_patients}")
    classes = None
    if not images.labels.multi:
        classes = [images.labels.names[value] for value in images.labels.values]
    doubts = patients.check(images.groups, images.filenames, classes, images.splits)
    return "\n".join([*lines, *images.remarks, *doubts])


def class_counts(images: RadiographSet) -> dict[str, dict[str, int]]:
    """Counts the images of each split by class or finding."""
    counts: dict[str, dict[str, int]] = {}
    splits = np.array([split or "all" for split in images.splits])
    for split in sorted(set(splits), key=[*columns.SPLITS, "all"].index):
        values = images.labels.values[splits == split]
        for position, name in enumerate(images.labels.names):
            marked = values[:, position] == 1 if images.labels.multi else values == position
            counts.setdefault(split, {})[name] = int(marked.sum())
    return counts
