"""The risk–coverage curve against counting and a published area."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.builders import single_groups
from trainer.analysis.diagrams import risk_coverage_curve


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_the_curve_agrees_with_counting(seed, n):
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 8, n) / 8
    correct = rng.random(n) < 0.7
    coverage, risk, area = risk_coverage_curve(confidence, correct, single_groups(n))
    levels = np.unique(confidence)[::-1]
    answered = [confidence >= level for level in levels]
    np.testing.assert_allclose(coverage, [np.mean(images) for images in answered])
    np.testing.assert_allclose(risk, [np.mean(~correct[images]) for images in answered])
    risks = [np.mean(~correct[confidence >= value]) for value in confidence]
    assert area.value == pytest.approx(np.mean(risks))
    assert area.low <= area.high
    assert area.n == n
    assert coverage[-1] == 1.0
    assert risk[-1] == pytest.approx(np.mean(~correct))


def test_the_best_order_has_the_published_area():
    # Geifman 2019 (arXiv:1805.08206), section 3: for an error rate r the least area is about
    # r + (1 - r) ln(1 - r).
    n = 2_000
    correct = np.arange(n) < n - 400
    _, _, area = risk_coverage_curve(-np.arange(n, dtype=float), correct, np.arange(n) // 100)
    assert area.value == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=2e-3)


def test_three_images_have_the_area_of_a_third_of_a_third():
    confidence = np.array([0.9, 0.8, 0.6])
    _, _, area = risk_coverage_curve(confidence, np.array([True, True, False]), single_groups(3))
    assert area.value == pytest.approx(1 / 9)


def test_no_image_has_no_number():
    _, _, area = risk_coverage_curve(np.empty(0), np.empty(0, bool), single_groups(0))
    assert area.value is None
