"""Scores under image weights, evaluated for many resamples at once.

    aucs = weighted.aucs(positive, score)     # a function of weights
    aucs(np.ones((1, len(score))))            # [1]: AUC of all images

Row r of the weights [r, n] counts how often each image is in resample r.
"""

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]  # Weights [r, n] to values [r].


def aucs(positive: np.ndarray, score: np.ndarray) -> Statistic:
    """Builds the function from weights to ROC AUCs; ties count half.

    Args:
      positive: [n] bool.
      score: [n] float.

    Returns:
      weights [r, n] → AUC [r]; NaN where a class has no weight.
    """

    def statistic(weights: np.ndarray) -> np.ndarray:
        positives, negatives = _weight_at_scores(weights, positive, score)
        lower = np.cumsum(negatives, axis=1) - negatives / 2  # Negatives ranked lower.
        # Pairs of a positive and a negative, all of them and those ranked correctly.
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        return _ratio((positives * lower).sum(axis=1), pairs, pairs > 0)

    return statistic


def average_precisions(positive: np.ndarray, score: np.ndarray) -> Statistic:
    """Builds the function from weights to average precisions, summed over distinct scores.

    Args:
      positive: [n] bool.
      score: [n] float.

    Returns:
      weights [r, n] → average precision [r]; NaN where a class has no weight.
    """

    def statistic(weights: np.ndarray) -> np.ndarray:
        positives, negatives = _weight_at_scores(weights, positive, -score)
        hits = np.cumsum(positives, axis=1)
        # Positives, and all images, from the highest score down to each.
        selected = np.cumsum(positives + negatives, axis=1)
        precision = np.divide(hits, selected, out=np.zeros_like(hits), where=selected > 0)
        return _ratio(
            (positives * precision).sum(axis=1),
            positives.sum(axis=1),
            np.logical_and(positives.any(axis=1), negatives.any(axis=1)),
        )

    return statistic


def correlations(
    hits: np.ndarray,
    labelled: np.ndarray,
    predicted: np.ndarray,
) -> np.ndarray:
    """Computes Matthews' correlation for any number of classes.

    Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006.

    Args:
      hits: [r] float, weight of the correct images.
      labelled: [r, classes] float, weight of each true class.
      predicted: [r, classes] float, weight of each predicted class.

    Returns:
      [r] float in -1..1; NaN where labels or predictions are constant.
    """
    total = labelled.sum(axis=1)  # [r]
    label_spread = total**2 - (labelled**2).sum(axis=1)
    prediction_spread = total**2 - (predicted**2).sum(axis=1)
    scale = np.sqrt(label_spread * prediction_spread)
    covariance = hits * total - (labelled * predicted).sum(axis=1)
    return _ratio(covariance, scale, scale > 0)


def _ratio(
    numerator: np.ndarray,
    denominator: np.ndarray,
    valid: np.ndarray,
) -> np.ndarray:
    # NaN where it is not valid.
    return np.divide(numerator, denominator, out=np.full(len(valid), np.nan), where=valid)


def _weight_at_scores(
    weights: np.ndarray,
    positive: np.ndarray,
    score: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums the weights of positives and negatives at each score, [r, scores], rising."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    ranked = weights[:, order]  # [r, n]
    is_positive = positive[order]
    return (
        np.add.reduceat(ranked * is_positive, starts, axis=1),
        np.add.reduceat(ranked * ~is_positive, starts, axis=1),
    )
