"""Numbers with the interval and the count behind them.

Proportions get Wilson's interval where every group is one image; everything else is bootstrapped over whole groups.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import optimize

_Z = 1.959963984540054  # The normal quantile of a two-sided 95 % interval.


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


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval for a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    share, z2 = successes / n, _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def auc_score_interval(auc: float, positives: int, negatives: int) -> tuple[float, float]:
    """A 95 % score interval for the area under the ROC curve that holds up to an area of 1.

    Method 5 of Newcombe 2006 (doi:10.1002/sim.2324): the areas whose distance to `auc` is at most z standard errors, with
    Hanley and McNeil's variance taken at that area and balanced counts in it.
    """
    balanced = (positives + negatives) / 2 - 1

    def excess(area: float) -> float:
        variance = area * (1 - area) / (positives * negatives) * (
            1 + balanced * (1 - area) / (2 - area) + balanced * area / (1 + area))
        return abs(auc - area) - _Z * np.sqrt(variance)

    # The variance is 0 at 0 and 1, where the excess is 0 too: look for the crossing beside them.
    least, most = 1e-12, 1 - 1e-12
    middle = min(max(auc, least), most)
    low = optimize.brentq(excess, least, middle) if excess(least) > 0 > excess(middle) else 0.0
    high = optimize.brentq(excess, middle, most) if excess(most) > 0 > excess(middle) else 1.0
    return float(low), float(high)


def proportion(hits: np.ndarray, groups: np.ndarray, seed: int = 0) -> Estimate:
    """The share of true values among `hits` ([n] bool), with groups [n] str."""
    n, names = len(hits), np.unique(groups)
    if n == 0:
        return Estimate(None, None, None, 0, 0, "no image of this kind")
    share = float(np.mean(hits))
    if len(names) == n:
        low, high = wilson(hits.sum(), n)
    else:
        low, high = bootstrap(lambda weights: np.average(hits, weights=weights), groups, seed)
        if high - low < 1e-9:  # No group errs: resampling cannot see what was never drawn; count each group once.
            low, high = wilson(share * len(names), len(names))
    return Estimate(share, low, high, n, len(names))


def mean(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Estimate:
    """The mean of `values` ([n] float), with groups [n] str."""
    if len(values) == 0:
        return Estimate(None, None, None, 0, 0, "no image of this kind")
    low, high = bootstrap(lambda weights: np.average(values, weights=weights), groups, seed)
    return Estimate(float(np.mean(values)), low, high, len(values), len(np.unique(groups)))


def bootstrap(
    statistic: Callable[[np.ndarray], float], groups: np.ndarray, seed: int = 0, resamples: int = 1000
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic under resampling of whole groups (Davison & Hinkley 1997, 3.8).

    Args:
      statistic: takes weights [n] (how often each image was drawn) and gives a number, or NaN where it has none.
      groups: [n] str.
      seed: of the resampling.
      resamples: how many.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = member.max() + 1
    rng = np.random.Generator(np.random.Philox(key=seed))
    draws = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples)
    values = np.array([statistic(weights[member]) if weights[member].any() else np.nan for weights in draws])
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
