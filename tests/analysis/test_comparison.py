"""Comparisons against independent counts, known differences, and controls that are as good as the model."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from tests.studies import coverage
from trainer.analysis import comparison

NAMES = ("non_covid", "covid")
SEEDS = st.integers(0, 10_000)


def classifiers(
    seed: int, n: int, *strengths: float, classes: int = 2
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Labels, groups of two, and the probabilities of classifiers of the given strengths (0 guesses)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 2 % classes
    logits = [
        rng.normal(size=(n, classes)) + strength * np.eye(classes)[labels] for strength in strengths
    ]
    return (
        labels,
        (np.arange(n) // 2).astype(str),
        [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits],
    )


@given(st.integers(0, 15), st.integers(0, 15), st.integers(0, 5), st.integers(0, 5))
def test_mcnemars_test_is_the_binomial_sum(only_first, only_second, both, neither):
    right = np.repeat(
        [[1, 0], [0, 1], [1, 1], [0, 0]], [only_first, only_second, both, neither], axis=0
    )
    found = comparison.mcnemar(np.ones(len(right), int), right[:, 0], right[:, 1])
    assert (found.only_first, found.only_second, found.both, found.neither) == (
        only_first,
        only_second,
        both,
        neither,
    )
    discordant = only_first + only_second
    if discordant == 0:
        assert found.p_value is None
    else:
        tail = (
            sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
            / 2**discordant
        )
        assert found.p_value == pytest.approx(min(1.0, 2 * tail))


@given(SEEDS, st.integers(2, 3))
def test_the_difference_in_area_is_scikit_learns_and_changes_sign_with_the_order(seed, classes):
    labels, groups, (first, second) = classifiers(seed, 60, 2.0, 0.5, classes=classes)
    names, positive = (NAMES, "covid") if classes == 2 else (("a", "b", "c"), None)
    found = comparison.auc_difference(first, second, labels, groups, names, positive)
    back = comparison.auc_difference(second, first, labels, groups, names, positive)
    areas = [
        sk.roc_auc_score(labels, each[:, 1])
        if classes == 2
        else sk.roc_auc_score(labels, each, multi_class="ovr")
        for each in (first, second)
    ]
    assert found.value == pytest.approx(areas[0] - areas[1])
    assert (found.value, found.low, found.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )
    assert found.low <= found.value <= found.high and (found.n, found.groups) == (60, 30)


def test_a_better_model_is_found_better_than_its_best_control():
    labels, groups, (full, weak, guess) = classifiers(1, 300, 3.0, 0.7, 0.0)
    found = comparison.minus_best_control(
        full, {"border": weak, "header": guess}, labels, groups, NAMES, "covid"
    )
    assert found.best == "border" and found.difference.low > 0
    assert found.times_best["border"] > 0.9 and sum(found.times_best.values()) == pytest.approx(1.0)
    assert found.difference.value == pytest.approx(found.full.value - found.best_area.value)
    assert "does better than every control" in comparison.sentence(
        found
    ) and "border" in comparison.sentence(found)


def test_a_control_as_good_as_the_model_is_said_plainly():
    labels, groups, (full, control) = classifiers(2, 300, 2.0, 2.2)
    said = comparison.sentence(
        comparison.minus_best_control(full, {"header": control}, labels, groups, NAMES, "covid")
    )
    assert (
        said.startswith("On this data the score is not shown to come from the lungs: ")
        and "header" in said
    )
    assert said.count(".") > 3 and "\n" not in said


def test_choosing_the_best_of_many_controls_anew_asks_more_of_the_model():
    labels, groups, (full, *controls) = classifiers(3, 200, 1.0, *[0.4] * 8)
    named = {f"control {number}": control for number, control in enumerate(controls)}
    every = comparison.minus_best_control(full, named, labels, groups, NAMES, "covid")
    alone = comparison.minus_best_control(
        full, {every.best: named[every.best]}, labels, groups, NAMES, "covid"
    )
    assert every.difference.value == pytest.approx(alone.difference.value)
    assert every.difference.low < alone.difference.low
    assert max(every.times_best.values()) < 1.0


def test_two_models_without_error_are_not_told_apart_to_the_last_digit():
    labels = np.repeat([0, 1], 20)
    perfect = np.stack([1 - labels, labels], axis=1).astype(float)
    found = comparison.auc_difference(
        perfect, perfect, labels, np.arange(40).astype(str), NAMES, "covid"
    )
    assert found.value == 0.0 and found.low < -0.01 and found.high > 0.01


def test_no_difference_without_controls_or_with_one_class():
    labels, groups, (full, control) = classifiers(0, 20, 1.0, 1.0)
    nothing = comparison.minus_best_control(full, {}, labels, groups, NAMES, "covid")
    assert nothing.difference.value is None and "cannot be said" in comparison.sentence(nothing)
    one = comparison.minus_best_control(
        full, {"header": control}, np.zeros(20, int), groups, NAMES, "covid"
    )
    assert one.difference.value is None and "class" in comparison.sentence(one)


def test_one_seed_gives_one_interval():
    labels, groups, (first, second) = classifiers(4, 60, 1.5, 1.0)
    once, again, other = (
        comparison.auc_difference(first, second, labels, groups, NAMES, "covid", seed)
        for seed in (1, 1, 2)
    )
    assert once == again and once != other


@pytest.mark.slow
def test_the_difference_is_held_about_95_percent_of_the_time():
    held, _ = coverage.cover_difference(coverage.DESIGNS["219 images, no groups"], (0.95, 0.9), 300)
    assert 0.92 < held < 0.985
