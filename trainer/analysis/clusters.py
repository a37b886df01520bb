"""Clustering of images within groups (patients): design effect and effective number of images.

effective_count(predictions.correct, predictions.groups)    # at most the number of images
"""

import numpy as np


def members(groups: np.ndarray) -> np.ndarray:
    """Numbers the groups ([n] str): [n] int, 0 to groups - 1."""
    return np.unique(groups, return_inverse=True)[1]


def effective_count(hits: np.ndarray, groups: np.ndarray) -> float:
    """Computes the number of independent images that tell as much of a share.

    It is n over the design effect (Kish 1965, 8.2), the greater of two: that of the share's
    variance between groups, and that of the correlation within groups by an analysis of variance,
    pulled towards 0.5 as if one more group held the rarer outcome. With few or no errors the data
    cannot tell how they cluster, and an estimate of 0 would claim to know.

    Args:
      hits: [n] bool, n at least 1.
      groups: [n] str.

    Returns:
      between 1 and n; n where every group is one image.
    """
    hits = np.asarray(hits, bool)
    member = members(groups)  # [n]
    share = hits.mean()
    rarer = hits if share < 0.5 else ~hits
    count = len(np.unique(member[rarer]))  # Groups with the rarer outcome.
    # One more group that agrees by half.
    correlation = (count * intraclass_correlation(hits, member) + 0.5) / (count + 1)
    between_groups = 1.0  # Design effect of the variance between groups.
    if 0 < share < 1:
        sums = np.bincount(member, hits - share)  # [groups]
        between_groups = (sums**2).sum() / (len(hits) * share * (1 - share))
    return float(len(hits) / max(design_effect(correlation, member), between_groups))


def intraclass_correlation(values: np.ndarray, member: np.ndarray) -> float:
    """Estimates the agreement of images within groups, in 0..1.

    By a one-way analysis of variance with groups of unequal size (Donner 1986,
    doi:10.2307/1403259).

    Args:
      values: [n] numbers.
      member: [n] int, 0 to groups - 1, as `members` returns it.

    Returns:
      0 where every group is one image or the values do not vary, 1 for one group.
    """
    values = np.asarray(values, np.float64)
    sizes = np.bincount(member)  # [groups]
    if len(sizes) == len(values) or np.ptp(values) == 0:
        return 0.0
    if len(sizes) == 1:
        return 1.0
    means = np.bincount(member, values) / sizes  # [groups]
    # Mean squares between and within groups.
    between = (sizes * (means - values.mean()) ** 2).sum() / (len(sizes) - 1)
    within = ((values - means[member]) ** 2).sum() / (len(values) - len(sizes))
    typical_size = (len(values) - (sizes**2).sum() / len(values)) / (len(sizes) - 1)
    total = between + (typical_size - 1) * within
    return float(np.clip((between - within) / total, 0.0, 1.0))


def design_effect(correlation: float, member: np.ndarray) -> float:
    """Computes the factor by which clustering raises the variance of a mean.

    Args:
      correlation: within groups, in 0..1.
      member: [n] int, as `members` returns it.
    """
    sizes = np.bincount(member)  # [groups]
    return 1 + ((sizes**2).sum() / sizes.sum() - 1) * correlation
