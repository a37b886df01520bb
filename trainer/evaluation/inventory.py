"""The inventory of a data set: counts by split and class, and file names of one class only.

counts = count_images(splits, class_names)
texts = lines(counts)
"""

import collections
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from trainer.data.records import Records

_MAX_LINES = 10  # Of unreadable files, on the screen and in the report.
_MIN_FAMILY = 5  # Images; smaller families may be chance.
_WITHOUT_FINDING = "(without a finding)"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Words of six or more hexadecimal digits, with a letter and a digit among them.
_HEX = re.compile(
    r"(?<![0-9a-zA-Z])(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{6,}(?![0-9a-zA-Z])",
    re.IGNORECASE,
)


def count_images(
    splits: dict[str, Records], class_names: tuple[str, ...], unreadable: Sequence[str] = ()
) -> dict[str, Any]:
    """Counts images, groups and properties of files by split and class.

    Args:
      splits: split name → records.
      class_names: classes, or findings, in label order; an image with several findings counts for
        each.
      unreadable: one line for each unreadable file.

    Returns:
      classes (split → class → images, groups, formats, bit_depths, channels, width, height,
      bytes_a_pixel; the last three as min, median and max), families (see `families`), unreadable.
    """
    classes = {}
    for split, records in splits.items():
        classes[split] = {
            name: _properties(records.take(records.of_class(label)))
            for label, name in enumerate(class_names)
        }
        if records.labels.ndim == 2:
            without = (records.labels != 1).all(axis=1)
            classes[split][_WITHOUT_FINDING] = _properties(records.take(without))
    return {
        "classes": classes,
        "families": families(splits, class_names),
        "unreadable": list(unreadable),
    }


def families(splits: dict[str, Records], class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Finds families of file names that occur in one class only.

    None of several findings an image: there the same names occur with many of them.

    Returns:
      For each family of at least five images: family (the pattern), class, images
      and example; the largest family first.
    """
    # Over all splits: a pattern of train that test breaks is no hint for the network.
    members: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
    for records in splits.values():
        if records.labels.ndim == 2:
            return []
        for label, filename in zip(records.labels, records.filenames, strict=True):
            members[family_of(str(filename))].append((int(label), str(filename)))
    rows = []
    for family, images in members.items():
        # Names of one class alone show that the classes come from different sources.
        labels = {label for label, _ in images}
        if len(images) >= _MIN_FAMILY and len(labels) == 1:
            label, filename = images[0]
            row = {
                "family": family,
                "class": class_names[label],
                "images": len(images),
                "example": PurePosixPath(filename).name,
            }
            rows.append(row)
    return sorted(rows, key=lambda row: (-row["images"], row["family"]))


def family_of(filename: str) -> str:
    """Returns the pattern of a file name: "IM_0012 (3).png" → "IM_# (#).png".

    UUIDs and hexadecimal words become @.
    """
    # In this order: a UUID is made of hexadecimal words, and those contain digits.
    name = _UUID.sub("@", PurePosixPath(filename).name)
    return re.sub(r"\d+", "#", _HEX.sub("@", name))


def lines(counts: dict[str, Any]) -> list[str]:
    """Formats an inventory for the screen and the report."""
    texts = []
    for split, classes in counts["classes"].items():
        for name, row in classes.items():
            texts.append(f"{split}/{name}: {_row_text(row)}")
    for row in counts["families"]:
        texts.append(
            f"names like {row['family']} ({row['images']} files, such as {row['example']}) occur "
            f"in {row['class']} only"
        )
    unreadable = counts["unreadable"]
    texts += [f"unreadable: {line}" for line in unreadable[:_MAX_LINES]]
    if len(unreadable) > _MAX_LINES:
        texts.append(f"unreadable: {len(unreadable)} files in all, listed in audit.json")
    return texts


def _row_text(row: dict[str, Any]) -> str:
    if not row["images"]:
        return "no image"
    formats = ", ".join(f"{count} {name}" for name, count in row["formats"].items())
    return (
        f"{row['images']} images of {row['groups']} groups (patients); {formats}; width "
        f"{_range(row['width'])}, height {_range(row['height'])} pixels; channels "
        f"{', '.join(row['channels'])}, bit depth {', '.join(row['bit_depths'])}"
    )


def _properties(records: Records) -> dict[str, Any]:
    if not len(records):  # Nothing has no smallest width.
        return {"images": 0, "groups": 0}
    header = records.header
    # A header without a size must not divide by zero.
    pixels = np.maximum(header["width"] * header["height"], 1)
    return {
        "images": len(records),
        "groups": len(np.unique(records.groups)),
        "formats": _tally(header["format"]),
        "bit_depths": _tally(header["bit_depth"]),
        "channels": _tally(header["channels"]),
        "width": _spread(header["width"]),
        "height": _spread(header["height"]),
        "bytes_a_pixel": _spread(header["byte_size"] / pixels),
    }


def _tally(values: np.ndarray) -> dict[str, int]:
    unique, counts = np.unique(values, return_counts=True)
    # NumPy's types are none of JSON's.
    return {str(value): int(count) for value, count in zip(unique, counts, strict=True)}


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }


def _range(spread: dict[str, float]) -> str:
    if spread["min"] == spread["max"]:
        return f"{spread['min']:g}"
    return f"{spread['min']:g} to {spread['max']:g} (median {spread['median']:g})"
