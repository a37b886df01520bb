"""Masks among the files of a set, which are no radiographs.

mask_files.recognize(["covid/images/1.png", "covid/masks/1.png"])  # [False, True]
"""

import os
import re
from collections.abc import Sequence

from trainer.data.annotations import normalize

_FOLDER = re.compile(
    r".*masks?|segmentations?|segs?|annotations?|heatmaps?|groundtruths?|contours?"
)
_TWIN = re.compile(r"(?i)(.+?)[ _-](masks?|seg|segmentation)([ _-]?\d+)?")


def recognize(filenames: Sequence[str]) -> list[bool]:
    """Tells for each image whether it is a mask.

    Masks lie in folders called so, or beside their image: a_mask.png beside a.png. Where all
    images would be masks, none is.

    Args:
      filenames: relative paths with forward slashes.
    """
    stems = {os.path.splitext(name)[0] for name in filenames}
    masks = [_in_folder(name) or _has_twin(name, stems) for name in filenames]
    return [False] * len(masks) if all(masks) else masks


def _in_folder(name: str) -> bool:
    return any(_FOLDER.fullmatch(normalize(folder)) for folder in name.split("/")[:-1])


def _has_twin(name: str, stems: set[str]) -> bool:
    folder, _, file = os.path.splitext(name)[0].rpartition("/")
    match = _TWIN.fullmatch(file)
    return match is not None and (f"{folder}/{match[1]}" if folder else match[1]) in stems
