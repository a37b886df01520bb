"""Decision thresholds for two classes, and their scores on another split.

    chosen = choose(positive, score, groups, "validation")
    apply(chosen, test_positive, test_score, test_groups)["youden"]["sensitivity"]

An image is called positive from the threshold on. Thresholds are chosen on out-of-fold or
validation predictions, never on the split they are reported for.
"""

import numpy as np

from trainer.analysis import clusters, intervals
from trainer.analysis.intervals import Estimate, Z

SENSITIVITY = 0.95
PREVALENCES = (0.01, 0.05, 0.20, 0.50)
# Below 20 positives no share but 1 reaches 0.95.
_MIN_POSITIVES = int(np.ceil(1 / (1 - SENSITIVITY)))


def choose(
    positive: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
    chosen_on: str,
) -> dict[str, dict]:
    """Chooses thresholds: one half, the best by Youden (1950), the highest with 0.95 sensitivity.

    Youden's has the greatest sensitivity + specificity. A threshold lies halfway between the scores
    that it separates; of equally good ones the nearest to one half is taken.

    Args:
      positive: [n] bool.
      score: [n] float in 0..1, the probability of the positive class.
      groups: [n] str.
      chosen_on: name of these predictions ("out-of-fold", "validation"), for the result.

    Returns:
      half, youden, sensitivity_95 → {"threshold": float or None, "sensitivity", "specificity":
      Estimate on these predictions (optimistic for the chosen ones), "chosen_on", "n", "why":
      empty, or the reason that there is no threshold}.
    """
    positive = np.asarray(positive, bool)
    score = np.asarray(score, np.float64)
    return {
        name: {
            "threshold": threshold,
            **operating_point(threshold, positive, score, groups, why),
            "chosen_on": chosen_on,
            "n": len(positive),
            "why": why,
        }
        for name, (threshold, why) in _choices(positive, score).items()
    }


def unsure_band(
    positive: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
) -> list[float] | None:
    """Returns the probabilities between which a model should say it is unsure.

    Above the highest threshold with 0.95 sensitivity a negative answer misses too many; below the
    lowest with 0.95 specificity a positive one is wrong too often.

    Args:
      positive: [n] bool, of held-out predictions.
      score: [n] float in 0..1.
      groups: [n] str.

    Returns:
      [low, high], equal where one threshold has both; None where these predictions cannot tell.
    """
    negative = ~np.asarray(positive, bool)
    sensitive = choose(positive, score, groups, "")["sensitivity_95"]["threshold"]
    # Specificity is the sensitivity for the other class.
    specific = choose(negative, 1.0 - np.asarray(score), groups, "")["sensitivity_95"]["threshold"]
    if sensitive is None or specific is None:
        return None
    high = 1.0 - specific
    return [sensitive, high] if sensitive < high else [(sensitive + high) / 2] * 2


def operating_point(
    threshold: float | None,
    positive: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
    why: str = "",
) -> dict[str, Estimate]:
    """Estimates sensitivity and specificity of a threshold.

    Args:
      threshold: in 0..1; None gives estimates without a number.
      positive: [n] bool.
      score: [n] float in 0..1.
      groups: [n] str.
      why: the reason that there is no threshold.
    """
    if threshold is None:
        missing = intervals.missing(why, groups)
        return {"sensitivity": missing, "specificity": missing}
    positive = np.asarray(positive, bool)
    called = np.asarray(score) >= threshold
    return {
        "sensitivity": intervals.proportion(called[positive], groups[positive]),
        "specificity": intervals.proportion(~called[~positive], groups[~positive]),
    }


def apply(
    thresholds: dict[str, dict],
    positive: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
) -> dict[str, dict[str, Estimate]]:
    """Scores thresholds that `choose` chose on one split on another.

    Args:
      thresholds: as `choose` returns them.
      positive: [n] bool, of the other split.
      score: [n] float in 0..1.
      groups: [n] str.

    Returns:
      name → {"sensitivity", "specificity"}, without a number where there is no threshold.
    """
    return {
        name: operating_point(chosen["threshold"], positive, score, groups, chosen["why"])
        for name, chosen in thresholds.items()
    }


