"""Scores of a classifier on one split, each with its interval: arrays in, plain dicts out."""

import dataclasses
from collections.abc import Callable

import numpy as np

from trainer.analysis import calibration, intervals
from trainer.analysis.intervals import Estimate

_RESAMPLES = 1000
_LEAST = 1e-7  # Probabilities below this count as this in the log-loss, so that one zero does not make it infinite.


def scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
) -> dict[str, Estimate]:
    """Accuracy, loss, ROC AUC, and sensitivity and specificity (two classes) or each class's sensitivity (more).

    Args:
      labels: [n] int, indices into `class_names`.
      probabilities: [n, classes] float, rows summing to 1.
      groups: [n] str, the patients or duplicate clusters that intervals go by.
      class_names: in label order.
      positive_class: the class that sensitivity speaks of, for sets of two classes; None otherwise.

    Returns:
      name → estimate; loss is the cross-entropy in nats; everything else lies in 0..1.
    """
    right = probabilities.argmax(axis=1) == labels
    found = {
        "accuracy": intervals.proportion(right, groups),
        "loss": intervals.mean(-np.log(_own(labels, probabilities)), groups),
        "roc_auc": roc_auc(labels, probabilities, groups, class_names, positive_class),
    }
    if positive_class is None or len(class_names) != 2:
        return found | {
            f"sensitivity_{name}": _recall(right, labels == index, groups)
            for index, name in enumerate(class_names)
        }
    positive = labels == class_names.index(positive_class)
    return found | {
        "sensitivity": _recall(right, positive, groups),
        "specificity": _recall(right, ~positive, groups),
    }


def roc_auc(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
) -> Estimate:
    """The area under the ROC curve: of the positive class, or with more classes the mean of each against the rest.

    The arguments are those of `scores`. Intervals: `intervals.area` for two classes, else a bootstrap of groups.
    """
    if len(np.unique(labels)) < len(class_names):
        return intervals.none("a class is missing from this split", groups)
    if len(class_names) == 2:
        index = class_names.index(positive_class) if positive_class else 1
        return intervals.area(labels == index, probabilities[:, index], groups)
    areas = one_against_rest(labels, probabilities)
    drawn, whole = _draw(lambda weights: {"": areas(weights)}, groups, seed=0)
    size = intervals.effective_count(labels == probabilities.argmax(axis=1), groups)
    return Estimate(
        whole[""],
        *intervals.bounded(whole[""], drawn[""], size),
        len(labels),
        len(np.unique(groups)),
    )


