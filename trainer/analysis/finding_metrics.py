"""Scores of a classifier of several findings an image: of each finding, and their means.

scores(predictions)["roc_auc"]            # macro: the mean over findings with 20 positives or more
scores(predictions)["roc_auc_Effusion"]
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from trainer.analysis import clusters, intervals, weighted
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions, log_losses

MIN_POSITIVES = 20
"""Positive images that a finding needs to count in a macro score."""

_RESAMPLES = 1000

# Positive [n] bool and score [n] → a statistic of weights.
_Score = Callable[[np.ndarray, np.ndarray], weighted.Statistic]


def scores(predictions: Predictions, detailed: bool = False) -> dict[str, Estimate]:
    """Scores predictions of several findings an image.

    Args:
      predictions: of the split.
      detailed: returns pr_auc and brier besides.

    Returns:
      accuracy (share of the known labels predicted correctly at one half), loss (mean binary
      cross-entropy in nats; log_loss if detailed), roc_auc (macro), roc_auc_NAME of each finding;
      pr_auc (macro average precision) and brier (mean over findings).
    """
    loss = intervals.mean(
        log_losses(predictions.labels, predictions.probabilities), predictions.groups
    )
    aucs = {f"roc_auc_{name}": auc for name, auc in each_auc(predictions).items()}
    result = {"accuracy": accuracy(predictions)}
    if not detailed:
        return {**result, "loss": loss, "roc_auc": macro_auc(predictions), **aucs}
    labelled = predictions.labels >= 0  # [n, findings]
    errors = (predictions.probabilities - (predictions.labels == 1)) ** 2 * labelled
    brier = errors.sum(axis=1) / np.maximum(labelled.sum(axis=1), 1)  # [n]
    return {
        **result,
        "roc_auc": macro_auc(predictions),
        "pr_auc": _macro(predictions, weighted.average_precisions),
        "log_loss": loss,
        "brier": intervals.mean(brier, predictions.groups),
        **aucs,
    }


def accuracy(predictions: Predictions) -> Estimate:
    """Estimates the share of known labels that are predicted correctly at one half."""
    labelled = predictions.labels >= 0  # [n, findings]
    correct = predictions.predicted == predictions.labels
    # Labels of one patient are not independent, whatever the finding.
    groups = np.repeat(predictions.groups, labelled.sum(axis=1))
    share = intervals.proportion(correct[labelled], groups)
    return dataclasses.replace(share, n=len(predictions))


def each_auc(predictions: Predictions) -> dict[str, Estimate]:
    """Estimates the ROC AUC of each finding, by its name."""
    return {
        name: intervals.auc(finding.positive, finding.positive_probabilities, finding.groups)
        for name, finding in predictions.findings().items()
    }


def macro_auc(predictions: Predictions) -> Estimate:
    """Estimates the mean ROC AUC of the findings with at least 20 positive images."""
    return _macro(predictions, weighted.aucs)


def macro_statistic(predictions: Predictions, score: _Score) -> weighted.Statistic:
    """Builds the function from weights [r, n] to macro scores [r].

    Args:
      predictions: with at least one finding that counts.
      score: of one finding, e.g. `weighted.aucs`.
    """
    statistics = []
    for index in _counted(predictions):
        labelled = predictions.labels[:, index] >= 0
        positive = predictions.labels[labelled, index] == 1
        statistics.append((labelled, score(positive, predictions.probabilities[labelled, index])))
    return lambda weights: np.mean(
        [statistic(weights[:, labelled]) for labelled, statistic in statistics], axis=0
    )


def _counted(predictions: Predictions) -> np.ndarray:
    """Returns the indices of the findings that count in a macro score."""
    positives = (predictions.labels == 1).sum(axis=0)
    negatives = (predictions.labels == 0).sum(axis=0)
    return np.flatnonzero((positives >= MIN_POSITIVES) & (negatives > 0))


def _macro(predictions: Predictions, score: _Score) -> Estimate:
    groups = predictions.groups
    if not len(_counted(predictions)):
        return intervals.missing(f"no finding has {MIN_POSITIVES} positive images", groups)
    statistic = macro_statistic(predictions, score)
    value = float(statistic(np.ones((1, len(groups))))[0])  # Of all images, once each.
    samples = intervals.resample(statistic, groups, 0, _RESAMPLES)
    size = clusters.effective_count(predictions.correct, groups)
    return intervals.estimate(value, intervals.bounded(value, samples, size), groups)
