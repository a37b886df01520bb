"""Intervals: against published examples, independent implementations and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from tests.analysis.builders import single_groups
from tests.studies import coverage
from trainer.analysis import clusters, intervals

SEEDS = st.integers(0, 10_000)


@given(st.integers(1, 300), st.data())
def test_wilsons_interval_agrees_with_scipy(n, data):
    hits = data.draw(st.integers(0, n))
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    bounds = pytest.approx((expected.low, expected.high), abs=1e-9)
    assert intervals.wilson(hits, n) == bounds
    share = intervals.proportion(np.arange(n) < hits, single_groups(n))
    assert (share.low, share.high) == bounds
    assert share.low <= share.value <= share.high


def test_wilsons_interval_agrees_with_the_published_example():
    # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857), table I.
    assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert intervals.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_wilsons_interval_of_the_reference_score():
    assert intervals.wilson(195, 219) == pytest.approx((0.842, 0.925), abs=1e-3)


def test_wilsons_interval_covers_about_95_percent():
    rng = np.random.default_rng(0)
    covered = []
    for share in rng.uniform(0.02, 0.98, 400):
        bounds = [intervals.wilson(hits, 60) for hits in rng.binomial(60, share, 50)]
        covered += [low <= share <= high for low, high in bounds]
    assert 0.93 < np.mean(covered) < 0.97


def test_wilsons_interval_covers_about_95_percent_in_the_study():
    assert 0.93 < coverage.cover_wilson() < 0.97


@given(st.floats(0.5, 1.0), st.integers(5, 300), st.integers(5, 300))
def test_the_auc_interval_contains_the_auc_and_narrows_with_numbers(
    auc,
    positives,
    negatives,
):
    low, high = intervals.auc_score_interval(auc, positives, negatives)
    assert 0.0 <= low <= auc <= high <= 1.0
    assert low < high
    # Four times as many images.
    closer = intervals.auc_score_interval(auc, 4 * positives, 4 * negatives)
    assert closer[1] - closer[0] < high - low + 1e-9


def test_groups_widen_the_interval_where_their_images_agree():
    rng = np.random.default_rng(0)
    # The ten images of a group agree.
    hits = np.repeat(rng.random(40) < 0.8, 10)
    alone = intervals.proportion(hits, single_groups(400))
    together = intervals.proportion(hits, np.repeat(single_groups(40), 10))
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert (together.n, together.groups) == (400, 40)


def test_an_estimate_without_a_number_has_no_numbers():
    missing = intervals.missing("one class only", single_groups(3))
    with pytest.raises(ValueError, match="one class only"):
        missing.numbers()
    assert str(missing) == "none (one class only)"


def test_the_correlation_within_groups_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    member = np.repeat(np.arange(12), 5)
    # An effect of the group, and noise of the same variance.
    values = rng.normal(size=12)[member] + rng.normal(size=60)
    f = stats.f_oneway(*(values[member == group] for group in range(12))).statistic
    # Donner 1986, equal sizes.
    expected = (f - 1) / (f + 4)
    assert clusters.intraclass_correlation(values, member) == pytest.approx(expected)


def test_the_correlation_within_groups_at_its_bounds():
    member = np.repeat(np.arange(6), 4)
    alternating = np.arange(24) % 2
    assert clusters.intraclass_correlation(member % 2, member) == 1.0
    assert clusters.intraclass_correlation(alternating, member) == 0.0
    assert clusters.intraclass_correlation(np.ones(24), member) == 0.0
    assert clusters.intraclass_correlation(alternating, np.arange(24)) == 0.0
    assert clusters.intraclass_correlation(alternating, np.zeros(24, int)) == 1.0


@given(SEEDS, st.integers(2, 80))
def test_the_effective_count_lies_between_one_and_the_number_of_images(seed, n):
    rng = np.random.default_rng(seed)
    hits = rng.random(n) < 0.8
    groups = rng.integers(0, n, n).astype(str)
    assert 1.0 <= clusters.effective_count(hits, groups) <= n + 1e-9
    assert clusters.effective_count(hits, single_groups(n)) == pytest.approx(n)


def test_images_that_repeat_their_patient_count_about_once():
    hits = np.repeat(np.arange(40) % 5 > 0, 10)
    groups = np.repeat(single_groups(40), 10)
    assert clusters.effective_count(hits, groups) == pytest.approx(40, rel=0.5)


@given(SEEDS, st.integers(6, 80))
def test_the_auc_agrees_with_scikit_learn_also_with_ties(seed, n):
    rng = np.random.default_rng(seed)
    positive = np.arange(n) < rng.integers(1, n)
    score = np.round(rng.normal(size=n) + positive, 1)
    auc = intervals.auc(positive, score, rng.integers(0, n, n).astype(str))
    assert auc.value == pytest.approx(sklearn_metrics.roc_auc_score(positive, score))
    assert 0.0 <= auc.low <= auc.value <= auc.high <= 1.0


def test_the_auc_interval_of_single_images_is_nearly_as_wide_as_delongs():
    rng = np.random.default_rng(2)
    positive = np.arange(400) < 200
    score = rng.normal(size=400) + positive
    auc = intervals.auc(positive, score, single_groups(400))
    # DeLong 1988 (doi:10.2307/2531595), written out.
    above = (score[positive][:, None] > score[~positive]).astype(float)
    variance = above.mean(axis=1).var(ddof=1) / 200 + above.mean(axis=0).var(ddof=1) / 200
    assert auc.high - auc.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.1)


def test_the_interval_of_an_auc_of_one_narrows_with_groups():
    positive = np.arange(40) < 20
    alone = intervals.auc(positive, positive + 0.01 * np.arange(40) % 1, single_groups(40))
    grouped_score = positive.astype(float) + np.arange(40) // 4
    together = intervals.auc(positive, grouped_score, np.repeat(single_groups(10), 4))
    assert alone.value == 1.0
    assert 0.85 < alone.low < 0.99
    assert together.low < alone.low


def test_one_class_has_no_auc():
    auc = intervals.auc(np.ones(5, bool), np.arange(5.0), single_groups(5))
    assert auc.why == "one class only"


def test_resamples_are_of_whole_groups_and_reproducible():
    groups = np.array(["a", "a", "b", "c", "c", "c"])

    def statistic(weights: np.ndarray) -> np.ndarray:
        # Images of one group have one weight.
        assert (weights[:, 0] == weights[:, 1]).all()
        assert (weights[:, 3] == weights[:, 5]).all()
        # Three groups are drawn.
        assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
        return weights[:, 2]

    once, again, other = (intervals.resample(statistic, groups, seed) for seed in (1, 1, 2))
    assert (once == again).all()
    assert (once != other).any()
    assert len(once) == 1000


def test_the_interval_of_a_mean_is_as_wide_as_students():
    values = np.random.default_rng(0).normal(size=200)
    mean = intervals.mean(values, single_groups(200))
    expected = stats.t.interval(
        0.95,
        199,
        values.mean(),
        stats.sem(values),
    )
    assert (mean.low, mean.high) == pytest.approx(expected, abs=0.02)


def test_the_interval_of_a_mean_loss_is_skewed_and_stays_above_zero():
    values = np.random.default_rng(0).gamma(0.3, size=300)
    mean = intervals.mean(values, single_groups(300))
    expected = stats.t.interval(
        0.95,
        299,
        values.mean(),
        stats.sem(values),
    )
    assert (mean.low, mean.high) == pytest.approx(expected, rel=0.05)
    assert mean.high - mean.value > mean.value - mean.low
    assert mean.low > 0
    repeated = intervals.mean(np.repeat(values[:60], 5), np.repeat(single_groups(60), 5))
    # A fifth of the independent values, corrected for their other spread.
    scaled_width = (mean.high - mean.low) * values[:60].std() / values.std()
    assert repeated.high - repeated.low > 1.8 * scaled_width


def test_a_mean_of_one_group_or_of_zeros_has_no_number():
    values = np.random.default_rng(0).gamma(0.3, size=300)
    assert intervals.mean(values, np.full(300, "one")).value is None
    assert intervals.mean(np.zeros(300), single_groups(300)).value is None


def test_a_bounded_score_that_is_a_share_has_nearly_wilsons_interval():
    hits = np.arange(200) < 180
    samples = intervals.resample(
        lambda weights: weights @ hits / 200,
        single_groups(200),
        resamples=4000,
    )
    expected = intervals.wilson(180, 200)
    assert intervals.bounded(0.9, samples, 200) == pytest.approx(expected, abs=0.005)
    assert intervals.bounded(1.0, np.ones(10), 50) == intervals.wilson(50, 50)


@pytest.mark.slow
@pytest.mark.parametrize("design", list(coverage.DESIGNS))
@pytest.mark.parametrize("auc", [0.8, 0.95, 0.99])
def test_the_auc_interval_covers_the_true_auc(design, auc):
    coverage_share, _ = coverage.cover_auc(coverage.DESIGNS[design], auc, 400)
    # Two standard errors of 400 repeats about 0.95; near 1 it errs on the wide side.
    assert 0.925 < coverage_share < 0.999