def all_scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
    threshold: float = 0.5,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Everything a report says of a split.

    With two classes (`positive_class` given): accuracy, balanced_accuracy, sensitivity, specificity, ppv, npv, f1, mcc,
    roc_auc, pr_auc (average precision), log_loss, brier, ece and ece_if_calibrated, of images called positive from `threshold`
    on. With more: the same without sensitivity, specificity, ppv, npv and f1; each class's sensitivity; macro_f1; roc_auc and
    pr_auc are means of each class against the rest. The most probable class is taken and `threshold` is not used.

    Intervals: Wilson's at the effective count for proportions, and for F1 through the Jaccard index, a proportion that it is a
    function of (Lam, Gopal & Qian 2023, arXiv:2309.14621); for balanced accuracy its parts' combined (Zou & Donner 2008,
    doi:10.1002/sim.2986); `intervals.area` and `intervals.mean` for areas and losses; the rest from shared resamples of groups.

    Args:
      labels, probabilities, groups, class_names, positive_class: as in `scores`.
      threshold: the probability from which on an image is called positive.
      seed: of the resampling.

    Returns:
      name → estimate. log_loss in nats; brier halved, so that it lies in 0..1 for any number of classes; ece is debiased and
      ece_if_calibrated the median and the 95 % band it would show were the probabilities right (`calibration`); mcc in -1..1.
    """
    if len(labels) == 0:
        return {"accuracy": intervals.none("no image in this split", groups)}
    predicted = called(probabilities, class_names, positive_class, threshold)
    drawn, whole = _draw(
        _statistics(labels, predicted, probabilities, class_names, positive_class), groups, seed
    )
    found = _proportions(labels, predicted, groups, class_names, positive_class)
    found["roc_auc"] = roc_auc(labels, probabilities, groups, class_names, positive_class)
    found["log_loss"] = intervals.mean(-np.log(_own(labels, probabilities)), groups)
    found["brier"] = _brier(labels, probabilities, groups)
    size = intervals.effective_count(labels == predicted, groups)
    for name, value in whole.items():
        if np.isnan(value) or len(np.unique(groups)) < 2:
            found[name] = intervals.none(
                "one class or one group only, or every image called the same", groups
            )
            continue
        shift, scale = (-1.0, 2.0) if name == "mcc" else (0.0, 1.0)
        low, high = intervals.bounded((value - shift) / scale, (drawn[name] - shift) / scale, size)
        found[name] = Estimate(
            value, shift + scale * low, shift + scale * high, len(labels), len(np.unique(groups))
        )
    return found | calibration.errors(
        labels, probabilities, groups, class_names, positive_class, seed
    )


def called(
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
    threshold: float = 0.5,
) -> np.ndarray:
    """The class each image is given, [n] int: the positive one from `threshold` on, or with more classes the most probable."""
    if positive_class is None or len(class_names) != 2:
        return probabilities.argmax(axis=1)
    index = class_names.index(positive_class)
    return np.where(probabilities[:, index] >= threshold, index, 1 - index)


def weighted_areas(positive: np.ndarray, score: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from weights [r, n] to areas under the ROC curve [r]; NaN where a class has no weight. Ties count half.

    Takes `positive` [n] bool and `score` [n] float.
    """
    order, starts = _ranking(score)

    def areas(weights: np.ndarray) -> np.ndarray:
        ours, others = _by_score(weights, positive, order, starts)
        below = np.cumsum(others, axis=1) - others / 2
        pairs = ours.sum(axis=1) * others.sum(axis=1)
        return np.divide(
            (ours * below).sum(axis=1), pairs, out=np.full(len(weights), np.nan), where=pairs > 0
        )

    return areas