def predictive_values(
    positive: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
    threshold: float = 0.5,
    prevalences: tuple[float, ...] = PREVALENCES,
) -> dict[str, dict[str, Estimate]]:
    """Estimates PPV and NPV at stated prevalences from sensitivity and specificity.

    Sensitivity and specificity are assumed to carry over to the other prevalence, which a test on
    sicker or healthier patients seldom grants.

    Args:
      positive: [n] bool.
      score: [n] float in 0..1.
      groups: [n] str.
      threshold: in 0..1.
      prevalences: shares of the positive class, strictly between 0 and 1.

    Returns:
      prevalence as text ("0.01") → {"ppv": Estimate, "npv": Estimate}.
    """
    positive = np.asarray(positive, bool)
    called = np.asarray(score) >= threshold
    if positive.all() or not positive.any():
        missing = intervals.missing("one class only", groups)
        return {f"{prevalence:g}": {"ppv": missing, "npv": missing} for prevalence in prevalences}
    # Share of correct calls, and effective number of images, of each class.
    sensitivity = (
        float(called[positive].mean()),
        clusters.effective_count(called[positive], groups[positive]),
    )
    specificity = (
        float((~called[~positive]).mean()),
        clusters.effective_count(~called[~positive], groups[~positive]),
    )
    return {
        f"{prevalence:g}": {
            "ppv": _predictive_value(
                sensitivity,
                specificity,
                prevalence / (1 - prevalence),
                groups,
                "positive",
            ),
            "npv": _predictive_value(
                specificity,
                sensitivity,
                (1 - prevalence) / prevalence,
                groups,
                "negative",
            ),
        }
        for prevalence in prevalences
    }


def predictive_value(
    correct: float,
    other_correct: float,
    odds: float,
) -> float:
    """Computes a predictive value by Bayes' rule.

    Args:
      correct: sensitivity for the PPV, specificity for the NPV.
      other_correct: specificity for the PPV, sensitivity for the NPV.
      odds: of the class whose predictive value it is against the other, above 0.
    """
    return 1 / (1 + (1 - other_correct) / (odds * correct)) if correct else 0.0


def _predictive_value(
    calls: tuple[float, float],
    other_calls: tuple[float, float],
    odds: float,
    groups: np.ndarray,
    called: str,
) -> Estimate:
    """Estimates a predictive value, with the logit interval at the effective counts.

    Mercaldo, Lau & Zhou 2007, doi:10.1002/sim.2677, eq. 8–11. `calls` are (share of correct calls,
    effective count) of the class called, `other_calls` of the other.
    """
    correct, n = calls
    other_correct, other_n = other_calls
    if correct == 0.0 and other_correct == 1.0:
        return intervals.missing(f"no image was called {called}", groups)
    value = predictive_value(correct, other_correct, odds)
    if {correct, other_correct} & {0.0, 1.0}:
        # As published: z²/2 more correct and wrong calls in each class.
        correct = (correct * n + Z**2 / 2) / (n + Z**2)
        other_correct = (other_correct * other_n + Z**2 / 2) / (other_n + Z**2)
        n += Z**2
        other_n += Z**2
    # Delta method on the logit of the predictive value.
    logit = np.log(odds * correct / (1 - other_correct))
    variance = (1 - correct) / (correct * n) + other_correct / ((1 - other_correct) * other_n)
    bounds = logit + np.array([-Z, Z]) * np.sqrt(variance)
    low, high = (1 / (1 + np.exp(-bounds))).tolist()
    return intervals.estimate(value, (min(low, value), max(high, value)), groups)


def _choices(positive: np.ndarray, score: np.ndarray) -> dict[str, tuple[float | None, str]]:
    # Name → (threshold or None, reason that there is none).
    result: dict[str, tuple[float | None, str]] = dict.fromkeys(
        ("half", "youden", "sensitivity_95"),
        (None, "these predictions hold one class only"),
    )
    result["half"] = (0.5, "")
    if positive.all() or not positive.any():
        return result
    # Halfway between neighbouring scores, and below them all: [thresholds], rising.
    distinct = np.unique(score)
    candidates = np.r_[distinct[0], (distinct[1:] + distinct[:-1]) / 2]
    missed = np.searchsorted(np.sort(score[positive]), candidates) / positive.sum()
    sensitivity = 1 - missed
    specificity = np.searchsorted(np.sort(score[~positive]), candidates) / (~positive).sum()
    quality = sensitivity + specificity
    best = candidates[quality >= quality.max() - 1e-12]  # Equal up to rounding.
    result["youden"] = (float(best[np.argmin(np.abs(best - 0.5))]), "")
    result["sensitivity_95"] = (float(candidates[sensitivity >= SENSITIVITY].max()), "")
    if positive.sum() < _MIN_POSITIVES:
        result["sensitivity_95"] = (
            None,
            (
                f"fewer than {_MIN_POSITIVES} positive images: a sensitivity of {SENSITIVITY} "
                "cannot be told from 1"
            ),
        )
    return result
