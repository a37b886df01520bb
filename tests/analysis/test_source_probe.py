"""Tests of the source probe: chance without a source, near 1 with one, by class and patient."""

import numpy as np
import pytest

from trainer.analysis import source_probe
from trainer.analysis.source_probe import Features

CLASSES = ("clear", "opacities")


def draw(rng: np.random.Generator, site: str, shift: float, count: int = 240) -> Features:
    """Features whose first channel shows the class, and whose second one shows the site."""
    labels = np.arange(count) % 2
    values = rng.normal(size=(count, 4))
    values[:, 0] += 3.0 * labels
    values[:, 1] += shift
    groups = np.array([f"{site}{number // 4}" for number in range(count)])
    return Features(values, labels, groups)


def test_hospitals_with_equal_features_are_not_told_apart():
    rng = np.random.default_rng(0)
    aucs = source_probe.probe(draw(rng, "a", 0.0), draw(rng, "b", 0.0), CLASSES)
    assert set(aucs) == set(CLASSES)
    for auc in aucs.values():
        assert auc.low <= 0.5 <= auc.high


def test_a_source_in_the_features_is_told_in_every_class():
    rng = np.random.default_rng(1)
    aucs = source_probe.probe(draw(rng, "a", 0.0), draw(rng, "b", 4.0), CLASSES)
    for auc in aucs.values():
        assert auc.low > 0.9


def test_the_disease_is_no_help():
    # One hospital is ill, the other healthy: within a class they are alike.
    rng = np.random.default_rng(2)
    own, other = draw(rng, "a", 0.0), draw(rng, "b", 0.0)
    ill = np.flatnonzero((other.labels == 1) | (np.arange(240) < 120))
    other = Features(other.values[ill], other.labels[ill], other.groups[ill])
    aucs = source_probe.probe(own, other, CLASSES)
    for auc in aucs.values():
        assert auc.low <= 0.5 <= auc.high


@pytest.mark.parametrize("patients", [0, 4])
def test_a_class_with_too_few_patients_is_left_out(patients):
    rng = np.random.default_rng(3)
    own, other = draw(rng, "a", 0.0), draw(rng, "b", 0.0)
    kept = (other.labels == 0) | np.isin(other.groups, [f"b{number}" for number in range(patients)])
    few = Features(other.values[kept], other.labels[kept], other.groups[kept])
    assert set(source_probe.probe(own, few, CLASSES)) == {"clear"}
