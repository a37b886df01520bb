"""Scores of subgroups: by view, sex, source, age or any other column of groups.csv.

    by_columns(records.columns, predictions)["view"]["PA"]["accuracy"]

Many subgroups mean many comparisons: one of ten intervals lies apart from the rest by chance.
"""

import numpy as np

from trainer.analysis import intervals, metrics
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions

MIN_IMAGES = 20
UNKNOWN = "(not recorded)"
_MAX_DISTINCT = 10  # Numbers with more distinct values are cut into quarters.


def by_columns(
    columns: dict[str, np.ndarray],
    predictions: Predictions,
    threshold: float = 0.5,
) -> dict[str, dict[str, dict]]:
    """Scores the subgroups of each column that tells images apart.

    Args:
      columns: name → [n] str, as `records.Records.columns`; those of a single value are left out.
      predictions: of the images.
      threshold: as in `metrics.scores`.

    Returns:
      column → value → scores, as `by_value` returns them.
    """
    return {
        name: by_value(bin_values(values), predictions, threshold)
        for name, values in columns.items()
        if len(np.unique(values)) > 1
    }


def by_value(
    values: np.ndarray,
    predictions: Predictions,
    threshold: float = 0.5,
) -> dict[str, dict]:
    """Scores the images of each value, the commonest value first.

    Args:
      values: [n] str.
      predictions: of the images.
      threshold: as in `metrics.scores`.

    Returns:
      value → {"n", "groups", "accuracy", "roc_auc", and with two classes "sensitivity",
      "specificity", with more one "sensitivity_NAME" each, of findings "roc_auc_NAME"}. An
      estimate from fewer than 20 images is left blank, and its `why` says so.
    """
    names, counts = np.unique(values, return_counts=True)
    commonest_first = names[np.argsort(-counts, kind="stable")]
    return {
        str(name) or UNKNOWN: _scores(predictions.take(values == name), threshold)
        for name in commonest_first
    }


def bin_values(values: np.ndarray) -> np.ndarray:
    """Cuts a column of many numbers into quarters, named "20 to 41".

    Args:
      values: [n] str; empty where a file has none.

    Returns:
      [n] str; text and empty values are unchanged.
    """
    filled = values != ""
    try:
        numbers = values[filled].astype(np.float64)
    except ValueError:
        return values  # Text.
    if len(np.unique(numbers)) <= _MAX_DISTINCT or not np.isfinite(numbers).all():
        return values
    # Equal quartiles give fewer bins.
    edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75]))
    quarters = np.searchsorted(edges, numbers, "left")
    binned = values.astype(object)  # Names may be longer than the numbers.
    spans = [numbers[quarters == quarter] for quarter in quarters]
    binned[filled] = [f"{span.min():g} to {span.max():g}" for span in spans]
    return binned.astype(str)


def _scores(subgroup: Predictions, threshold: float) -> dict:
    if subgroup.multi_label:
        estimates = metrics.scores(subgroup)
        del estimates["loss"]
    else:
        correct = metrics.predicted_classes(subgroup, threshold) == subgroup.labels
        estimates = {
            "accuracy": intervals.proportion(correct, subgroup.groups),
            "roc_auc": metrics.roc_auc(subgroup),
            **metrics.recalls(subgroup, correct),
        }
    result: dict = {"n": len(subgroup), "groups": len(np.unique(subgroup.groups))}
    why = f"fewer than {MIN_IMAGES} images"
    for name, score in estimates.items():
        few = score.n < MIN_IMAGES and score.value is not None
        blank = Estimate(None, None, None, score.n, score.groups, why)
        result[name] = blank if few else score
    return result
