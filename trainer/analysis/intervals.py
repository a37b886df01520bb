"""Estimates: numbers with their 95 % interval and the count behind them.

    proportion(predictions.correct, predictions.groups)    # 0.9041 [0.8503, 0.9400]

Proportions and AUCs get a score interval, which does not collapse near 1 as a bootstrap does:
Wilson's and Newcombe's, at the effective number of images that the agreement within groups leaves.
All other scores are bootstrapped over whole groups. `python -m tests.studies.coverage` measures how
often the intervals contain the true value.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

from trainer.analysis import clusters

Z = 1.959963984540054  # The normal quantile of a two-sided 95 % interval.
_BLOCK = 2_000_000  # Weights in memory at once while resampling: 16 MB.


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
      value: the number; None where the data cannot give one (`why` then says why).
      low, high: its interval; None without a number.
      n: number of images behind it.
      groups: number of groups (patients) behind it.
      why: empty, or the reason that there is no number.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int
    why: str = ""

    def to_dict(self) -> dict:
        """Returns the entry of metrics.json; `why` only where there is no number."""
        return {name: value for name, value in vars(self).items() if name != "why" or value}

    def numbers(self) -> tuple[float, float, float]:
        """Returns (value, low, high) of an estimate that has a number."""
        if self.value is None or self.low is None or self.high is None:
            raise ValueError(f"this estimate has no number: {self.why}")
        return self.value, self.low, self.high

    def __str__(self) -> str:
        if self.value is None:
            return f"none ({self.why})"
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def missing(why: str, groups: np.ndarray) -> Estimate:
    """Returns an estimate without a number, for images of `groups` ([n] str)."""
    return Estimate(None, None, None, len(groups), len(np.unique(groups)), why)


def estimate(value: float, bounds: tuple[float, float], groups: np.ndarray) -> Estimate:
    """Joins a value and its interval; `groups` ([n] str) are those of the images behind it."""
    return Estimate(value, *bounds, len(groups), len(np.unique(groups)))


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Computes Wilson's 95 % score interval for a proportion.

    Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    share = successes / n
    z2 = Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    # Rounding may put the share outside.
    low = min(share, float(centre - half))
    high = max(share, float(centre + half))
    return max(0.0, low), min(1.0, high)


def auc_score_interval(auc: float, positives: float, negatives: float) -> tuple[float, float]:
    """Computes a 95 % score interval for an AUC of up to 1.

    Method 5 of Newcombe 2006 (doi:10.1002/sim.2324): the AUCs whose distance to `auc` is at most z
    standard errors, with Hanley and McNeil's variance taken at that AUC and balanced counts in it.

    Args:
      auc: in 0..1.
      positives: number of positive images, or effective number.
      negatives: number of negative images, or effective number.
    """

    def excess(candidate: float) -> float:
        return abs(auc - candidate) - Z * np.sqrt(_hanley_mcneil(candidate, positives, negatives))

    # The variance is 0 at 0 and 1, where the excess is 0 too: search for the crossing beside them.
    lowest = 1e-12
    highest = 1 - 1e-12
    middle = min(max(auc, lowest), highest)
    low = optimize.brentq(excess, lowest, middle) if excess(lowest) > 0 > excess(middle) else 0.0
    high = optimize.brentq(excess, middle, highest) if excess(highest) > 0 > excess(middle) else 1.0
    return float(low), float(high)


def proportion(hits: np.ndarray, groups: np.ndarray) -> Estimate:
    """Estimates a share, with Wilson's interval at the effective count.

    Args:
      hits: [n] bool.
      groups: [n] str.
    """
    if len(hits) == 0:
        return missing("no image of this kind", groups)
    share = float(np.mean(hits))
    size = clusters.effective_count(hits, groups)
    return estimate(share, wilson(share * size, size), groups)


def auc(positive: np.ndarray, score: np.ndarray, groups: np.ndarray) -> Estimate:
    """Estimates the AUC with Newcombe's interval.

    Two corrections are chosen by measured coverage. Each class's count is divided by the design
    effect of its placement values (Obuchowski 1997, doi:10.2307/2533958; where these are all equal,
    of its ranks). The variance, too great near 1 for bell-shaped scores, is scaled by its ratio to
    DeLong's variance, limited to 0.7..1.

    Args:
      positive: [n] bool.
      score: [n] float.
      groups: [n] str.
    """
    positive = np.asarray(positive, bool)
    if positive.all() or not positive.any():
        return missing("one class only", groups)
    counts = []
    variance = 0.0
    # Placement value: the share of the other class that an image is ranked correctly against.
    for side, sign in ((~positive, -1.0), (positive, 1.0)):
        others = np.sort(sign * score[~side])
        lower = np.searchsorted(others, sign * score[side], "left")
        not_higher = np.searchsorted(others, sign * score[side], "right")
        placements = (lower + not_higher) / (2 * len(others))  # Ties count half.
        variance += placements.var() / side.sum()
        # Placements are all equal for example at an AUC of 1.
        clustered = placements if np.ptp(placements) else stats.rankdata(score[side])
        member = clusters.members(groups[side])
        correlation = clusters.intraclass_correlation(clustered, member)
        counts.append(side.sum() / clusters.design_effect(correlation, member))
    value = float(placements.mean())  # The mean placement of the positives is the AUC.
    expected = _hanley_mcneil(value, positive.sum(), (~positive).sum())
    ratio = np.clip(variance / expected, 0.7, 1.0) if expected > 0 else 0.7
    negatives, positives = (count / ratio for count in counts)
    low, high = auc_score_interval(value, positives, negatives)
    return estimate(value, (min(low, value), max(high, value)), groups)


def mean(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Estimate:
    """Estimates a mean.

    If a value is below 0, the interval is the bootstrap's. If not, as of losses, it is Student's on
    the logarithm: percentiles of so skewed a mean miss the true value above too often. The standard
    error is that of the groups' sums (Cochran 1977, Sampling techniques, 9A.1), with the degrees of
    freedom of as many groups of equal size.

    Args:
      values: [n] float.
      groups: [n] str.
      seed: of the bootstrap.
    """
    if len(np.unique(groups)) < 2 or not np.any(values):
        return missing("a single group (patient), no image, or nothing but zeros", groups)
    value = float(np.mean(values))
    if np.min(values) < 0:
        bounds = bootstrap(
            lambda weights: np.average(values, weights=weights),
            groups,
            seed,
        )
        return estimate(value, bounds, groups)
    member = clusters.members(groups)  # [n]
    sums = np.bincount(member, values - value)  # [groups]
    error = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(values)
    freedom = max(len(values) / clusters.design_effect(1.0, member) - 1, 1.0)
    factor = float(np.exp(stats.t.ppf(0.975, freedom) * error / value))
    return estimate(value, (value / factor, value * factor), groups)


def bounded(value: float, samples: np.ndarray, max_size: float) -> tuple[float, float]:
    """Computes a 95 % interval in 0..1 from bootstrap samples.

    Does not collapse near 0 and 1: it is Wilson's at the number of images whose proportion would
    vary as much as the samples do (Korn & Graubard 1998, Survey Methodology 24:193).

    Args:
      value: the score on all data.
      samples: [resamples] float, NaN where there is none.
      max_size: the effective number of images behind the score.
    """
    variance = np.nanvar(samples)  # 0 where all samples agree.
    size = max_size
    if variance > 0 and 0 < value < 1:
        size = min(max_size, value * (1 - value) / variance)
    return wilson(value * size, size)


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    groups: np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[float, float]:
    """Computes a 95 % percentile interval by resampling groups.

    Davison & Hinkley 1997, 3.8.

    Args:
      statistic: takes weights [n] (how often each image is in the resample) and returns a number,
        or NaN where it has none.
      groups: [n] str.
      seed: of the resampling.
      resamples: their number.
    """

    def by_row(weights: np.ndarray) -> np.ndarray:
        return np.array([statistic(row) if row.any() else np.nan for row in weights])

    return percentiles(resample(by_row, groups, seed, resamples))


def resample(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
) -> np.ndarray:
    """Computes a statistic, or several stacked ones, on resamples of whole groups.

    Args:
      statistic: takes weights [r, n] float64 (how often each image is in the resample), returns
        [..., r], NaN where there is no number.
      groups: [n] str.
      seed: of the resampling.
      resamples: their number.

    Returns:
      [..., resamples].
    """
    member = clusters.members(groups)  # [n]
    count = member.max() + 1  # Groups.
    rng = np.random.Generator(np.random.Philox(key=seed))
    # How often each group is in each resample: [resamples, groups].
    draws = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples)
    rows = max(1, _BLOCK // len(member))
    blocks = [
        statistic(draws[start : start + rows, member].astype(np.float64))  # [..., rows]
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(blocks, axis=-1)


def percentiles(samples: np.ndarray) -> tuple[float, float]:
    """Returns the 2.5th and the 97.5th percentile of samples ([resamples] float).

    NaN is left out; two NaN where there is nothing else.
    """
    if np.isnan(samples).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return float(low), float(high)


def _hanley_mcneil(auc: float, positives: float, negatives: float) -> float:
    """Computes the variance of an AUC for negative exponential scores.

    Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    # Newcombe's method 5 takes half of all images for each class.
    balanced = (positives + negatives) / 2 - 1
    correction = 1 + balanced * (1 - auc) / (2 - auc) + balanced * auc / (1 + auc)
    return auc * (1 - auc) / (positives * negatives) * correction
