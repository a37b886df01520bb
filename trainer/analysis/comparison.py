"""Paired comparison of models and controls on the same images.

result = compare_with_controls(predictions, {"header": header_predictions})
print(describe(result))

Of several findings an image, each is compared by itself.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from scipy import stats

from trainer.analysis import intervals, metrics
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions

_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class McNemar:
    """Counts of images that one, both or neither of two models classifies correctly.

    Attributes:
      only_first, only_second: images that only one model classifies correctly.
      both, neither: images that both or neither do.
      p_value: of the exact test of equal accuracy; None where no image tells the models apart. The
        test assumes independent images: where groups hold several, p is too small, and the
        difference in AUC, which goes by group, is the one to trust.
    """

    only_first: int
    only_second: int
    both: int
    neither: int
    p_value: float | None


@dataclasses.dataclass(frozen=True)
class ControlComparison:
    """AUC of a model less that of the best control.

    Attributes:
      difference: of the AUCs; its interval re-chooses the best control in each resample of groups.
      best_control: the control with the highest AUC on all data; "" where there is no number.
      model_auc: of the model.
      control_auc: of the best control.
      best_control_shares: control → share of the resamples in which it was the best; ties are
        shared.
    """

    difference: Estimate
    best_control: str
    model_auc: Estimate
    control_auc: Estimate
    best_control_shares: dict[str, float]


def mcnemar(first: Predictions, second: Predictions) -> McNemar:
    """Tests two models on the same images (McNemar 1947, doi:10.1007/BF02295996)."""
    only_first = int((first.correct & ~second.correct).sum())
    only_second = int((second.correct & ~first.correct).sum())
    discordant = only_first + only_second
    return McNemar(
        only_first=only_first,
        only_second=only_second,
        both=int((first.correct & second.correct).sum()),
        neither=int((~first.correct & ~second.correct).sum()),
        p_value=float(stats.binomtest(only_first, discordant).pvalue) if discordant else None,
    )


def auc_difference(
    first: Predictions,
    second: Predictions,
    seed: int = 0,
) -> Estimate:
    """Estimates the paired difference of two ROC AUCs from resamples of groups.

    With more than two classes it is of the mean AUC of each class against the rest, of findings of
    the macro AUC.

    Args:
      first: of one model.
      second: of another, on the same images; its AUC is subtracted.
      seed: of the resampling.
    """
    return compare_with_controls(first, {"": second}, seed).difference


def compare_with_controls(
    model: Predictions,
    controls: dict[str, Predictions],
    seed: int = 0,
) -> ControlComparison:
    """Subtracts the AUC of the best control from that of a model.

    The best control is re-chosen in each paired resample of groups. Else its AUC would be too high
    by the luck that made it the best. Where the resamples do not differ (both AUCs 1, for example),
    the intervals of the two AUCs are combined (Zou & Donner 2008, doi:10.1002/sim.2986).

    Args:
      model: of the model.
      controls: name → predictions of the same images.
      seed: of the resampling.
    """
    model_auc = metrics.roc_auc(model)
    if not controls or model_auc.value is None:
        why = model_auc.why if controls else "no control was scored"
        missing = intervals.missing(why, model.groups)
        return ControlComparison(missing, "", missing, missing, {})
    aucs = [metrics.auc_statistic(each) for each in (model, *controls.values())]

    def statistics(weights: np.ndarray) -> np.ndarray:
        return np.stack([auc(weights) for auc in aucs])  # [1 + controls, r], the model first.

    samples = intervals.resample(statistics, model.groups, seed, _RESAMPLES)
    values = statistics(np.ones((1, len(model))))[:, 0]  # [1 + controls], on all images.
    best_control = list(controls)[int(values[1:].argmax())]
    control_auc = metrics.roc_auc(controls[best_control])
    # The best control is chosen anew in each resample.
    differences = samples[0] - samples[1:].max(axis=0)
    if np.nanstd(differences) > 1e-9:
        bounds = intervals.percentiles(differences)
    else:
        bounds = _combined_bounds(model_auc, control_auc)
    return ControlComparison(
        difference=intervals.estimate(
            float(values[0] - values[1:].max()),
            bounds,
            model.groups,
        ),
        best_control=best_control,
        model_auc=model_auc,
        control_auc=control_auc,
        best_control_shares=_best_shares(samples[1:], controls),
    )


def compare_findings(
    model: Predictions,
    controls: dict[str, Predictions],
    seed: int = 0,
) -> dict[str, ControlComparison]:
    """Compares each finding of a model with the best control for it.

    Args:
      model: of several findings an image.
      controls: name → predictions of the same images.
      seed: of the resampling.

    Returns:
      Finding → comparison, in label order.
    """
    return {
        name: compare_with_controls(
            model.finding(index),
            {control: predictions.finding(index) for control, predictions in controls.items()},
            seed,
        )
        for index, name in enumerate(model.class_names)
    }


def worst_finding(comparisons: dict[str, ControlComparison]) -> str | None:
    """Returns the finding whose difference has the lowest lower bound; None without a number."""
    lows = {
        name: comparison.difference.low
        for name, comparison in comparisons.items()
        if comparison.difference.low is not None
    }
    return min(lows, key=lambda name: lows[name], default=None)


def describe_findings(comparisons: dict[str, ControlComparison]) -> str:
    """Describes comparisons of findings in one line that names the one that fares worst."""
    worst = worst_finding(comparisons)
    if worst is None:
        why = "; ".join({comparison.difference.why for comparison in comparisons.values()})
        return f"Whether the scores come from the lungs cannot be said: {why}."
    lows = {name: comparison.difference.low for name, comparison in comparisons.items()}
    better = [name for name, low in lows.items() if low is not None and low > 0]
    not_better = [name for name, low in lows.items() if low is not None and low <= 0]
    unscored = [name for name, low in lows.items() if low is None]
    numbers = f"{worst} fares worst: {_numbers(comparisons[worst])}"
    if not_better:
        sentence = (
            "On this data the score is not shown to come from the lungs for "
            f"{', '.join(not_better)}; {numbers}, which does not lie above zero."
        )
        if better:
            sentence += f" For {', '.join(better)} it does better than every such control."
    else:
        sentence = (
            "On this data the model does better than every control that sees no lung for "
            f"{', '.join(better)}; {numbers}. What it goes by besides may still be no sign of "
            "disease."
        )
    if unscored:
        sentence += f" Too few images of {', '.join(unscored)}."
    return sentence


def describe(comparison: ControlComparison) -> str:
    """Describes a comparison with controls in one line; claims no more than its interval."""
    if why := comparison.difference.why:
        return f"Whether the score comes from the lungs cannot be said: {why}."
    numbers = _numbers(comparison)
    if comparison.difference.numbers()[1] <= 0:
        return (
            f"On this data the score is not shown to come from the lungs: {numbers}, which does "
            "not lie above zero."
        )
    return (
        f"On this data the model does better than every control that sees no lung: {numbers}. What "
        "it goes by besides may still be no sign of disease."
    )


def _numbers(comparison: ControlComparison) -> str:
    difference, low, high = comparison.difference.numbers()
    return (
        f"the model's ROC AUC is {comparison.model_auc.value:.3f}, that of the best control that "
        f"sees no lung ({comparison.best_control}) {comparison.control_auc.value:.3f}; the "
        f"difference is {difference:+.3f} [{low:+.3f}, {high:+.3f}]"
    )


def _combined_bounds(first: Estimate, second: Estimate) -> tuple[float, float]:
    first_value, first_low, first_high = first.numbers()
    second_value, second_low, second_high = second.numbers()
    value = first_value - second_value
    return (
        float(value - np.hypot(first_value - first_low, second_high - second_value)),
        float(value + np.hypot(first_high - first_value, second_value - second_low)),
    )


def _best_shares(samples: np.ndarray, names: Iterable[str]) -> dict[str, float]:
    # Samples are AUCs, [controls, resamples]; a resample without one of the classes has no AUC.
    complete = samples[:, ~np.isnan(samples).any(axis=0)]
    # Equal up to rounding counts as a tie.
    best = complete >= complete.max(axis=0) - 1e-12
    shares = (best / best.sum(axis=0)).mean(axis=1).tolist()
    return dict(zip(names, shares, strict=True))
