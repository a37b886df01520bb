"""Scores of a classifier on one split, each with its interval: arrays in, plain dicts out."""

import numpy as np
from sklearn import metrics as sk

from trainer.evidence import intervals
from trainer.evidence.intervals import Estimate


def scores(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, class_names: tuple[str, ...], positive_class: str | None
) -> dict[str, Estimate]:
    """Accuracy, loss, ROC AUC, and sensitivity and specificity (two classes) or each class's sensitivity (more).

    Args:
      labels: [n] int, indices into `class_names`.
      probabilities: [n, classes] float, rows summing to 1.
      groups: [n] str, the patients or duplicate clusters that intervals resample.
      class_names: in label order.
      positive_class: the class that sensitivity speaks of, for sets of two classes; None otherwise.

    Returns:
      name → estimate; loss is the cross-entropy in nats; everything else lies in 0..1.
    """
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    own = np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), 1e-7, 1.0)
    found = {
        "accuracy": intervals.proportion(right, groups),
        "loss": intervals.mean(-np.log(own), groups),
        "roc_auc": roc_auc(labels, probabilities, groups, class_names, positive_class),
    }
    if positive_class is None or len(class_names) != 2:
        return found | {f"sensitivity_{name}": _recall(right, labels == index, groups)
                        for index, name in enumerate(class_names)}
    positive = labels == class_names.index(positive_class)
    return found | {"sensitivity": _recall(right, positive, groups), "specificity": _recall(right, ~positive, groups)}


def roc_auc(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, class_names: tuple[str, ...], positive_class: str | None
) -> Estimate:
    """The area under the ROC curve: of the positive class, or with more classes the mean of each against the rest.

    The arguments are those of `scores`. Intervals: Newcombe's where every group is one image, else over groups.
    """
    n, count = len(labels), len(np.unique(groups))
    if len(np.unique(labels)) < len(class_names):
        return Estimate(None, None, None, n, count, "a class is missing from this split")
    if len(class_names) == 2:
        index = class_names.index(positive_class) if positive_class else 1
        positive, score = labels == index, probabilities[:, index]
        value = float(sk.roc_auc_score(positive, score))
        return Estimate(value, *_auc_interval(value, positive, score, groups), n, count)

    def macro(weights: np.ndarray) -> float:
        drawn = weights > 0
        if len(np.unique(labels[drawn])) < len(class_names):
            return np.nan
        return np.mean([sk.roc_auc_score(labels == index, probabilities[:, index], sample_weight=weights)
                        for index in range(len(class_names))])

    return Estimate(float(macro(np.ones(n))), *intervals.bootstrap(macro, groups, resamples=300), n, count)


def _auc_interval(value: float, positive: np.ndarray, score: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    counts = len(np.unique(groups[positive])), len(np.unique(groups[~positive]))
    if sum(counts) == len(groups):
        return intervals.auc_score_interval(value, *counts)

    def area(weights: np.ndarray) -> float:
        drawn = weights > 0
        if positive[drawn].all() or not positive[drawn].any():
            return np.nan
        return sk.roc_auc_score(positive, score, sample_weight=weights)

    low, high = intervals.bootstrap(area, groups)
    # At an area of 1 no resample can show an error: count each group once instead.
    return intervals.auc_score_interval(value, *counts) if high - low < 1e-9 else (low, high)


def _recall(right: np.ndarray, among: np.ndarray, groups: np.ndarray) -> Estimate:
    return intervals.proportion(right[among], groups[among])
