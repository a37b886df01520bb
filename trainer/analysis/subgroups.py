"""Scores within parts of a split: by view, sex, source, age or whatever a column of groups.csv holds.

Many parts mean many comparisons: that one of ten intervals lies apart from the rest is what chance does.
"""

import numpy as np

from trainer.analysis import intervals, metrics
from trainer.analysis.intervals import Estimate

LEAST = 20
UNKNOWN = "(not recorded)"
_MANY = 10  # Numbers of more distinct values than this are cut into quarters.


def by_columns(
    columns: dict[str, np.ndarray],
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
    threshold: float = 0.5,
) -> dict[str, dict[str, dict]]:
    """Scores by each column that tells images apart: column → value → what `by_value` gives.

    Args:
      columns: name → [n] str, as `records.Records.columns`; columns of a single value are left out.
      labels, probabilities, groups, class_names, positive_class, threshold: as in `metrics.all_scores`.
    """
    return {
        name: by_value(
            parts(values), labels, probabilities, groups, class_names, positive_class, threshold
        )
        for name, values in columns.items()
        if len(np.unique(values)) > 1
    }


def by_value(
    values: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
    threshold: float = 0.5,
) -> dict[str, dict]:
    """Scores of the images of each value, the commonest value first.

    Args:
      values: [n] str.
      labels, probabilities, groups, class_names, positive_class, threshold: as in `metrics.all_scores`.

    Returns:
      value → {"n", "groups", "accuracy", "roc_auc", and with two classes "sensitivity", "specificity", with more one
      "sensitivity_NAME" each}. An estimate from fewer than 20 images is left blank, and its `why` says so.
    """
    right = metrics.called(probabilities, class_names, positive_class, threshold) == labels
    names, counts = np.unique(values, return_counts=True)
    found = {}
    for name in names[np.argsort(-counts, kind="stable")]:
        inside = values == name
        among = labels[inside], probabilities[inside], groups[inside]
        scores = {
            "accuracy": intervals.proportion(right[inside], groups[inside]),
            "roc_auc": metrics.roc_auc(*among, class_names, positive_class),
        }
        for index, class_name in enumerate(class_names):
            part = inside & (labels == index)
            scores[_recall_name(class_name, class_names, positive_class)] = intervals.proportion(
                right[part], groups[part]
            )
        found[str(name) or UNKNOWN] = {
            "n": int(inside.sum()),
            "groups": len(np.unique(groups[inside])),
        } | {key: _blank_if_few(score) for key, score in scores.items()}
    return found


def parts(values: np.ndarray) -> np.ndarray:
    """A column as it is to be split: text as it stands; more than ten distinct numbers cut into quarters, "20 to 41".

    Args:
      values: [n] str; empty where a file has none.

    Returns:
      [n] str; empty stays empty.
    """
    filled = values != ""
    try:
        numbers = values[filled].astype(np.float64)
    except ValueError:
        return values
    if len(np.unique(numbers)) <= _MANY or not np.isfinite(numbers).all():
        return values
    edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75]))
    quarter = np.searchsorted(edges, numbers, "left")
    cut = values.astype(object)
    cut[filled] = [_span(numbers[quarter == number]) for number in quarter]
    return cut.astype(str)


def _span(numbers: np.ndarray) -> str:
    return f"{numbers.min():g} to {numbers.max():g}"


def _recall_name(name: str, class_names: tuple[str, ...], positive_class: str | None) -> str:
    if positive_class is None or len(class_names) != 2:
        return f"sensitivity_{name}"
    return "sensitivity" if name == positive_class else "specificity"


def _blank_if_few(score: Estimate) -> Estimate:
    if score.n >= LEAST or score.value is None:
        return score
    return Estimate(None, None, None, score.n, score.groups, f"fewer than {LEAST} images")
