"""Two models, or a model and the controls that see no lung, on the same images."""

import dataclasses

import numpy as np
from scipy import stats

from trainer.analysis import intervals, metrics
from trainer.analysis.intervals import Estimate

_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class McNemar:
    """Which images only one of two models gets right.

    Attributes:
      only_first, only_second: how many images only that model classifies rightly.
      both, neither: how many both or neither do.
      p_value: of the exact test of equal accuracy, None where no image tells them apart. It takes images for independent: where
        groups hold several it is too small, and the difference in area, which goes by group, is the one to trust.
    """

    only_first: int
    only_second: int
    both: int
    neither: int
    p_value: float | None


@dataclasses.dataclass(frozen=True)
class AgainstControls:
    """A model's area less that of the best control.

    Attributes:
      difference: of the areas; its interval re-chooses the best control in each resample of groups.
      best: the control with the greatest area on all data; "" where there is no number.
      full: the model's own area.
      best_area: that control's.
      times_best: control → in what share of the resamples it was the best; ties are shared.
    """

    difference: Estimate
    best: str
    full: Estimate
    best_area: Estimate
    times_best: dict[str, float]


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact test of two models on the same images (McNemar 1947, doi:10.1007/BF02295996).

    Args:
      labels: [n] int.
      first, second: [n] int, the class each model gives.
    """
    right, other = first == labels, second == labels
    only_first, only_second = int((right & ~other).sum()), int((other & ~right).sum())
    discordant = only_first + only_second
    p_value = float(stats.binomtest(only_first, discordant).pvalue) if discordant else None
    return McNemar(
        only_first, only_second, int((right & other).sum()), int((~right & ~other).sum()), p_value
    )


def auc_difference(
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
    seed: int = 0,
) -> Estimate:
    """The first model's area under the ROC curve less the second's, paired, from resamples of groups.

    With more than two classes the mean area of each class against the rest.

    Args:
      first, second: [n, classes] float, probabilities of the same images.
      labels: [n] int.
      groups: [n] str.
      class_names, positive_class: as in `metrics.scores`.
      seed: of the resampling.
    """
    return minus_best_control(
        first, {"": second}, labels, groups, class_names, positive_class, seed
    ).difference


def minus_best_control(
    full: np.ndarray,
    controls: dict[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
    seed: int = 0,
) -> AgainstControls:
    """How much more of the ROC area the model has than the best control, which is re-chosen in each paired resample of groups.

    Without the re-choosing the best of several would be flattered by the luck that made it the best. Where the resamples do not
    differ (both areas 1, say), the two areas' own intervals are combined (Zou & Donner 2008, doi:10.1002/sim.2986).

    Args:
      full: [n, classes] float, the model's probabilities.
      controls: name → [n, classes] float, probabilities of the same images.
      labels, groups, class_names, positive_class, seed: as in `auc_difference`.
    """
    if not controls or len(np.unique(labels)) < len(class_names):
        missing = intervals.none(
            "no control was scored" if not controls else "a class is missing from this split",
            groups,
        )
        return AgainstControls(missing, "", missing, missing, {})
    names = list(controls)
    areas = [
        _areas(labels, each, class_names, positive_class) for each in (full, *controls.values())
    ]

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {str(number): each(weights) for number, each in enumerate(areas)}

    drawn = np.stack(list(intervals.resample(statistics, groups, seed, _RESAMPLES).values()))
    whole = np.array([each(np.ones((1, len(labels))))[0] for each in areas])
    own, best = whole[0], int(whole[1:].argmax())
    ours, theirs = (
        metrics.roc_auc(labels, each, groups, class_names, positive_class)
        for each in (full, controls[names[best]])
    )
    differences = drawn[0] - drawn[1:].max(axis=0)
    interval = (
        intervals.percentiles(differences)
        if np.nanstd(differences) > 1e-9
        else _combined(ours, theirs)
    )
    difference = Estimate(
        float(own - whole[1:].max()), *interval, len(labels), len(np.unique(groups))
    )
    return AgainstControls(difference, names[best], ours, theirs, _times_best(drawn[1:], names))


def sentence(found: AgainstControls) -> str:
    """What the comparison with the controls shows, in one plain sentence; claims no more than its interval."""
    difference = found.difference
    if difference.value is None:
        return f"Whether the score comes from the lungs cannot be said: {difference.why}."
    numbers = (
        f"the model's area under the ROC curve is {found.full.value:.3f}, that of the best control "
        f"that sees no lung ({found.best}) {found.best_area.value:.3f}; the difference is "
        f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    )
    if difference.low <= 0:
        return f"On this data the score is not shown to come from the lungs: {numbers}, which does not lie above zero."
    return (
        f"On this data the model does better than every control that sees no lung: {numbers}. What "
        "it goes by besides may still be no sign of disease."
    )


def _areas(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
):
    if len(class_names) > 2:
        return metrics.one_against_rest(labels, probabilities)
    index = class_names.index(positive_class) if positive_class else 1
    return metrics.weighted_areas(labels == index, probabilities[:, index])


def _combined(first: Estimate, second: Estimate) -> tuple[float, float]:
    value = first.value - second.value
    return (
        float(value - np.hypot(first.value - first.low, second.high - second.value)),
        float(value + np.hypot(first.high - first.value, second.value - second.low)),
    )


def _times_best(drawn: np.ndarray, names: list[str]) -> dict[str, float]:
    """From areas [controls, resamples] the share of resamples in which each is the greatest."""
    known = drawn[:, ~np.isnan(drawn).any(axis=0)]
    greatest = known >= known.max(axis=0) - 1e-12
    shares = (greatest / greatest.sum(axis=0)).mean(axis=1)
    return {name: float(share) for name, share in zip(names, shares, strict=True)}
