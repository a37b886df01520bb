"""The files of a set in any layout, as a builder writes them: labels, splits, fingerprint.

source = any_source.find(Path("MY_IMAGES"), data_dir / "downloads", TrainConfig())
source.splits["test"]
"""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.config import READING, TrainConfig
from trainer.data import (
    class_selection,
    columns,
    file_names,
    image_folder,
    radiograph_set,
    split,
    table_labels,
    unpacking,
)
from trainer.data.annotations import normalize
from trainer.data.columns import Named
from trainer.data.image_folder import Entry, ImageFolder
from trainer.data.radiograph_set import RadiographSet
from trainer.data.table_labels import Labels
from trainer.errors import UserError

_SEED = 0  # Of the test split that is carved out: a set has one, whatever the seed of a run.


def given_flags(config: TrainConfig) -> list[str]:
    """Lists the flags of reading a folder, as --NAME=VALUE."""
    values = {name: getattr(config, name) for name in READING}
    return [f"--{name}={value}" for name, value in values.items() if value]


def read(
    manual_dir: Path, download_dir: Path, config: TrainConfig, classes: Sequence[str] = ()
) -> RadiographSet:
    """Reads a folder or zip by the columns and classes of a configuration.

    Args:
      manual_dir: a folder or a zip.
      download_dir: zips are unpacked below it.
      config: its fields image_column, label_columns, classes, patient_column, split_column and
        hold_out_site count.
      classes: names that are known to be of classes, for a set that may have one of them alone.

    Raises:
      UserError: as `radiograph_set.read`; the set has none of the classes that the user named.
    """
    if manual_dir.is_file():
        manual_dir = unpacking.unpack(manual_dir, download_dir / "unpacked")
    named = Named(
        config.image_column,
        config.patient_column,
        config.split_column,
        _split_names(config.label_columns),
        config.hold_out_site,
        tuple(classes),
    )
    images = radiograph_set.read(manual_dir, named)
    numbers = dict(zip(images.labels.names, class_selection.counts(images), strict=True))
    chosen = _split_names(config.classes)
    if chosen:
        _check_chosen(chosen, images.labels)
    elif not images.labels.multi:
        # A table may name classes whose images are not there.
        chosen = tuple(name for name, number in numbers.items() if number)
    if not chosen:
        return images
    images, remarks = class_selection.select(images, chosen)
    return dataclasses.replace(images, remarks=[*images.remarks, *remarks])


def _split_names(text: str | None) -> tuple[str, ...]:
    names = (name.strip() for name in (text or "").split(","))
    return tuple(name for name in names if name)


def _check_chosen(chosen: tuple[str, ...], labels: Labels) -> None:
    there = {normalize(name) for name in labels.names}
    unknown = [name for name in chosen if normalize(name) not in there]
    if unknown:
        raise UserError(f"--classes={','.join(unknown)}: there are {', '.join(labels.names)}.")
    if len(chosen) < 2 and not labels.multi:
        raise UserError(f"--classes={chosen[0]}: give two or more classes to tell apart.")


