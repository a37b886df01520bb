"""Splits and classes from the folders that images lie in.

levels = folder_levels.read(["a/Train/covid/1.png", "a/Test/non_covid/2.png"])
levels.splits   # ["train", "test"]
levels.classes  # ["covid", "non_covid"]
"""

import collections
import dataclasses
import re
from collections.abc import Sequence

from trainer.data import columns, mask_files
from trainer.data.annotations import normalize

# Folders that say nothing of their images.
_TRANSPARENT = re.compile(r"(images?|imgs?|pngs?|jpe?gs?|dicoms?|dcms?|files|data)\d*")
_PATIENT = re.compile(r"(patient|subject|pat|p|s)?\d+")


@dataclasses.dataclass(frozen=True)
class Levels:
    """Split and class of each image by its folders.

    Attributes:
      splits: [n] train, validation or test; None where no folder says so.
      classes: [n] name of the class, as its folder in train spells it; None for an image in no
        folder.
      masks: [n] bool, see `mask_files`.
      split_names: split → its folder's name, where folders are splits.
    """

    splits: list[str | None]
    classes: list[str | None]
    masks: list[bool]
    split_names: dict[str, str]


def read(filenames: Sequence[str], class_names: Sequence[str] = ()) -> Levels:
    """Reads the folders of images.

    Folders that hold all others, and those called images, png and the like, do not count.

    Args:
      filenames: relative paths with forward slashes.
      class_names: names that are known to be of classes, also where one folder holds all images.
    """
    folders = [tuple(name.split("/")[:-1]) for name in filenames]
    masks = mask_files.recognize(filenames)
    kept = [
        tuple(name for name in path if not _TRANSPARENT.fullmatch(normalize(name)))
        for path, is_mask in zip(folders, masks, strict=True)
        if not is_mask
    ]
    shared = _shared_levels(kept, {normalize(name) for name in class_names})
    kept = [path[shared:] for path in kept]
    split_level = _split_level(kept)
    spellings: dict[str, str] = {}
    split_names: dict[str, str] = {}
    splits: list[str | None] = []
    classes: list[str | None] = []
    remaining = iter(kept)
    for is_mask in masks:
        levels = list(() if is_mask else next(remaining))
        split = None
        if split_level is not None and split_level < len(levels):
            split = columns.split_of(levels[split_level])
            folder = levels.pop(split_level)
            if split:
                split_names.setdefault(split, folder)
        splits.append(split)
        outside = split_level is not None and split is None
        name = None if outside or not levels else levels[0]
        classes.append(name)
        # Spelled as in train, wherever that is.
        if name and (split == "train" or normalize(name) not in spellings):
            spellings[normalize(name)] = name
    classes = [name and spellings[normalize(name)] for name in classes]
    return Levels(splits, classes, masks, split_names)


def are_patients(names: Sequence[str]) -> bool:
    """Tells whether folders are called like patients: patient00001, p10, 4711."""
    numbered = [name for name in names if _PATIENT.fullmatch(normalize(name))]
    return len(names) > 2 and len(numbered) > len(names) / 2


def _shared_levels(paths: list[tuple[str, ...]], classes: set[str]) -> int:
    # The number of first levels that are the same for all, and no class.
    shared = 0
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1 or normalize(level[0]) in classes:
            break
        shared += 1
    return shared


def _split_level(paths: list[tuple[str, ...]]) -> int | None:
    # The first level that holds train beside another split.
    for level in range(max(map(len, paths), default=0)):
        names = collections.Counter(path[level] for path in paths if level < len(path))
        splits = {columns.split_of(name) for name in names} - {None}
        if "train" in splits and len(splits) > 1:
            return level
    return None
