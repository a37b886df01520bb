"""Carves held-out parts out of the training split: by group, stratified by class, the same for one seed."""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

from trainer.config import TrainConfig
from trainer.errors import UserError

_DRAWS = 50  # Patients with many images make single draws uneven; of this many the evenest is kept.


def parts(
    labels: np.ndarray, groups: np.ndarray, config: TrainConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The training and the held-out part of Train that a configuration asks for: (train, held out), sorted int arrays.

    A member of a cross-validation (`fold` given) holds its fold out; the model that follows the members holds nothing out.

    Args:
      labels: [n] int.
      groups: [n] str.
      config: of the run.

    Raises:
      UserError: a class has too few groups.
    """
    if not config.folds:
        return train_and_validation(labels, groups, config.validation_fraction, config.seed)
    held_out = fold_of(labels, groups, config.folds, config.seed) == (
        -1 if config.fold is None else config.fold
    )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def selects_best(config: TrainConfig) -> bool:
    """Whether the held-out part chooses the weights. In a cross-validation it does not: it must only score them."""
    return config.select == "best" and not config.folds


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
    parts = [
        _draw(everything[commonest == label], groups, fraction, seed)
        for label in np.unique(commonest)
    ]
    validation = np.sort(np.concatenate(parts))
    return np.setdiff1d(everything, validation), validation


def fold_of(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Deals the images out to the folds of a cross-validation, whole groups at a time and each class evenly.

    Args:
      labels: [n] int.
      groups: [n] str.
      folds: how many, 2 or more.
      seed: of the dealing.

    Returns:
      [n] int: the fold in which each image is held out, 0 to folds - 1.

    Raises:
      UserError: a class has fewer groups than there are folds.
    """
    commonest = _commonest_class(labels, groups)
    least = min(len(np.unique(groups[commonest == label])) for label in np.unique(commonest))
    if least < folds:
        raise UserError(
            f"--folds={folds}: a class has only {least} groups (patients) in Train; use "
            f"--folds={max(least, 2)} or less."
        )
    fold = np.empty(len(labels), np.int64)
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(dealer.split(labels, labels, groups)):
        fold[held_out] = number
    return fold


def _commonest_class(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """For each image the commonest class of its group, [n] int."""
    _, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((member.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (member, labels), 1)
    return counts.argmax(axis=1)[member]


def _draw(members: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    if len(np.unique(groups[members])) < 2:
        raise UserError(
            "a class has a single group (patient), so no validation part can be held out by group; "
            "use --validation_fraction=0."
        )
    draws = GroupShuffleSplit(_DRAWS, test_size=fraction, random_state=seed).split(
        members, groups=groups[members]
    )
    drawn = [part for _, part in draws]
    return members[min(drawn, key=lambda part: abs(len(part) - fraction * len(members)))]