def find(
    manual_dir: Path,
    download_dir: Path,
    config: TrainConfig,
    classes: Sequence[str] = (),
    several: bool = False,
) -> ImageFolder:
    """Finds the files of a set; where it has no test split, carves one out by patient.

    Args:
      manual_dir: a folder or a zip.
      download_dir: zips are unpacked below it.
      config: as for `read`; also positive_class, uncertain and test_fraction.
      classes: that the set must have, in label order; none for those that it has.
      several: whether `classes` are findings, of which an image may have several.

    Raises:
      UserError: as `radiograph_set.read`; the classes are others, the positive class is none of
        them, a class has a single patient, or no finding has an image in train.
    """
    images = read(manual_dir, download_dir, config)
    if classes:
        images = _with_classes(images, classes, several)
    remarks = list(images.remarks)
    if images.labels.multi:
        labels, remark = without_uncertain(images.labels, config.uncertain or "ignore")
        images = dataclasses.replace(images, labels=labels)
        remarks += remark
    splits, remark = _with_test(images, config.test_fraction)
    remarks = [*remark, *remarks]
    if images.labels.multi and not classes:
        labels, remark = _with_positives(images.labels, splits)
        images = dataclasses.replace(images, labels=labels)
        remarks += remark
    names = images.labels.names
    positive = _positive_class(images.labels, config.positive_class)
    entries: dict[str, list[Entry]] = {name: [] for name in columns.SPLITS}
    for index, name in enumerate(splits):
        entries[name].append(entry(images, index, fixed=bool(classes)))
    summary = images.sentence + (f"; positive class {positive}" if positive else "")
    source = ImageFolder(
        root=images.root,
        splits={name: listed for name, listed in entries.items() if listed},
        remarks=[*remarks, *image_folder.check_patients(entries)],
        fingerprint=_fingerprint(entries, names, positive),
        class_names=names,
        positive_class=positive,
        multi_label=images.labels.multi,
        summary=summary,
    )
    remarks += check_splits(source)
    return source


def _with_classes(images: RadiographSet, classes: Sequence[str], several: bool) -> RadiographSet:
    """Puts classes or findings into the order and the spelling of a set."""
    if several and not images.labels.multi:
        # A part of the set, in which no image has two findings.
        images = dataclasses.replace(images, labels=table_labels.as_findings(images.labels))
    expected = {normalize(name) for name in classes}
    names = {normalize(name) for name in images.labels.names}
    # A rare finding may be missing from a part of the set, a class may not.
    complete = names <= expected if several else names == expected
    if images.labels.multi != several or not complete:
        raise UserError(
            f"{images.root} has {', '.join(images.labels.names)}, and not {', '.join(classes)}; "
            "give the folder of that set, or leave --dataset out."
        )
    return class_selection.select(images, classes)[0]


def without_uncertain(labels: Labels, treatment: str) -> tuple[Labels, list[str]]:
    """Gives blank labels the value 0, and uncertain ones that of a treatment.

    Args:
      labels: of several findings.
      treatment: ignore, ones or zeros.

    Returns:
      (labels of 1, 0 and -1 for ignored ones, remarks on their numbers).
    """
    uncertain = labels.values == table_labels.UNCERTAIN
    blank = labels.values == table_labels.BLANK
    value = {"ignore": -1, "ones": 1, "zeros": 0}[treatment]
    values = np.where(uncertain, value, labels.values)
    values[blank] = 0
    remarks = []
    if uncertain.any():
        meaning = {"ignore": "have no loss and no score", "ones": "count as 1", "zeros": "as 0"}
        remarks.append(
            f"{uncertain.sum()} labels are uncertain and {meaning[treatment]} "
            f"(--uncertain={treatment})"
        )
    if blank.any():
        remarks.append(f"{blank.sum()} labels are blank and count as 0")
    return dataclasses.replace(labels, values=values.astype(np.int8)), remarks


def _with_positives(labels: Labels, splits: list[str]) -> tuple[Labels, list[str]]:
    """Leaves out findings without an image in train, with a remark."""
    train = np.array(splits) == "train"
    learnable = (labels.values[train] == 1).any(axis=0)  # [findings]
    missing = [name for name, kept in zip(labels.names, learnable, strict=True) if not kept]
    if not missing:
        return labels, []
    names = tuple(name for name in labels.names if name not in missing)
    kept = dataclasses.replace(labels, names=names, values=labels.values[:, learnable])
    return kept, [f"no image of train has {', '.join(missing)}: left out"]


def entry(images: RadiographSet, index: int, fixed: bool) -> Entry:
    """Makes the entry of one image.

    Args:
      images: the set.
      index: of the image.
      fixed: whether the classes are those of a known set.
    """
    labels = images.labels
    filename = images.filenames[index]
    # Records of a set with fixed classes have no findings beside them.
    findings: tuple[int, ...] | None = None if fixed else ()
    label = ""
    if labels.multi:
        findings = tuple(labels.values[index].tolist())
    else:
        label = labels.names[labels.values[index]]
    return Entry(
        filename,
        file_names.locate(images.root, filename),
        label,
        images.groups[index],
        {name: cells[index] for name, cells in images.columns.items()},
        findings,
    )


