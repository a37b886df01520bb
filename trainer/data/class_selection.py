"""Selection of the classes or findings of a set, by their names.

images, remarks = class_selection.select(images, ("normal", "covid"))
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from trainer.data.annotations import normalize
from trainer.data.radiograph_set import RadiographSet


def select(
    images: RadiographSet, names: Sequence[str], missing: int = 0
) -> tuple[RadiographSet, list[str]]:
    """Puts classes into an order and a spelling, and leaves the others out.

    Images of another class are left out; images without one of the findings stay.

    Args:
      images: of a set.
      names: in label order; case, spaces and hyphens do not matter.
      missing: value of a finding that the set does not have.

    Returns:
      (the images, a remark on classes and findings that were left out).
    """
    labels = images.labels
    by_name = {normalize(name): index for index, name in enumerate(names)}
    indices = np.array([by_name.get(normalize(name), -1) for name in labels.names], np.int64)
    kept = indices >= 0
    remarks = _left_out(images, kept)
    if labels.multi:
        values = np.full((len(images.filenames), len(names)), missing, np.int8)
        values[:, indices[kept]] = labels.values[:, kept]
    else:
        values = indices[labels.values]
    labels = dataclasses.replace(labels, names=tuple(names), values=values)
    images = dataclasses.replace(images, labels=labels)
    if not labels.multi:
        images = images.take(np.flatnonzero(values >= 0))
    return images, remarks


def counts(images: RadiographSet) -> np.ndarray:
    """Counts the images of each class or finding, [classes] int."""
    values = images.labels.values
    if images.labels.multi:
        return (values == 1).sum(axis=0)
    return np.bincount(values, minlength=len(images.labels.names))


def _left_out(images: RadiographSet, kept: np.ndarray) -> list[str]:
    numbers = counts(images)
    shown = [
        f"{images.labels.names[position]} ({numbers[position]} images)"
        for position in np.flatnonzero(~kept)
    ]
    kind = "findings" if images.labels.multi else "classes"
    return [f"{kind} left out: {', '.join(shown)}"] if shown else []