def one_against_rest(
    labels: np.ndarray, probabilities: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from weights [r, n] to the mean over all classes of the area of each against the rest, [r]."""
    each = [
        weighted_areas(labels == index, probabilities[:, index])
        for index in range(probabilities.shape[1])
    ]
    return lambda weights: np.mean([areas(weights) for areas in each], axis=0)


def weighted_precisions(
    positive: np.ndarray, score: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from weights [r, n] to average precisions [r], summed over distinct scores; NaN where a class has no weight.

    Takes `positive` [n] bool and `score` [n] float.
    """
    order, starts = _ranking(-score)

    def precisions(weights: np.ndarray) -> np.ndarray:
        ours, others = _by_score(weights, positive, order, starts)
        found, called = np.cumsum(ours, axis=1), np.cumsum(ours + others, axis=1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        total, both = ours.sum(axis=1), ours.any(axis=1) & others.any(axis=1)
        return np.divide(
            (ours * precision).sum(axis=1), total, out=np.full(len(weights), np.nan), where=both
        )

    return precisions


def _own(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), _LEAST, 1.0)


def _brier(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray) -> Estimate:
    wrong = probabilities - np.eye(probabilities.shape[1])[labels]
    score = intervals.mean((wrong**2).sum(axis=1) / 2, groups)
    return score if score.value is None else dataclasses.replace(score, high=min(score.high, 1.0))


def _recall(right: np.ndarray, among: np.ndarray, groups: np.ndarray) -> Estimate:
    return intervals.proportion(right[among], groups[among])


def _proportions(
    labels: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
) -> dict[str, Estimate]:
    right = labels == predicted
    recalls = [_recall(right, labels == index, groups) for index in range(len(class_names))]
    found = {
        "accuracy": intervals.proportion(right, groups),
        "balanced_accuracy": _mean_of(recalls, groups),
    }
    if positive_class is None or len(class_names) != 2:
        return found | {
            f"sensitivity_{name}": recall for name, recall in zip(class_names, recalls, strict=True)
        }
    index = class_names.index(positive_class)
    return found | {
        "sensitivity": recalls[index],
        "specificity": recalls[1 - index],
        "ppv": _recall(right, predicted == index, groups),
        "npv": _recall(right, predicted != index, groups),
        "f1": _f1(labels == index, predicted == index, groups),
    }


def _f1(positive: np.ndarray, called_positive: np.ndarray, groups: np.ndarray) -> Estimate:
    jaccard = _recall(positive & called_positive, positive | called_positive, groups)
    if jaccard.value is None:
        return jaccard
    value, low, high = (
        2 * share / (1 + share) for share in (jaccard.value, jaccard.low, jaccard.high)
    )
    return Estimate(value, low, high, jaccard.n, jaccard.groups)


def _mean_of(parts: list[Estimate], groups: np.ndarray) -> Estimate:
    if any(part.value is None for part in parts):
        return intervals.none("a class is missing from this split", groups)
    value = float(np.mean([part.value for part in parts]))
    below = np.linalg.norm([part.value - part.low for part in parts]) / len(parts)
    above = np.linalg.norm([part.high - part.value for part in parts]) / len(parts)
    return Estimate(
        value, float(value - below), float(value + above), len(groups), len(np.unique(groups))
    )


def _draw(
    statistics: Callable[[np.ndarray], dict[str, np.ndarray]], groups: np.ndarray, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The statistics on resamples of groups, and on all data."""
    whole = statistics(np.ones((1, len(groups))))
    return intervals.resample(statistics, groups, seed, _RESAMPLES), {
        name: float(values[0]) for name, values in whole.items()
    }


def _statistics(
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What is bootstrapped, as a function from weights [r, n] to name → [r]; NaN where a resample gives no number."""
    classes = (
        range(len(class_names)) if positive_class is None else [class_names.index(positive_class)]
    )
    precisions = [
        weighted_precisions(labels == index, probabilities[:, index]) for index in classes
    ]
    true, said = np.eye(len(class_names))[labels], np.eye(len(class_names))[predicted]

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        found = {"pr_auc": np.mean([each(weights) for each in precisions], axis=0)}
        hits, trues, saids = weights @ (true * said), weights @ true, weights @ said
        found["mcc"] = _correlation(hits.sum(axis=1), trues, saids)
        if positive_class is None:
            each_f1 = 2 * hits / np.maximum(trues + saids, 1)
            found["macro_f1"] = np.where((trues > 0).all(axis=1), each_f1.mean(axis=1), np.nan)
        return found

    return statistics


def _correlation(hits: np.ndarray, trues: np.ndarray, saids: np.ndarray) -> np.ndarray:
    """Matthews' correlation for any number of classes (Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006).

    Takes the weight of right answers [r] and of each true and each given class [r, classes]; NaN where either is constant.
    """
    total = trues.sum(axis=1)
    scale = np.sqrt((total**2 - (trues**2).sum(axis=1)) * (total**2 - (saids**2).sum(axis=1)))
    return np.divide(
        hits * total - (trues * saids).sum(axis=1),
        scale,
        out=np.full(len(scale), np.nan),
        where=scale > 0,
    )


def _ranking(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of rising scores, and where in it each distinct score begins."""
    order = np.argsort(score, kind="stable")
    return order, np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])


def _by_score(
    weights: np.ndarray, positive: np.ndarray, order: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weight of positives and of the others at each distinct score, [r, scores] each."""
    ranked, is_positive = weights[:, order], positive[order]
    return np.add.reduceat(ranked * is_positive, starts, axis=1), np.add.reduceat(
        ranked * ~is_positive, starts, axis=1
    )
