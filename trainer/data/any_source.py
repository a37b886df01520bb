"""The files of a set in any layout, as a builder writes them: classes, splits, fingerprint.

source = any_source.find(Path("MY_IMAGES"), data_dir / "downloads", TrainConfig())
source.splits["test"]
"""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.config import TrainConfig
from trainer.data import archive, columns, radiograph_set, split
from trainer.data.annotations import normalize
from trainer.data.columns import Named
from trainer.data.image_folder import Entry, ImageFolder
from trainer.data.radiograph_set import RadiographSet
from trainer.errors import UserError

_SEED = 0  # Of the test split that is carved out: a set has one, whatever the seed of a run.


def read(manual_dir: Path, download_dir: Path, config: TrainConfig) -> RadiographSet:
    """Reads a folder or zip with the columns that a configuration names.

    Args:
      manual_dir: a folder or a zip.
      download_dir: zips are unpacked below it.
      config: its fields image_column, label_columns, patient_column and split_column count.

    Raises:
      UserError: as `radiograph_set.read`.
    """
    if manual_dir.is_file():
        manual_dir = archive.unpack(manual_dir, download_dir / "unpacked")
    labels = (config.label_columns or "").split(",")
    named = Named(
        config.image_column,
        config.patient_column,
        config.split_column,
        tuple(name.strip() for name in labels if name.strip()),
    )
    return radiograph_set.read(manual_dir, named)


def find(
    manual_dir: Path, download_dir: Path, config: TrainConfig, classes: Sequence[str] = ()
) -> ImageFolder:
    """Finds the files of a set; where it has no test split, carves one out by patient.

    Args:
      manual_dir: a folder or a zip.
      download_dir: zips are unpacked below it.
      config: as for `read`; also positive_class and test_fraction.
      classes: that the set must have, in label order; none for those that it has.

    Raises:
      UserError: as `radiograph_set.read`; an image has several findings, the classes are others,
        the positive class is none of them, or a class has a single patient.
    """
    images = read(manual_dir, download_dir, config)
    if classes:
        images = _with_classes(images, classes)
    if images.labels.multi:
        raise UserError(
            f"{manual_dir} has several findings an image ({', '.join(images.labels.names[:4])} …), "
            "and one is learnt; name a column of classes with --label_columns."
        )
    splits, remark = _with_test(images, config.test_fraction)
    names = images.labels.names
    positive = _positive_class(names, config.positive_class)
    entries: dict[str, list[Entry]] = {name: [] for name in columns.SPLITS}
    further = list(images.columns)
    for index, filename in enumerate(images.filenames):
        cells = {name: images.columns[name][index] for name in further}
        entry = Entry(
            filename,
            images.root / filename,
            names[images.labels.values[index]],
            images.groups[index],
            cells,
        )
        entries[splits[index]].append(entry)
    _check_classes(manual_dir, entries, names)
    summary = images.sentence + (f"; positive class {positive}" if positive else "")
    return ImageFolder(
        root=images.root,
        splits={name: listed for name, listed in entries.items() if listed},
        remarks=[*remark, *images.remarks],
        fingerprint=_fingerprint(entries, positive),
        class_names=names,
        positive_class=positive,
        summary=summary,
    )


def _with_classes(images: RadiographSet, classes: Sequence[str]) -> RadiographSet:
    """Puts the classes into the order and the spelling of a set."""
    by_name = {normalize(name): index for index, name in enumerate(classes)}
    names = [normalize(name) for name in images.labels.names]
    if images.labels.multi or set(names) != by_name.keys():
        raise UserError(
            f"{images.root} has {', '.join(images.labels.names)}, and not {', '.join(classes)}; "
            "give the folder of that set, or leave --dataset out."
        )
    order = np.array([by_name[name] for name in names])
    labels = dataclasses.replace(
        images.labels, names=tuple(classes), values=order[images.labels.values]
    )
    return dataclasses.replace(images, labels=labels)


def _with_test(images: RadiographSet, fraction: float) -> tuple[list[str], list[str]]:
    """Carves test out of train by patient, unless the set has a test split.

    Returns:
      (The split of each image, a remark where test was carved out).
    """
    splits = [name or "train" for name in images.splits]
    if "test" in splits:
        return splits, []
    train = np.array([index for index, name in enumerate(splits) if name == "train"])
    labels = images.labels.values[train]
    groups = np.array(images.groups)[train]
    _, test = split.train_and_validation(labels, groups, fraction, _SEED)
    for index in train[test]:
        splits[index] = "test"
    remark = (
        f"THE SET HAS NO TEST SPLIT: {len(test)} of {len(train)} images were carved out, a share "
        f"of {fraction:g} of the patients of each class (--test_fraction)"
    )
    return splits, [remark]


def _positive_class(names: tuple[str, ...], named: str | None) -> str | None:
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


def _check_classes(
    manual_dir: Path, entries: dict[str, list[Entry]], names: tuple[str, ...]
) -> None:
    for name in ("train", "test"):
        counts = collections.Counter(entry.label for entry in entries[name])
        missing = [label for label in names if not counts[label]]
        if missing:
            raise UserError(
                f"{manual_dir} has no images of class {missing[0]} in {name}; add some, or leave "
                "the class out."
            )


def _fingerprint(entries: dict[str, list[Entry]], positive: str | None) -> str:
    # Sizes instead of contents: reading a large set would take hours.
    lines = [
        f"{name}\0{entry.filename}\0{entry.path.stat().st_size}\0{entry.label}\0{entry.group}\0"
        f"{sorted(entry.columns.items())}"
        for name, listed in entries.items()
        for entry in listed
    ]
    return hashlib.sha256("\n".join([str(positive), *sorted(lines)]).encode()).hexdigest()
