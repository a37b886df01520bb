"""Numbers with the interval and the count behind them.

Proportions and areas under the ROC curve get a score interval, which stays honest near 1, where a bootstrap collapses: Wilson's
and Newcombe's, at the effective number of images that the agreement within groups leaves. Everything else is bootstrapped over
whole groups. `python -m tests.studies.coverage` measures how often they hold the truth.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

_Z = 1.959963984540054  # The normal quantile of a two-sided 95 % interval.
_BLOCK = 2_000_000  # Weights held at once while resampling: 16 MB.


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
      value, low, high: the number and its interval; None where the data cannot give one (`why` then says why).
      n: how many images stand behind it.
      groups: how many groups (patients) these come from.
      why: empty, or the reason there is no number.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int
    why: str = ""

    def to_dict(self) -> dict:
        """As it stands in metrics.json; `why` only where there is no number."""
        values = dataclasses.asdict(self)
        return values if self.why else {key: value for key, value in values.items() if key != "why"}

    def __str__(self) -> str:
        if self.value is None:
            return f"none ({self.why})"
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def none(why: str, groups: np.ndarray) -> Estimate:
    """No number, for the reason given, from images of `groups` ([n] str)."""
    return Estimate(None, None, None, len(groups), len(np.unique(groups)), why)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval for a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    share, z2 = successes / n, _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return max(0.0, min(share, float(centre - half))), min(
        1.0, max(share, float(centre + half))
    )  # Rounding may cross it.


def auc_score_interval(auc: float, positives: float, negatives: float) -> tuple[float, float]:
    """A 95 % score interval for the area under the ROC curve that holds up to an area of 1.

    Method 5 of Newcombe 2006 (doi:10.1002/sim.2324): the areas whose distance to `auc` is at most z standard errors, with
    Hanley and McNeil's variance taken at that area and balanced counts in it. The counts may be effective ones.
    """

    def excess(area: float) -> float:
        return abs(auc - area) - _Z * np.sqrt(_hanley_mcneil(area, positives, negatives))

    # The variance is 0 at 0 and 1, where the excess is 0 too: look for the crossing beside them.
    least, most = 1e-12, 1 - 1e-12
    middle = min(max(auc, least), most)
    low = optimize.brentq(excess, least, middle) if excess(least) > 0 > excess(middle) else 0.0
    high = optimize.brentq(excess, middle, most) if excess(most) > 0 > excess(middle) else 1.0
    return float(low), float(high)


def proportion(hits: np.ndarray, groups: np.ndarray) -> Estimate:
    """The share of true values among `hits` ([n] bool), with groups [n] str: Wilson's interval at the effective count."""
    if len(hits) == 0:
        return none("no image of this kind", groups)
    share, size = float(np.mean(hits)), effective_count(hits, groups)
    return Estimate(share, *wilson(share * size, size), len(hits), len(np.unique(groups)))


def effective_count(hits: np.ndarray, groups: np.ndarray) -> float:
    """How many independent images say as much of a share as these do: n over the design effect (Kish 1965, 8.2).

    Of two design effects the greater: that of the share's variance between groups as it is, and that of the correlation within
    groups by an analysis of variance, pulled towards 0.5 as if one more group held the rarer outcome. With few or no errors the
    data cannot tell how they cluster, and an estimate of 0 would be taken for knowledge.

    Args:
      hits: [n] bool, n at least 1.
      groups: [n] str.

    Returns: between 1 and n; n where every group is one image.
    """
    hits, member = np.asarray(hits, bool), members(groups)
    share, n = hits.mean(), len(hits)
    known = len(np.unique(member[hits if share < 0.5 else ~hits]))
    correlation = (known * intraclass_correlation(hits, member) + 0.5) / (known + 1)
    seen = (
        (np.bincount(member, hits - share) ** 2).sum() / (n * share * (1 - share))
        if 0 < share < 1
        else 1.0
    )
    return float(n / max(_design_effect(correlation, member), seen))


def area(positive: np.ndarray, score: np.ndarray, groups: np.ndarray) -> Estimate:
    """The area under the ROC curve; `positive` [n] bool, `score` [n] float, `groups` [n] str.

    Newcombe's interval with two corrections chosen by measured coverage: each class's count is divided by the design effect of
    its placement values (Obuchowski 1997, doi:10.2307/2533958; where these are all equal, of its ranks), and the variance, too
    great near 1 for bell-shaped scores, is scaled by the share of it that DeLong's has, held within 0.7..1.
    """
    positive = np.asarray(positive, bool)
    if positive.all() or not positive.any():
        return none("one class only", groups)
    placed, counts, variances = _placements(positive, score), [], []
    for side in (positive, ~positive):
        own = members(groups[side])
        clustered = placed[side] if np.ptp(placed[side]) > 0 else stats.rankdata(score[side])
        counts.append(side.sum() / _design_effect(intraclass_correlation(clustered, own), own))
        variances.append(placed[side].var() / side.sum())
    value = float(placed[positive].mean())
    expected = _hanley_mcneil(value, positive.sum(), (~positive).sum())
    ratio = np.clip(sum(variances) / expected, 0.7, 1.0) if expected > 0 else 0.7
    low, high = auc_score_interval(value, *(count / ratio for count in counts))
    return Estimate(value, min(low, value), max(high, value), len(score), len(np.unique(groups)))


