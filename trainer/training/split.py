"""Carves the validation part out of the training split: by group, stratified by class, the same for one seed."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from trainer.errors import UserError

_SHARES = 20
_DEALS = 20  # Patients with many images make single deals uneven; of this many the evenest is kept.


def train_and_validation(
    labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices so that no group is on both sides and each class keeps its share.

    The split is dealt into 20 stratified shares of whole groups (fewer where a class has fewer groups), as many as come nearest to
    `fraction` become validation, and of several such deals the one nearest to `fraction` in every class is kept.

    Args:
      labels: [n] int.
      groups: [n] str.
      fraction: of the images, in [0, 0.5]; 0 gives an empty validation part.
      seed: of the dealing.

    Returns:
      (train, validation): sorted int arrays that together hold 0..n-1.

    Raises:
      UserError: a class has too few groups to be on both sides.
    """
    everything = np.arange(len(labels))
    if fraction == 0.0:
        return everything, everything[:0]
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    shares = min(_SHARES, fewest)
    if shares < 2:
        raise UserError("a class has a single group (patient), so no validation part can be held out by group; "
                        "use --validation_fraction=0.")
    wanted = fraction * np.bincount(labels)
    taken = min(max(1, round(fraction * shares)), shares - 1)
    deals = [_deal(labels, groups, shares, taken, seed * _DEALS + deal) for deal in range(_DEALS)]
    validation = min(deals, key=lambda part: np.abs(np.bincount(labels[part], minlength=len(wanted)) - wanted).sum())
    return np.setdiff1d(everything, validation), validation


def _deal(labels: np.ndarray, groups: np.ndarray, shares: int, taken: int, state: int) -> np.ndarray:
    dealer = StratifiedGroupKFold(shares, shuffle=True, random_state=state % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # A class with fewer images than shares: seen to by group.
        parts = [part for _, part in dealer.split(labels, labels, groups)]
    return np.sort(np.concatenate(parts[:taken]))
