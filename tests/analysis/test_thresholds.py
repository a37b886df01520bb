"""Thresholds against scikit-learn's ROC curve, and predictive values against a published example."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from trainer.analysis import thresholds

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, n: int, decimals: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = np.arange(n) % 2 == 0
    score = np.round(1 / (1 + np.exp(-rng.normal(size=n) - 1.5 * positive + 0.75)), decimals)
    return positive, score, np.arange(n).astype(str)


@given(SEEDS, st.integers(40, 120), st.integers(1, 3))
def test_youdens_threshold_reaches_the_roc_curves_best(seed, n, decimals):
    positive, score, groups = drawn(seed, n, decimals)
    chosen = thresholds.choose(positive, score, groups, "validation")["youden"]
    false_positives, true_positives, _ = sk.roc_curve(positive, score)
    best = (true_positives - false_positives).max()
    assert chosen["sensitivity"].value + chosen["specificity"].value - 1 == pytest.approx(
        max(best, 0.0), abs=1e-9
    )


@given(SEEDS, st.integers(40, 120), st.integers(1, 3))
def test_no_threshold_with_95_percent_sensitivity_is_more_specific(seed, n, decimals):
    positive, score, groups = drawn(seed, n, decimals)
    chosen = thresholds.choose(positive, score, groups, "validation")["sensitivity_95"]
    false_positives, true_positives, _ = sk.roc_curve(positive, score, drop_intermediate=False)
    assert chosen["sensitivity"].value >= 0.95
    assert chosen["specificity"].value == pytest.approx(
        (1 - false_positives)[true_positives >= 0.95].max()
    )


def test_a_threshold_lies_halfway_between_the_scores_it_parts():
    positive, score = np.arange(40) >= 20, np.r_[np.linspace(0, 0.2, 20), np.linspace(0.9, 1, 20)]
    found = thresholds.choose(positive, score, np.arange(40).astype(str), "out-of-fold")
    assert (
        found["youden"]["threshold"] == pytest.approx(0.55)
        and found["youden"]["chosen_on"] == "out-of-fold"
    )
    assert (
        0.9 < found["sensitivity_95"]["threshold"] < 0.91
    )  # One of twenty positives may be missed.
    assert found["half"]["threshold"] == 0.5 and found["half"]["n"] == 40


def test_equal_scores_leave_one_side_only():
    positive, score = np.arange(40) % 2 == 0, np.full(40, 0.7)
    chosen = thresholds.choose(positive, score, np.arange(40).astype(str), "validation")["youden"]
    assert (chosen["sensitivity"].value, chosen["specificity"].value) == (1.0, 0.0)


@pytest.mark.parametrize("positive", [np.ones(30, bool), np.zeros(30, bool), np.zeros(0, bool)])
def test_one_class_gives_no_threshold_but_one_half(positive):
    groups = np.arange(len(positive)).astype(str)
    found = thresholds.choose(positive, np.linspace(0, 1, len(positive)), groups, "validation")
    assert found["youden"]["threshold"] is None and "one class" in found["youden"]["why"]
    assert found["half"]["threshold"] == 0.5
    applied = thresholds.apply(found, positive, np.linspace(0, 1, len(positive)), groups)
    assert applied["youden"]["sensitivity"].value is None and applied["youden"]["sensitivity"].why


def test_few_positives_give_no_threshold_at_95_percent_sensitivity():
    positive, score, groups = drawn(0, 30)
    assert (
        thresholds.choose(positive, score, groups, "validation")["sensitivity_95"]["threshold"]
        is None
    )


@given(SEEDS)
def test_applied_thresholds_give_what_scikit_learn_counts(seed):
    found = thresholds.choose(*drawn(seed, 60), "validation")
    positive, score, groups = drawn(seed + 1, 80)
    for name, applied in thresholds.apply(found, positive, score, groups).items():
        called = score >= found[name]["threshold"]
        assert applied["sensitivity"].value == pytest.approx(sk.recall_score(positive, called))
        assert applied["specificity"].value == pytest.approx(sk.recall_score(~positive, ~called))
        assert applied["sensitivity"].n == positive.sum()


def of_counts(
    hits: int, cases: int, rejections: int, controls: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positive = np.arange(cases + controls) < cases
    score = np.r_[np.arange(cases) < hits, np.arange(controls) >= rejections].astype(float)
    return positive, score, np.arange(cases + controls).astype(str)


def test_predictive_values_give_the_published_example():
    """The 70-gene signature of Mercaldo 2007, with the intervals that the manual of CIfinder prints (CRAN)."""
    found = thresholds.predictive_values(*of_counts(31, 34, 32, 44), prevalences=(0.07,))["0.07"]
    for name, published in {
        "ppv": (0.2010444, 0.1331384, 0.2919216),
        "npv": (0.9909508, 0.9734141, 0.9969560),
    }.items():
        assert (found[name].value, found[name].low, found[name].high) == pytest.approx(
            published, abs=1e-6
        )


def test_predictive_values_without_an_error_are_adjusted_as_published():
    found = thresholds.predictive_values(*of_counts(31, 34, 44, 44), prevalences=(0.07,))["0.07"]
    assert (
        found["ppv"].low == pytest.approx(0.2886800, abs=1e-6)
        and found["ppv"].value == found["ppv"].high == 1.0
    )
    assert (found["npv"].low, found["npv"].high) == pytest.approx((0.9772354, 0.9955563), abs=1e-6)


@given(SEEDS)
def test_predictive_values_at_the_samples_own_prevalence_are_the_samples_own(seed):
    positive, score, groups = drawn(seed, 60)
    found = thresholds.predictive_values(positive, score, groups, prevalences=(0.5, 0.05))
    assert found["0.5"]["ppv"].value == pytest.approx(sk.precision_score(positive, score >= 0.5))
    assert found["0.05"]["ppv"].value <= found["0.5"]["ppv"].value
    for estimate in (found["0.05"]["ppv"], found["0.05"]["npv"]):
        assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0


def test_no_predictive_value_without_a_call_or_a_class():
    nothing_called = thresholds.predictive_values(*of_counts(0, 30, 30, 30))
    assert nothing_called["0.01"]["ppv"].value is None and nothing_called["0.01"][
        "npv"
    ].value == pytest.approx(0.99)
    assert (
        thresholds.predictive_values(np.ones(5, bool), np.ones(5), np.arange(5).astype(str))["0.2"][
            "ppv"
        ].value
        is None
    )
