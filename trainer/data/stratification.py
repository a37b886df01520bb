"""Iterative stratification of groups: each subset gets its share of every label.

    subsets = assign(counts, shares=(0.85, 0.15), seed=0)

Sechidis, Tsoumakas & Vlahavas 2011, doi:10.1007/978-3-642-23808-6_10; here whole groups (patients)
are assigned instead of single examples.
"""

import numpy as np


def counts_by_group(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Counts the labels of each group's images.

    Args:
      labels: [n, findings] int; 1 marks a finding.
      groups: [n] str.

    Returns:
      [groups, findings + 2] int: images with each finding, images without any, and all images, in
      the order of the sorted names of the groups.
    """
    marked = labels == 1  # [n, findings]
    columns = np.column_stack([marked, ~marked.any(axis=1), np.ones(len(labels), bool)])
    names, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), columns.shape[1]), np.int64)
    np.add.at(counts, member, columns)
    return counts


def assign(counts: np.ndarray, shares: tuple[float, ...], seed: int) -> np.ndarray:
    """Assigns groups to subsets, the rarest label first.

    A group goes to the subset that lacks most images of that label; of several to the one that
    lacks most images.

    Args:
      counts: [groups, labels] int, images of each label; the last column counts all images.
      shares: of the subsets; they sum to 1.
      seed: of the order of equally large groups.

    Returns:
      [groups] int, indices into `shares`.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    shuffled = rng.permutation(len(counts))
    # Large groups first: small ones fill what is left.
    order = shuffled[np.argsort(-counts[shuffled, -1], kind="stable")]
    lacking = np.outer(shares, counts.sum(axis=0)).astype(np.float64)  # [subsets, labels]
    subsets = np.full(len(counts), -1)
    while (subsets < 0).any():
        remaining = counts[subsets < 0].sum(axis=0).astype(np.float64)  # [labels]
        remaining[remaining == 0] = np.inf
        rarest = int(remaining.argmin())
        for group in order[(subsets[order] < 0) & (counts[order, rarest] > 0)]:
            most = np.flatnonzero(lacking[:, rarest] == lacking[:, rarest].max())
            subset = most[lacking[most, -1].argmax()]
            subsets[group] = subset
            lacking[subset] -= counts[group]
    return subsets
