"""Carves the validation part out of the training split: by group, stratified by class, the same for one seed."""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from trainer.errors import UserError

_DRAWS = 50  # Patients with many images make single draws uneven; of this many the evenest is kept.


def train_and_validation(
    labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices so that no group is on both sides and each class gives its share.

    For each class, groups (of which it is the commonest class) are drawn at random; of several draws the one whose number of
    images comes nearest to `fraction` is kept.

    Args:
      labels: [n] int.
      groups: [n] str.
      fraction: of the groups and images of each class, in [0, 0.5]; 0 gives an empty validation part.
      seed: of the drawing.

    Returns:
      (train, validation): sorted int arrays that together hold 0..n-1.

    Raises:
      UserError: a class has a single group, which cannot be on both sides.
    """
    everything = np.arange(len(labels))
    if fraction == 0.0:
        return everything, everything[:0]
    commonest = _commonest_class(labels, groups)
    parts = [_draw(everything[commonest == label], groups, fraction, seed) for label in np.unique(commonest)]
    validation = np.sort(np.concatenate(parts))
    return np.setdiff1d(everything, validation), validation


def _commonest_class(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each image the commonest class of its group, [n] int."""
    _, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((member.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (member, labels), 1)
    return counts.argmax(axis=1)[member]


def _draw(members: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    if len(np.unique(groups[members])) < 2:
        raise UserError("a class has a single group (patient), so no validation part can be held out by group; "
                        "use --validation_fraction=0.")
    draws = GroupShuffleSplit(_DRAWS, test_size=fraction, random_state=seed).split(members, groups=groups[members])
    drawn = [part for _, part in draws]
    return members[min(drawn, key=lambda part: abs(len(part) - fraction * len(members)))]
