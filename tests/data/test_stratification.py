"""Tests of splits of several findings an image: whole patients, every finding's share."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import stratification
from trainer.data.split import assign_folds, train_and_validation


def make_findings(seed: int, patients: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Simulates labels [n, 4] of 1, 0 and -1, and their groups."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"p{index}" for index in range(patients)], rng.integers(1, 6, patients))
    labels = (rng.random((len(groups), 4)) < [0.5, 0.3, 0.1, 0.03]).astype(np.int8)
    labels[rng.random(labels.shape) < 0.05] = -1
    return labels, groups


@given(st.integers(0, 10_000), st.floats(0.1, 0.5))
def test_every_finding_keeps_its_share_and_patients_are_whole(seed, fraction):
    labels, groups = make_findings(seed)
    train, validation = train_and_validation(labels, groups, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert not set(groups[train]) & set(groups[validation])
    marked = labels == 1
    expected = fraction * marked.sum(axis=0)
    # A patient has five images at most.
    assert (np.abs(marked[validation].sum(axis=0) - expected) <= 5).all()


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_folds_hold_each_image_once_and_rare_findings_evenly(seed, folds):
    labels, groups = make_findings(seed)
    fold = assign_folds(labels, groups, folds, seed)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    counts = np.array([(labels[fold == index] == 1).sum(axis=0) for index in range(folds)])
    # A patient has five images at most; the commonest finding is assigned last.
    assert (np.ptp(counts, axis=0) <= np.maximum(5, 0.4 * counts.mean(axis=0))).all()


def test_one_seed_gives_one_split():
    labels, groups = make_findings(0)
    counts = stratification.counts_by_group(labels, groups)
    first, second = (stratification.assign(counts, (0.8, 0.2), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (stratification.assign(counts, (0.8, 0.2), seed=4) != first).any()