def mean(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Estimate:
    """The mean of `values` ([n] float), groups [n] str: the bootstrap's interval, or `positive_mean` if none is below 0."""
    if len(np.unique(groups)) < 2 or not np.any(values):
        return none("a single group (patient), no image, or nothing but zeros", groups)
    if np.min(values) >= 0:
        interval = positive_mean(values, groups)
    else:
        interval = bootstrap(lambda weights: np.average(values, weights=weights), groups, seed)
    return Estimate(float(np.mean(values)), *interval, len(values), len(np.unique(groups)))


def positive_mean(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """A 95 % interval for the mean, above 0, of `values` ([n], none below 0, as losses are), with groups [n] str, two or more.

    Student's, on the logarithm: percentiles of so skewed a mean miss the truth above too often. The standard error is that of
    the groups' sums (Cochran 1977, Sampling techniques, 9A.1), with the degrees of freedom of as many groups of equal size.
    """
    member, value = members(groups), float(np.mean(values))
    sums = np.bincount(member, values - value)
    error = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(values)
    freedom = max(len(values) / _design_effect(1.0, member) - 1, 1.0)
    factor = float(np.exp(stats.t.ppf(0.975, freedom) * error / value))
    return value / factor, value * factor


def bounded(value: float, drawn: np.ndarray, most: float) -> tuple[float, float]:
    """A 95 % interval for a score within 0..1 from its bootstrap draws ([resamples], NaN where there is none).

    Does not collapse near 0 and 1: it is Wilson's at the number of images whose proportion would vary as much as the draws do
    (Korn & Graubard 1998, Survey Methodology 24:193), never more than `most`, the effective images behind the score.
    """
    spread = np.nanvar(drawn)
    size = min(most, value * (1 - value) / spread) if spread > 0 and 0 < value < 1 else most
    return wilson(value * size, size)


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    groups: np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic under resampling of whole groups (Davison & Hinkley 1997, 3.8).

    Args:
      statistic: takes weights [n] (how often each image was drawn) and gives a number, or NaN where it has none.
      groups: [n] str.
      seed: of the resampling.
      resamples: how many.
    """

    def each(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"": np.array([statistic(row) if row.any() else np.nan for row in weights])}

    return percentiles(resample(each, groups, seed, resamples)[""])


def resample(
    statistics: Callable[[np.ndarray], dict[str, np.ndarray]],
    groups: np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, np.ndarray]:
    """Several statistics on one and the same set of resamples of whole groups.

    Args:
      statistics: takes weights [r, n] float64 (how often each image was drawn), gives name → [r], NaN where there is no number.
      groups: [n] str.
      seed, resamples: of the drawing; the result is name → [resamples].
    """
    count = (member := members(groups)).max() + 1
    rng = np.random.Generator(np.random.Philox(key=seed))
    draws = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples)
    rows = max(1, _BLOCK // len(member))
    parts = [
        statistics(draws[start : start + rows, member].astype(np.float64))
        for start in range(0, resamples, rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentiles(drawn: np.ndarray) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile of `drawn` ([resamples] float), NaN left out; NaN where nothing else is there."""
    return (
        tuple(np.nanpercentile(drawn, [2.5, 97.5]).tolist())
        if not np.isnan(drawn).all()
        else (np.nan, np.nan)
    )


def members(groups: np.ndarray) -> np.ndarray:
    """[n] int: the number of each image's group, 0 to groups - 1."""
    return np.unique(groups, return_inverse=True)[1]


def intraclass_correlation(values: np.ndarray, member: np.ndarray) -> float:
    """How much images of one group agree, in 0..1: 0 where every group is one image or the values do not vary, 1 for one group.

    The estimate of a one-way analysis of variance with groups of unequal size (Donner 1986, doi:10.2307/1403259).

    Args:
      values: [n] numbers.
      member: [n] int, 0 to groups - 1, as `members` gives it.
    """
    values, sizes = np.asarray(values, np.float64), np.bincount(member)
    n, groups = len(values), len(sizes)
    if groups == n or np.ptp(values) == 0:
        return 0.0
    if groups == 1:
        return 1.0
    means = np.bincount(member, values) / sizes
    between = (sizes * (means - values.mean()) ** 2).sum() / (groups - 1)
    within = ((values - means[member]) ** 2).sum() / (n - groups)
    typical = (n - (sizes**2).sum() / n) / (groups - 1)
    return float(np.clip((between - within) / (between + (typical - 1) * within), 0.0, 1.0))


def _design_effect(correlation: float, member: np.ndarray) -> float:
    sizes = np.bincount(member)
    return 1 + ((sizes**2).sum() / sizes.sum() - 1) * correlation


def _hanley_mcneil(auc: float, positives: float, negatives: float) -> float:
    """The variance of an area, for negative exponential scores (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747)."""
    balanced = (positives + negatives) / 2 - 1
    return (
        auc
        * (1 - auc)
        / (positives * negatives)
        * (1 + balanced * (1 - auc) / (2 - auc) + balanced * auc / (1 + auc))
    )


def _placements(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """For each image the share of the other class that it stands on the right side of, ties counting half; [n] float."""
    placed = np.empty(len(score))
    for side, sign in ((positive, 1.0), (~positive, -1.0)):
        others = np.sort(sign * score[~side])
        own = sign * score[side]
        placed[side] = (
            np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
        ) / (2 * len(others))
    return placed
