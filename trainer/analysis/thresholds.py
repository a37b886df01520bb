"""Where to draw the line between the classes, and what a line drawn on one split gives on another.

For sets of two classes. An image is called positive from the threshold on. Thresholds are chosen on out-of-fold or validation
predictions, never on the split they are reported for.
"""

import numpy as np

from trainer.analysis import intervals
from trainer.analysis.intervals import Estimate

SENSITIVITY = 0.95
PREVALENCES = (0.01, 0.05, 0.20, 0.50)
_LEAST = int(np.ceil(1 / (1 - SENSITIVITY)))  # Below 20 positives no share but 1 reaches 0.95.
_Z = 1.959963984540054


def choose(
    positive: np.ndarray, score: np.ndarray, groups: np.ndarray, chosen_on: str
) -> dict[str, dict]:
    """Three thresholds: one half, the greatest sensitivity + specificity (Youden 1950), and the highest with 0.95 sensitivity.

    A threshold lies halfway between the scores that it parts; of equally good ones the nearest to one half is taken.

    Args:
      positive: [n] bool.
      score: [n] float in 0..1, the probability of the positive class.
      groups: [n] str.
      chosen_on: what these predictions are ("out-of-fold", "validation"); stands in the result.

    Returns:
      half, youden, sensitivity_95 → {"threshold": float or None, "sensitivity", "specificity": Estimate on these predictions
      (for the chosen ones too good to be true), "chosen_on", "n", "why": empty, or why there is no threshold}.
    """
    positive, score = np.asarray(positive, bool), np.asarray(score, np.float64)
    found = {"half": _described(0.5, positive, score, groups, chosen_on)}
    if not len(positive) or positive.all() or not positive.any():
        reason = "these predictions hold one class only"
        return found | {
            name: _missing(reason, groups, chosen_on) for name in ("youden", "sensitivity_95")
        }
    candidates, sensitivity, specificity = _operating_points(positive, score)
    youden = _nearest_to_half(candidates, sensitivity + specificity)
    found["youden"] = _described(youden, positive, score, groups, chosen_on)
    if positive.sum() < _LEAST:
        reason = f"fewer than {_LEAST} positive images: a sensitivity of {SENSITIVITY} cannot be told from 1"
        return found | {"sensitivity_95": _missing(reason, groups, chosen_on)}
    highest = float(candidates[sensitivity >= SENSITIVITY].max())
    return found | {"sensitivity_95": _described(highest, positive, score, groups, chosen_on)}


def unsure_band(positive: np.ndarray, score: np.ndarray, groups: np.ndarray) -> list[float] | None:
    """Between which probabilities a model should say it is unsure: above the highest threshold with 0.95 sensitivity a negative
    answer misses too many, below the lowest with 0.95 specificity a positive one is wrong too often.

    The arguments are those of `choose`, of held-out predictions.

    Returns:
      [low, high], equal where both are had at once; None where these predictions cannot tell.
    """
    sensitive = choose(positive, score, groups, "")["sensitivity_95"]["threshold"]
    specific = choose(~np.asarray(positive, bool), 1.0 - np.asarray(score), groups, "")[
        "sensitivity_95"
    ]["threshold"]
    if sensitive is None or specific is None:
        return None
    low, high = sensitive, 1.0 - specific
    return [low, high] if low < high else [(low + high) / 2] * 2


def at(
    threshold: float, positive: np.ndarray, score: np.ndarray, groups: np.ndarray
) -> dict[str, Estimate]:
    """Sensitivity and specificity of a threshold; `positive` [n] bool, `score` [n] float, `groups` [n] str."""
    positive, called = np.asarray(positive, bool), np.asarray(score) >= threshold
    return {
        "sensitivity": intervals.proportion(called[positive], groups[positive]),
        "specificity": intervals.proportion(~called[~positive], groups[~positive]),
    }


def apply(
    thresholds: dict[str, dict], positive: np.ndarray, score: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, Estimate]]:
    """What thresholds that `choose` gave on one split do on another: name → {"sensitivity", "specificity"}.

    Thresholds that are None give None with their reason. The other arguments are those of `at`, of the other split.
    """
    return {
        name: {key: intervals.none(chosen["why"], groups) for key in ("sensitivity", "specificity")}
        if chosen["threshold"] is None
        else at(chosen["threshold"], positive, score, groups)
        for name, chosen in thresholds.items()
    }


