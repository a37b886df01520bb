"""Intervals against published examples, independent implementations and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from tests.studies import coverage
from trainer.analysis import intervals

SEEDS = st.integers(0, 10_000)


def singles(n: int) -> np.ndarray:
    return np.array([f"g{i}" for i in range(n)])


@given(st.integers(1, 300), st.data())
def test_wilson_is_scipys(n, data):
    hits = data.draw(st.integers(0, n))
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert intervals.wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
    found = intervals.proportion(np.arange(n) < hits, singles(n))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_the_correlation_within_groups_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    member = np.repeat(np.arange(12), 5)
    values = rng.normal(size=12)[member] + rng.normal(size=60)
    f = stats.f_oneway(*(values[member == group] for group in range(12))).statistic
    assert intervals.intraclass_correlation(values, member) == pytest.approx(
        (f - 1) / (f + 4)
    )  # Donner 1986, equal sizes.


def test_the_correlation_within_groups_at_its_ends():
    member = np.repeat(np.arange(6), 4)
    assert intervals.intraclass_correlation(member % 2, member) == 1.0
    assert intervals.intraclass_correlation(np.arange(24) % 2, member) == 0.0
    assert intervals.intraclass_correlation(np.ones(24), member) == 0.0
    assert intervals.intraclass_correlation(np.arange(24) % 2, np.arange(24)) == 0.0
    assert intervals.intraclass_correlation(np.arange(24) % 2, np.zeros(24, int)) == 1.0


@given(SEEDS, st.integers(2, 80))
def test_the_effective_count_lies_between_one_and_the_number_of_images(seed, n):
    rng = np.random.default_rng(seed)
    hits, groups = rng.random(n) < 0.8, rng.integers(0, n, n).astype(str)
    assert 1.0 <= intervals.effective_count(hits, groups) <= n + 1e-9
    assert intervals.effective_count(hits, singles(n)) == pytest.approx(n)


def test_images_that_repeat_their_patient_count_about_once():
    hits = np.repeat(np.arange(40) % 5 > 0, 10)
    groups = np.repeat(singles(40), 10)
    assert intervals.effective_count(hits, groups) == pytest.approx(40, rel=0.5)


@given(SEEDS, st.integers(6, 80))
def test_the_area_is_scikit_learns_ties_included(seed, n):
    rng = np.random.default_rng(seed)
    positive = np.arange(n) < rng.integers(1, n)
    score = np.round(rng.normal(size=n) + positive, 1)
    found = intervals.area(positive, score, rng.integers(0, n, n).astype(str))
    assert found.value == pytest.approx(sk.roc_auc_score(positive, score))
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


def test_the_area_of_singles_away_from_one_has_delongs_interval_nearly():
    rng = np.random.default_rng(2)
    positive = np.arange(400) < 200
    score = rng.normal(size=400) + positive
    ours = intervals.area(positive, score, singles(400))
    above = (score[positive][:, None] > score[~positive]).astype(
        float
    )  # DeLong 1988 (doi:10.2307/2531595), written out.
    variance = above.mean(axis=1).var(ddof=1) / 200 + above.mean(axis=0).var(ddof=1) / 200
    assert ours.high - ours.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.1)


def test_an_area_of_one_has_an_interval_that_narrows_with_groups():
    positive = np.arange(40) < 20
    alone = intervals.area(positive, positive + 0.01 * np.arange(40) % 1, singles(40))
    together = intervals.area(
        positive, positive.astype(float) + np.arange(40) // 4, np.repeat(singles(10), 4)
    )
    assert alone.value == 1.0 and 0.85 < alone.low < 0.99
    assert together.low < alone.low


def test_one_class_has_no_area():
    assert intervals.area(np.ones(5, bool), np.arange(5.0), singles(5)).why == "one class only"


def test_resamples_are_of_whole_groups_and_the_same_for_one_seed():
    groups = np.array(["a", "a", "b", "c", "c", "c"])

    def seen(weights: np.ndarray) -> dict[str, np.ndarray]:
        assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
        assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
        return {"b": weights[:, 2]}

    first, again, other = (intervals.resample(seen, groups, seed)["b"] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any() and len(first) == 1000


def test_the_mean_has_the_width_of_students_interval():
    values = np.random.default_rng(0).normal(size=200)
    found = intervals.mean(values, singles(200))
    expected = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)


def test_the_mean_of_losses_is_skewed_as_they_are_and_stays_above_zero():
    values = np.random.default_rng(0).gamma(0.3, size=300)
    found = intervals.mean(values, singles(300))
    expected = stats.t.interval(0.95, 299, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=0.05)
    assert found.high - found.value > found.value - found.low > 0 < found.low
    together = intervals.mean(np.repeat(values[:60], 5), np.repeat(singles(60), 5))
    assert (
        together.high - together.low
        > 1.8 * (found.high - found.low) * values[:60].std() / values.std()
    )
    assert intervals.mean(values, np.full(300, "one")).value is None
    assert intervals.mean(np.zeros(300), singles(300)).value is None


def test_a_bounded_score_that_is_a_share_gets_wilsons_interval_nearly():
    hits = np.arange(200) < 180
    drawn = intervals.resample(
        lambda weights: {"": weights @ hits / 200}, singles(200), resamples=4000
    )[""]
    assert intervals.bounded(0.9, drawn, 200) == pytest.approx(
        intervals.wilson(180, 200), abs=0.005
    )
    assert intervals.bounded(1.0, np.ones(10), 50) == intervals.wilson(50, 50)


def test_wilson_covers_about_95_percent_averaged_over_shares():
    assert 0.93 < coverage.cover_wilson() < 0.97


@pytest.mark.slow
@pytest.mark.parametrize("design", list(coverage.DESIGNS))
@pytest.mark.parametrize("auc", [0.8, 0.95, 0.99])
def test_the_areas_interval_holds_it(design, auc):
    held, _ = coverage.cover_area(coverage.DESIGNS[design], auc, 400)
    assert (
        0.925 < held < 0.999
    )  # Two standard errors of 400 repeats about 0.95; near 1 it errs on the wide side.
