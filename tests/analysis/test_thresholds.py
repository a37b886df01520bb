"""Thresholds against scikit-learn's ROC curve, predictive values against a published example."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from trainer.analysis import thresholds

SEEDS = st.integers(0, 10_000)
SIZES = st.integers(40, 120)
DECIMALS = st.integers(1, 3)


def simulated(
    seed: int,
    n: int,
    decimals: int = 3,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulates (positive, score, groups) of n images, half of them positive."""
    rng = np.random.default_rng(seed)
    positive = np.arange(n) % 2 == 0
    score = np.round(1 / (1 + np.exp(-rng.normal(size=n) - 1.5 * positive + 0.75)), decimals)
    return positive, score, np.arange(n).astype(str)


@given(SEEDS, SIZES, DECIMALS)
def test_youdens_threshold_is_the_best_of_the_roc_curve(
    seed,
    n,
    decimals,
):
    positive, score, groups = simulated(seed, n, decimals)
    youden = thresholds.choose(
        positive,
        score,
        groups,
        "validation",
    )["youden"]
    false_positives, true_positives, _ = sklearn_metrics.roc_curve(positive, score)
    best = max((true_positives - false_positives).max(), 0.0)
    index = youden["sensitivity"].value + youden["specificity"].value - 1
    assert index == pytest.approx(best, abs=1e-9)


@given(SEEDS, SIZES, DECIMALS)
def test_no_threshold_with_95_percent_sensitivity_is_more_specific(
    seed,
    n,
    decimals,
):
    positive, score, groups = simulated(seed, n, decimals)
    chosen = thresholds.choose(
        positive,
        score,
        groups,
        "validation",
    )["sensitivity_95"]
    false_positives, true_positives, _ = sklearn_metrics.roc_curve(
        positive, score, drop_intermediate=False
    )
    assert chosen["sensitivity"].value >= 0.95
    best = (1 - false_positives)[true_positives >= 0.95].max()
    assert chosen["specificity"].value == pytest.approx(best)


def test_a_threshold_lies_halfway_between_the_scores_it_separates():
    positive = np.arange(40) >= 20
    score = np.r_[np.linspace(0, 0.2, 20), np.linspace(0.9, 1, 20)]
    chosen = thresholds.choose(
        positive,
        score,
        np.arange(40).astype(str),
        "out-of-fold",
    )
    assert chosen["youden"]["threshold"] == pytest.approx(0.55)
    assert chosen["youden"]["chosen_on"] == "out-of-fold"
    # One of twenty positives may be missed.
    assert 0.9 < chosen["sensitivity_95"]["threshold"] < 0.91
    assert chosen["half"]["threshold"] == 0.5
    assert chosen["half"]["n"] == 40


def test_equal_scores_are_all_called_positive():
    positive = np.arange(40) % 2 == 0
    groups = np.arange(40).astype(str)
    youden = thresholds.choose(
        positive,
        np.full(40, 0.7),
        groups,
        "validation",
    )["youden"]
    assert (youden["sensitivity"].value, youden["specificity"].value) == (1.0, 0.0)


@pytest.mark.parametrize("positive", [np.ones(30, bool), np.zeros(30, bool), np.zeros(0, bool)])
def test_one_class_has_no_threshold_but_one_half(positive):
    groups = np.arange(len(positive)).astype(str)
    score = np.linspace(0, 1, len(positive))
    chosen = thresholds.choose(
        positive,
        score,
        groups,
        "validation",
    )
    assert chosen["youden"]["threshold"] is None
    assert "one class" in chosen["youden"]["why"]
    assert chosen["half"]["threshold"] == 0.5
    applied = thresholds.apply(
        chosen,
        positive,
        score,
        groups,
    )
    assert applied["youden"]["sensitivity"].value is None
    assert applied["youden"]["sensitivity"].why


def test_few_positives_have_no_threshold_at_95_percent_sensitivity():
    chosen = thresholds.choose(*simulated(0, 30), "validation")
    assert chosen["sensitivity_95"]["threshold"] is None


@given(SEEDS)
def test_applied_thresholds_agree_with_scikit_learn(seed):
    chosen = thresholds.choose(*simulated(seed, 60), "validation")
    positive, score, groups = simulated(seed + 1, 80)
    for name, applied in thresholds.apply(
        chosen,
        positive,
        score,
        groups,
    ).items():
        # An image is called positive from the threshold on.
        called = score >= chosen[name]["threshold"]
        sensitivity = sklearn_metrics.recall_score(positive, called)
        specificity = sklearn_metrics.recall_score(~positive, ~called)
        assert applied["sensitivity"].value == pytest.approx(sensitivity)
        assert applied["specificity"].value == pytest.approx(specificity)
        assert applied["sensitivity"].n == positive.sum()


def from_counts(
    hits: int,
    cases: int,
    rejections: int,
    controls: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Builds (positive, score, groups) with given counts of correct calls."""
    positive = np.arange(cases + controls) < cases  # Cases first.
    score = np.r_[np.arange(cases) < hits, np.arange(controls) >= rejections].astype(float)
    return positive, score, np.arange(cases + controls).astype(str)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("ppv", (0.2010444, 0.1331384, 0.2919216)),
        ("npv", (0.9909508, 0.9734141, 0.9969560)),
    ],
)
def test_predictive_values_agree_with_the_published_example(name, published):
    # The 70-gene signature of Mercaldo 2007, with intervals from the manual of CIfinder (CRAN).
    values = thresholds.predictive_values(
        *from_counts(
            31,
            34,
            32,
            44,
        ),
        prevalences=(0.07,),
    )
    assert values["0.07"][name].numbers() == pytest.approx(published, abs=1e-6)


def test_predictive_values_without_an_error_are_adjusted_as_published():
    values = thresholds.predictive_values(
        *from_counts(
            31,
            34,
            44,
            44,
        ),
        prevalences=(0.07,),
    )
    ppv = values["0.07"]["ppv"]
    npv = values["0.07"]["npv"]
    assert ppv.low == pytest.approx(0.2886800, abs=1e-6)
    assert ppv.value == ppv.high == 1.0
    assert (npv.low, npv.high) == pytest.approx((0.9772354, 0.9955563), abs=1e-6)


@given(SEEDS)
def test_predictive_values_at_the_prevalence_of_the_sample_are_its_precision(seed):
    positive, score, groups = simulated(seed, 60)
    values = thresholds.predictive_values(
        positive,
        score,
        groups,
        prevalences=(0.5, 0.05),
    )
    # Half of the simulated images are positive.
    precision = sklearn_metrics.precision_score(positive, score >= 0.5)
    assert values["0.5"]["ppv"].value == pytest.approx(precision)
    assert values["0.05"]["ppv"].value <= values["0.5"]["ppv"].value
    for estimate in values["0.05"].values():
        assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0


def test_there_is_no_predictive_value_without_a_call():
    values = thresholds.predictive_values(
        *from_counts(
            0,
            30,
            30,
            30,
        )
    )["0.01"]
    assert values["ppv"].value is None
    assert values["npv"].value == pytest.approx(0.99)


def test_there_is_no_predictive_value_without_a_class():
    groups = np.arange(5).astype(str)
    values = thresholds.predictive_values(np.ones(5, bool), np.ones(5), groups)
    assert values["0.2"]["ppv"].value is None