def predictive_values(
    positive: np.ndarray,
    score: np.ndarray,
    groups: np.ndarray,
    threshold: float = 0.5,
    prevalences: tuple[float, ...] = PREVALENCES,
) -> dict[str, dict[str, Estimate]]:
    """PPV and NPV where the disease is as common as stated, from this split's sensitivity and specificity.

    `logit_interval` at the effective counts. Sensitivity and specificity are taken to carry over to the other prevalence, which
    a test on sicker or healthier patients seldom grants.

    Args:
      positive, score, groups, threshold: as in `at`.
      prevalences: shares of the positive class, strictly between 0 and 1.

    Returns:
      prevalence as text ("0.01") → {"ppv": Estimate, "npv": Estimate}.
    """
    positive, called = np.asarray(positive, bool), np.asarray(score) >= threshold
    if positive.all() or not positive.any():
        missing = intervals.none("one class only", groups)
        return {f"{prevalence:g}": {"ppv": missing, "npv": missing} for prevalence in prevalences}
    counts = [
        intervals.effective_count((called == positive)[side], groups[side])
        for side in (positive, ~positive)
    ]
    shares = float(called[positive].mean()), float((~called[~positive]).mean())
    return {
        f"{prevalence:g}": {
            "ppv": _predictive(*shares, *counts, prevalence / (1 - prevalence), groups, "positive"),
            "npv": _predictive(
                *shares[::-1], *counts[::-1], (1 - prevalence) / prevalence, groups, "negative"
            ),
        }
        for prevalence in prevalences
    }


def logit_interval(
    right: float, other_right: float, n: float, other_n: float, odds: float
) -> tuple[float, float]:
    """The 95 % logit interval of a predictive value (Mercaldo, Lau & Zhou 2007, doi:10.1002/sim.2677, eq. 8–11).

    Adjusted as there, by z²/2 more right and wrong answers in each class, where a share is 0 or 1.

    Args:
      right, other_right: sensitivity and specificity for the PPV; for the NPV the other way round.
      n, other_n: the images behind each.
      odds: of the class whose predictive value it is against the other.
    """
    if {right, other_right} & {0.0, 1.0}:
        right, n = (right * n + _Z**2 / 2) / (n + _Z**2), n + _Z**2
        other_right, other_n = (
            (other_right * other_n + _Z**2 / 2) / (other_n + _Z**2),
            other_n + _Z**2,
        )
    logit = np.log(odds * right / (1 - other_right))
    error = np.sqrt((1 - right) / (right * n) + other_right / ((1 - other_right) * other_n))
    low, high = 1 / (1 + np.exp(-(logit + np.array([-_Z, _Z]) * error)))
    return float(low), float(high)


def _predictive(
    right: float,
    other_right: float,
    n: float,
    other_n: float,
    odds: float,
    groups: np.ndarray,
    called: str,
) -> Estimate:
    if right == 0.0 and other_right == 1.0:
        return intervals.none(f"no image was called {called}", groups)
    value = 1 / (1 + (1 - other_right) / (odds * right)) if right else 0.0
    low, high = logit_interval(right, other_right, n, other_n, odds)
    return Estimate(value, min(low, value), max(high, value), len(groups), len(np.unique(groups)))


def _operating_points(
    positive: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds between distinct scores and below them all, rising, with the sensitivity and specificity of each."""
    distinct = np.unique(score)
    candidates = np.r_[distinct[0], (distinct[1:] + distinct[:-1]) / 2]
    sensitivity = 1 - np.searchsorted(np.sort(score[positive]), candidates) / positive.sum()
    specificity = np.searchsorted(np.sort(score[~positive]), candidates) / (~positive).sum()
    return candidates, sensitivity, specificity


def _nearest_to_half(candidates: np.ndarray, worth: np.ndarray) -> float:
    best = candidates[worth >= worth.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _described(
    threshold: float, positive: np.ndarray, score: np.ndarray, groups: np.ndarray, chosen_on: str
) -> dict:
    return {
        "threshold": threshold,
        **at(threshold, positive, score, groups),
        "chosen_on": chosen_on,
        "n": len(positive),
        "why": "",
    }


def _missing(why: str, groups: np.ndarray, chosen_on: str) -> dict:
    missing = intervals.none(why, groups)
    return {
        "threshold": None,
        "sensitivity": missing,
        "specificity": missing,
        "chosen_on": chosen_on,
        "n": len(groups),
        "why": why,
    }
