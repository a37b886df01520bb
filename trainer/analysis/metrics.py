"""Scores of a classifier on one split, each with its 95 % interval.

scores(predictions)                  # accuracy, loss, ROC AUC, sensitivity, specificity
scores(predictions, detailed=True)   # all scores of the report
"""

import dataclasses
import functools

import numpy as np

from trainer.analysis import calibration, clusters, finding_metrics, intervals, weighted
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions, log_losses

_RESAMPLES = 1000


def scores(
    predictions: Predictions,
    *,
    detailed: bool = False,
    threshold: float = 0.5,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Scores predictions.

    Basic scores take the most probable class: accuracy, loss (cross-entropy in nats), roc_auc;
    with two classes sensitivity and specificity, with more sensitivity_NAME of each class.

    Detailed scores with two classes: accuracy, balanced_accuracy, sensitivity, specificity, ppv,
    npv, f1, mcc, roc_auc, pr_auc (average precision), log_loss, brier, ece and ece_if_calibrated.
    With more classes: the same without sensitivity, specificity, ppv, npv and f1, but with
    sensitivity_NAME of each class and macro_f1; roc_auc and pr_auc are means of each class against
    the rest, and `threshold` is not used.

    Of several findings an image: those of `finding_metrics.scores`.

    Intervals of detailed scores: Wilson's at the effective count for proportions, and for F1
    through the Jaccard index, a proportion that it is a function of (Lam, Gopal & Qian 2023,
    arXiv:2309.14621); for balanced accuracy those of the recalls, combined (Zou & Donner 2008,
    doi:10.1002/sim.2986); `intervals.auc` and `intervals.mean` for ROC AUC and losses; the rest
    from shared resamples of groups.

    Args:
      predictions: of the split.
      detailed: returns the detailed scores.
      threshold: the probability from which on an image is called positive (detailed scores only).
      seed: of the resampling.

    Returns:
      name → estimate. Losses are in nats, mcc lies in -1..1, all others in 0..1: brier is halved,
      ece is debiased, and ece_if_calibrated is the median and the 95 % band that ece would have
      were the probabilities calibrated (`calibration`).
    """
    if predictions.multi_label:
        return finding_metrics.scores(predictions, detailed=detailed)
    if detailed:
        return _detailed_scores(predictions, threshold, seed)
    return {
        "accuracy": intervals.proportion(predictions.correct, predictions.groups),
        "loss": _log_loss(predictions),
        "roc_auc": roc_auc(predictions),
        **_specificity_last(recalls(predictions, predictions.correct)),
    }


def roc_auc(predictions: Predictions) -> Estimate:
    """Estimates the ROC AUC.

    With more than two classes it is the mean AUC of each class against the rest; of several
    findings that of `finding_metrics.macro_auc`.

    Intervals: `intervals.auc` for two classes, else a bootstrap of groups.
    """
    if predictions.multi_label:
        return finding_metrics.macro_auc(predictions)
    groups = predictions.groups
    if len(np.unique(predictions.labels)) < len(predictions.class_names):
        return intervals.missing("a class is missing from this split", groups)
    if len(predictions.class_names) == 2:
        index = _auc_index(predictions)
        return intervals.auc(
            predictions.labels == index,
            predictions.probabilities[:, index],
            groups,
        )
    aucs = auc_statistic(predictions)
    samples = intervals.resample(aucs, groups, 0, _RESAMPLES)
    value = float(aucs(np.ones((1, len(groups))))[0])  # Of all images, once each.
    bounds = intervals.bounded(
        value,
        samples,
        clusters.effective_count(predictions.correct, groups),
    )
    return intervals.estimate(value, bounds, groups)


def auc_statistic(predictions: Predictions) -> weighted.Statistic:
    """Builds the function from weights [r, n] to ROC AUCs [r] as `roc_auc`."""
    if predictions.multi_label:
        return finding_metrics.macro_statistic(predictions, weighted.aucs)
    several = len(predictions.class_names) > 2
    # Each class against the rest, or the positive class alone.
    classes = range(len(predictions.class_names)) if several else [_auc_index(predictions)]
    aucs = [
        weighted.aucs(predictions.labels == index, predictions.probabilities[:, index])
        for index in classes
    ]
    return lambda weights: np.mean([auc(weights) for auc in aucs], axis=0)


def predicted_classes(predictions: Predictions, threshold: float = 0.5) -> np.ndarray:
    """Returns the class of each image, [n] int.

    That is the positive one from `threshold` on, or with more classes the most probable.
    """
    index = predictions.positive_index
    if index is None:
        return predictions.predicted
    return np.where(predictions.positive_probabilities >= threshold, index, 1 - index)


def recalls(predictions: Predictions, correct: np.ndarray) -> dict[str, Estimate]:
    """Estimates the recall of each class, in label order.

    Args:
      predictions: of the split.
      correct: [n] bool, whether the class predicted at some threshold is the true one.

    Returns:
      specificity and sensitivity; without a positive class sensitivity_NAME of each class.
    """
    names = [f"sensitivity_{name}" for name in predictions.class_names]
    if predictions.positive_index is not None:
        names = ["specificity", "specificity"]
        names[predictions.positive_index] = "sensitivity"
    return {
        name: _share(correct, predictions.labels == index, predictions.groups)
        for index, name in enumerate(names)
    }


def _detailed_scores(
    predictions: Predictions,
    threshold: float,
    seed: int,
) -> dict[str, Estimate]:
    if len(predictions) == 0:
        return {"accuracy": intervals.missing("no image in this split", predictions.groups)}
    predicted = predicted_classes(predictions, threshold)
    return {
        **_proportions(predictions, predicted),
        "roc_auc": roc_auc(predictions),
        "log_loss": _log_loss(predictions),
        "brier": _brier(predictions),
        **_resampled_scores(predictions, predicted, seed),
        **calibration.errors(predictions, seed),
    }


def _auc_index(predictions: Predictions) -> int:
    # Of the ROC curve with two classes: the positive one, else the second.
    return 1 if predictions.positive_index is None else predictions.positive_index


def _specificity_last(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    return dict(sorted(estimates.items(), key=lambda item: item[0] == "specificity"))


def _log_loss(predictions: Predictions) -> Estimate:
    losses = log_losses(predictions.labels, predictions.probabilities)
    return intervals.mean(losses, predictions.groups)


def _brier(predictions: Predictions) -> Estimate:
    one_hot = np.eye(predictions.probabilities.shape[1])
    error = predictions.probabilities - one_hot[predictions.labels]  # [n, classes]
    score = intervals.mean((error**2).sum(axis=1) / 2, predictions.groups)
    return score if score.high is None else dataclasses.replace(score, high=min(score.high, 1.0))


def _share(
    hits: np.ndarray,
    among: np.ndarray,
    groups: np.ndarray,
) -> Estimate:
    """Estimates the share of hits ([n] bool) among some images ([n] bool)."""
    return intervals.proportion(hits[among], groups[among])


def _proportions(predictions: Predictions, predicted: np.ndarray) -> dict[str, Estimate]:
    # Scores that are shares of images, or functions of such shares.
    groups = predictions.groups
    correct = predictions.labels == predicted  # [n]
    by_class = recalls(predictions, correct)
    result = {
        "accuracy": intervals.proportion(correct, groups),
        "balanced_accuracy": _mean_of(list(by_class.values()), groups),
        **_specificity_last(by_class),
    }
    if predictions.positive_index is not None:
        called = predicted == predictions.positive_index  # [n]
        result["ppv"] = _share(correct, called, groups)
        result["npv"] = _share(correct, ~called, groups)
        positive = predictions.positive
        jaccard = _share(positive & called, positive | called, groups)
        result["f1"] = jaccard
        if jaccard.value is not None:
            # F1 rises with the Jaccard index, so its bounds carry over.
            value, low, high = (2 * share / (1 + share) for share in jaccard.numbers())
            result["f1"] = dataclasses.replace(
                jaccard,
                value=value,
                low=low,
                high=high,
            )
    return result


def _mean_of(estimates: list[Estimate], groups: np.ndarray) -> Estimate:
    if any(each.value is None for each in estimates):
        return intervals.missing("a class is missing from this split", groups)
    values, lows, highs = np.array([each.numbers() for each in estimates]).T  # [classes] each
    value = float(np.mean(values))
    # Independent errors add up as squares.
    below = np.linalg.norm(values - lows) / len(estimates)
    above = np.linalg.norm(highs - values) / len(estimates)
    return intervals.estimate(value, (float(value - below), float(value + above)), groups)


def _resampled_scores(
    predictions: Predictions,
    predicted: np.ndarray,
    seed: int,
) -> dict[str, Estimate]:
    # pr_auc, mcc and macro_f1: their intervals come from resamples of groups.
    groups = predictions.groups
    statistics = functools.partial(_resampled, predictions=predictions, predicted=predicted)
    values = statistics(np.ones((1, len(groups))))[:, 0].tolist()  # Of all images, once each.
    samples = intervals.resample(statistics, groups, seed, _RESAMPLES)  # [3, resamples]
    size = clusters.effective_count(predictions.labels == predicted, groups)
    result = {}
    for name, value, row in zip(
        ("pr_auc", "mcc", "macro_f1"),
        values,
        samples,
        strict=True,
    ):
        if np.isnan(value) or len(np.unique(groups)) < 2:
            result[name] = intervals.missing(
                "one class or one group only, or every image called the same",
                groups,
            )
            continue
        # `bounded` needs a score in 0..1: the correlation lies in -1..1.
        shift, scale = (-1.0, 2.0) if name == "mcc" else (0.0, 1.0)
        low, high = intervals.bounded((value - shift) / scale, (row - shift) / scale, size)
        result[name] = intervals.estimate(
            value,
            (shift + scale * low, shift + scale * high),
            groups,
        )
    if predictions.positive_index is not None:
        del result["macro_f1"]  # The F1 of the positive class is reported instead.
    return result


def _resampled(
    weights: np.ndarray,
    predictions: Predictions,
    predicted: np.ndarray,
) -> np.ndarray:
    """Computes pr_auc, mcc and macro_f1: weights [r, n] → [3, r]; NaN where there is none."""
    index = predictions.positive_index
    # The mean over all classes, or the positive class alone.
    classes = range(len(predictions.class_names)) if index is None else [index]
    precisions = [
        weighted.average_precisions(
            predictions.labels == label,
            predictions.probabilities[:, label],
        )(weights)
        for label in classes
    ]
    one_hot = np.eye(len(predictions.class_names))
    truth = one_hot[predictions.labels]  # [n, classes]
    called = one_hot[predicted]  # [n, classes]
    hits = weights @ (truth * called)  # [r, classes]
    true_weight = weights @ truth  # [r, classes]
    called_weight = weights @ called  # [r, classes]
    f1 = 2 * hits / np.maximum(true_weight + called_weight, 1)
    return np.stack(
        [
            np.mean(precisions, axis=0),
            weighted.correlations(hits.sum(axis=1), true_weight, called_weight),
            # Of resamples that hold every class.
            np.where((true_weight > 0).all(axis=1), f1.mean(axis=1), np.nan),
        ]
    )
