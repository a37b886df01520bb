"""A file of the local features of many images, as the search for near-duplicates uses them.

save(path, {filename: features_of(image, width, height)})
features = load(path)
"""

import zipfile
from pathlib import Path

import cv2
import numpy as np

from trainer.analysis.duplicate_search import FEATURES_VERSION, Features

ImageFeatures = dict[str, Features]
"""Filename → features, in the order of the images."""

_MADE_BY = f"{FEATURES_VERSION}, OpenCV {cv2.__version__}"


def save(path: Path, features: ImageFeatures) -> None:
    """Writes the features of images: about 70 KB an image.

    Raises:
      OSError: the file cannot be written; an incomplete one is removed.
    """
    # Written beside and renamed: a run that is killed leaves no half file.
    partial = path.with_suffix(".part")
    try:
        with open(partial, "wb") as file:
            np.savez(
                file,
                made_by=np.array(_MADE_BY),
                filenames=np.array(list(features), str),
                counts=np.array([len(image.points) for image in features.values()], np.int64),
                points=np.concatenate([image.points for image in features.values()]),
                descriptors=np.concatenate([image.descriptors for image in features.values()]),
            )
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def load(path: Path) -> ImageFeatures | None:
    """Reads the features of images; None if there are none of this version."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["made_by"]) != _MADE_BY:
                return None
            names = file["filenames"].tolist()
            ends = np.cumsum(file["counts"])[:-1]
            points = np.split(file["points"], ends)
            descriptors = np.split(file["descriptors"], ends)
    # A damaged file is as good as none.
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return {
        name: Features(*image)
        for name, image in zip(names, zip(points, descriptors, strict=True), strict=True)
    }
