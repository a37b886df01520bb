"""Carves held-out images out of the training split: by group, stratified by class or finding.

    train, held_out = split_train(labels, groups, config)

One seed always gives the same split.
"""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

from trainer.config import TrainConfig
from trainer.data import stratification
from trainer.errors import UserError

_DRAWS = 50


def split_train(
    labels: np.ndarray, groups: np.ndarray, config: TrainConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Splits Train as a configuration asks.

    A member of a cross-validation (`fold` given) holds its fold out. The model that follows the
    members holds nothing out.

    Args:
      labels: [n] int; of several findings an image [n, findings] int, 1 where there is one.
      groups: [n] str.
      config: of the run.

    Returns:
      (train, held out): sorted int arrays of indices.

    Raises:
      UserError: a class has too few groups.
    """
    if not config.folds:
        return train_and_validation(labels, groups, config.validation_fraction, config.seed)
    folds = assign_folds(labels, groups, config.folds, config.seed)  # [n]
    held_out = folds == (-1 if config.fold is None else config.fold)  # no image is in fold -1
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def selects_best(config: TrainConfig) -> bool:
    """Tells if the held-out images select the weights.

    In a cross-validation they do not: they must only score them.
    """
    return config.select == "best" and not config.folds


def train_and_validation(
    labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices by group, with the same share of every class.

    Groups are drawn at random for each class (the commonest of a group counts). Of several draws
    the one with the number of images nearest to `fraction` is used. Of several findings an image
    groups are stratified iteratively.

    Args:
      labels: [n] int, or [n, findings] int.
      groups: [n] str.
      fraction: of the groups and images of each class, in [0, 0.5]; 0 gives an empty validation.
      seed: of the draws.

    Returns:
      (train, validation): sorted int arrays that together hold 0..n-1.

    Raises:
      UserError: a class has a single group, which cannot be on both sides.
    """
    indices = np.arange(len(labels))
    if fraction == 0.0:
        return indices, indices[:0]
    if labels.ndim == 2:
        subsets = _stratify(labels, groups, (1.0 - fraction, fraction), seed)
        return np.flatnonzero(subsets == 0), np.flatnonzero(subsets == 1)
    classes = _class_of_group(labels, groups)  # [n]
    validation = []
    for label in np.unique(classes):
        candidates = indices[classes == label]
        if len(np.unique(groups[candidates])) < 2:
            raise UserError(
                "a class has a single group (patient), so no validation part can be held out by "
                "group; use --validation_fraction=0."
            )
        splitter = GroupShuffleSplit(_DRAWS, test_size=fraction, random_state=seed)
        draws = [draw for _, draw in splitter.split(candidates, groups=groups[candidates])]
        # Patients with many images make single draws uneven; the evenest one is used.
        errors = [abs(len(draw) - fraction * len(candidates)) for draw in draws]
        validation.append(candidates[draws[int(np.argmin(errors))]])
    held_out = np.sort(np.concatenate(validation))
    return np.setdiff1d(indices, held_out), held_out


def assign_folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Assigns whole groups to the folds of a cross-validation, each class evenly.

    Args:
      labels: [n] int, or [n, findings] int.
      groups: [n] str.
      folds: number of folds, 2 or more.
      seed: of the assignment.

    Returns:
      [n] int: the fold in which each image is held out, 0 to folds - 1.

    Raises:
      UserError: a class has fewer groups than there are folds.
    """
    if labels.ndim == 2:
        return _stratify(labels, groups, (1.0 / folds,) * folds, seed)
    classes = _class_of_group(labels, groups)
    smallest = min(len(np.unique(groups[classes == label])) for label in np.unique(classes))
    if smallest < folds:
        raise UserError(
            f"--folds={folds}: a class has only {smallest} groups (patients) in Train; use "
            f"--folds={max(smallest, 2)} or less."
        )
    fold_of_image = np.empty(len(labels), np.int64)  # [n]
    # Greedy: whole groups, and in each fold about the same share of every class.
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        fold_of_image[held_out] = fold
    return fold_of_image


def _stratify(
    labels: np.ndarray, groups: np.ndarray, shares: tuple[float, ...], seed: int
) -> np.ndarray:
    """Assigns images of several findings to subsets, [n] int, by group.

    Raises:
      UserError: there are fewer groups than subsets.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < len(shares):
        raise UserError(
            f"{len(names)} groups (patients) cannot be split into {len(shares)}; use "
            "--validation_fraction=0, or fewer --folds."
        )
    counts = stratification.counts_by_group(labels, groups)
    return stratification.assign(counts, shares, seed)[member]


def _class_of_group(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    # The commonest class in each image's group, [n] int.
    _, member = np.unique(groups, return_inverse=True)  # [n], index of the group
    counts = np.zeros((member.max() + 1, labels.max() + 1), np.int64)  # [groups, classes]
    np.add.at(counts, (member, labels), 1)
    return counts.argmax(axis=1)[member]