def _with_test(images: RadiographSet, fraction: float) -> tuple[list[str], list[str]]:
    """Carves test out of train by patient, unless the set has a test split.

    Returns:
      (The split of each image, a remark where test was carved out).
    """
    splits = [name or "train" for name in images.splits]
    if "test" in splits:
        return splits, []
    if "train" not in splits:
        raise UserError(f"{images.root} has images of validation alone; give the folder above it.")
    train = np.array([index for index, name in enumerate(splits) if name == "train"])
    labels = images.labels.values[train]
    groups = np.array(images.groups)[train]
    try:
        _, test = split.train_and_validation(labels, groups, fraction, _SEED)
    except UserError as error:
        raise UserError(
            f"{images.root} has no test split, and a class with a single patient, so "
            f"--test_fraction={fraction:g} cannot carve one out; add patients, or name the splits "
            "with --split_column."
        ) from error
    for index in train[test]:
        splits[index] = "test"
    remark = (
        f"THE SET HAS NO TEST SPLIT: {len(test)} of {len(train)} images were carved out, a share "
        f"of {fraction:g} of the patients of each class (--test_fraction)"
    )
    return splits, [remark]


def _positive_class(labels: Labels, named: str | None) -> str | None:
    names = labels.names
    if labels.multi:
        if named:
            raise UserError(
                f"--positive_class={named} goes with two classes, and an image of this set may "
                "have several findings; leave it out."
            )
        return None
    if named and named not in names:
        raise UserError(f"--positive_class={named}: the classes are {', '.join(names)}.")
    if len(names) != 2:
        if named:
            raise UserError(
                f"--positive_class={named} goes with two classes; the set has {', '.join(names)}."
            )
        return None
    # Negative classes come first, see `radiograph_set`.
    return named or names[1]


def check_splits(source: ImageFolder) -> list[str]:
    """Checks that train has every class, or a finding, and test an image.

    Returns:
      A remark where test lacks a class, or any finding.

    Raises:
      UserError: a split lacks images.
    """
    missing = {name: _missing(source, name) for name in ("train", "test")}
    fix = "name the classes to learn with --classes=A,B"
    if source.multi_label:
        fix = "name the columns of findings with --label_columns"
    if missing["train"]:
        raise UserError(f"{source.root} has no {missing['train']} in train; add some, or {fix}.")
    if not source.splits.get("test"):
        raise UserError(f"{source.root} has no images in test; add some.")
    if missing["test"]:
        return [f"test has no {missing['test']}: scores that need one are left out"]
    return []


def _missing(source: ImageFolder, split: str) -> str:
    """Names the first class that no image has, or the lack of any finding; empty for neither."""
    entries = source.splits.get(split, ())
    if source.multi_label:
        marked = any(1 in (entry.findings or ()) for entry in entries)
        return "" if marked else "image with a finding"
    counts = collections.Counter(entry.label for entry in entries)
    return next((f"image of class {name}" for name in source.class_names if not counts[name]), "")


def _fingerprint(
    entries: dict[str, list[Entry]], names: tuple[str, ...], positive: str | None
) -> str:
    # Sizes instead of contents: reading a large set would take hours.
    lines = [
        f"{name}\0{entry.filename}\0{entry.path.stat().st_size}\0{_label(entry, names)}\0"
        f"{entry.group}\0{sorted(entry.columns.items())}"
        for name, listed in entries.items()
        for entry in listed
    ]
    return hashlib.sha256("\n".join([str(positive), *sorted(lines)]).encode()).hexdigest()


def _label(entry: Entry, names: tuple[str, ...]) -> str:
    if not entry.findings:
        return entry.label
    return ",".join(f"{name}={value}" for name, value in zip(names, entry.findings, strict=True))
