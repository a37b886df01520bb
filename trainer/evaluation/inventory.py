"""What is in a data set, split by split and class by class, and which kinds of file names occur in one class only."""

import collections
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from trainer.data.records import Records

_LEAST = 5  # Images; smaller families say nothing.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_HEX = re.compile(
    r"(?<![0-9a-zA-Z])(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{6,}(?![0-9a-zA-Z])",
    re.IGNORECASE,
)


def take(
    parts: dict[str, Records], class_names: tuple[str, ...], unreadable: Sequence[str] = ()
) -> dict[str, Any]:
    """Counts a data set.

    Args:
      parts: split → records.
      class_names: in label order.
      unreadable: one line for each file that could not be read.

    Returns:
      plain values: classes (split → class → images, groups, formats, bit_depths, channels, width, height, bytes_a_pixel, the
      last three as least, median and most), families (name families found in one class only), unreadable.
    """
    return {
        "classes": {
            split: {
                name: _counted(part.take(np.flatnonzero(part.labels == index)))
                for index, name in enumerate(class_names)
            }
            for split, part in parts.items()
        },
        "families": families(parts, class_names),
        "unreadable": list(unreadable),
    }


def families(parts: dict[str, Records], class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Families of file names of at least five images that occur in one class only, the largest first.

    Returns:
      dicts: family (the pattern), class, images, example.
    """
    members: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
    for part in parts.values():
        for label, filename in zip(part.labels, part.filenames, strict=True):
            members[family_of(str(filename))].append((int(label), str(filename)))
    found = [
        {
            "family": family,
            "class": class_names[rows[0][0]],
            "images": len(rows),
            "example": PurePosixPath(rows[0][1]).name,
        }
        for family, rows in members.items()
        if len(rows) >= _LEAST and len({label for label, _ in rows}) == 1
    ]
    return sorted(found, key=lambda row: (-row["images"], row["family"]))


def family_of(filename: str) -> str:
    """The pattern of a file's name: "IM_0012 (3).png" → "IM_# (#).png"; hexadecimal words and UUIDs become @."""
    name = _UUID.sub("@", PurePosixPath(filename).name)
    return re.sub(r"\d+", "#", _HEX.sub("@", name))


def lines(found: dict[str, Any]) -> list[str]:
    """The inventory for the screen and the report."""
    shown = []
    for split, classes in found["classes"].items():
        for name, row in classes.items():
            if not row["images"]:
                shown.append(f"{split}/{name}: no image")
                continue
            kinds = ", ".join(f"{count} {kind}" for kind, count in row["formats"].items())
            shown.append(
                f"{split}/{name}: {row['images']} images of {row['groups']} groups (patients); "
                f"{kinds}; width {_range(row['width'])}, height {_range(row['height'])} pixels; "
                f"channels {_keys(row['channels'])}, bit depth {_keys(row['bit_depths'])}"
            )
    for row in found["families"]:
        shown.append(
            f"names like {row['family']} ({row['images']} files, such as {row['example']}) occur "
            f"in {row['class']} only"
        )
    shown += [f"unreadable: {line}" for line in found["unreadable"]]
    return shown


def _counted(part: Records) -> dict[str, Any]:
    if not len(part):
        return {"images": 0, "groups": 0}
    header = part.header
    density = header["byte_size"] / np.maximum(header["width"] * header["height"], 1)
    return {
        "images": len(part),
        "groups": len(np.unique(part.groups)),
        "formats": _tally(header["format"]),
        "bit_depths": _tally(header["bit_depth"]),
        "channels": _tally(header["channels"]),
        "width": _spread(header["width"]),
        "height": _spread(header["height"]),
        "bytes_a_pixel": _spread(density),
    }


def _tally(values: np.ndarray) -> dict[str, int]:
    return {
        str(value): int(count)
        for value, count in zip(*np.unique(values, return_counts=True), strict=True)
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "least": float(values.min()),
        "median": float(np.median(values)),
        "most": float(values.max()),
    }


def _range(spread: dict[str, float]) -> str:
    least, median, most = (f"{spread[name]:g}" for name in ("least", "median", "most"))
    return least if least == most else f"{least} to {most} (median {median})"


def _keys(tally: dict[str, int]) -> str:
    return ", ".join(tally)
