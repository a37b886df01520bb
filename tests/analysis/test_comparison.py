"""Comparisons: against independent counts, known differences, and controls as good as the model."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tests.analysis.builders import make_predictions, softmax
from tests.studies import coverage
from trainer.analysis import comparison
from trainer.analysis.predictions import Predictions

SEEDS = st.integers(0, 10_000)


def classifiers(seed: int, n: int, *strengths: float, classes: int = 2) -> list[Predictions]:
    """Simulates classifiers of given strengths on n images in groups of two.

    A strength of 0 guesses.
    """
    rng = np.random.default_rng(seed)
    groups = (np.arange(n) // 2).astype(str)
    labels = np.arange(n) // 2 % classes
    results = []
    for strength in strengths:
        logits = rng.normal(size=(n, classes)) + strength * np.eye(classes)[labels]
        results.append(make_predictions(labels, softmax(logits), groups))
    return results


@given(
    st.integers(0, 15),
    st.integers(0, 15),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_mcnemars_test_is_a_sum_of_binomials(
    only_first,
    only_second,
    both,
    neither,
):
    counts = (only_first, only_second, both, neither)
    right = np.repeat([[1, 0], [0, 1], [1, 1], [0, 0]], counts, axis=0)  # [n, models]
    labels = np.ones(len(right), int)
    # The predicted class is 1 where the model is right.
    first, second = (make_predictions(labels, np.eye(2)[right[:, model]]) for model in (0, 1))
    result = comparison.mcnemar(first, second)
    assert (result.only_first, result.only_second, result.both, result.neither) == counts
    discordant = only_first + only_second
    if discordant == 0:
        assert result.p_value is None
        return
    fewer = min(only_first, only_second)
    # Twice the tail of the fair binomial distribution.
    tail = sum(math.comb(discordant, count) for count in range(fewer + 1)) / 2**discordant
    assert result.p_value == pytest.approx(min(1.0, 2 * tail))


def sklearn_auc(predictions: Predictions) -> float:
    if predictions.positive_index is None:
        return sklearn_metrics.roc_auc_score(
            predictions.labels, predictions.probabilities, multi_class="ovr"
        )
    return sklearn_metrics.roc_auc_score(predictions.labels, predictions.positive_probabilities)


@given(SEEDS, st.integers(2, 3))
def test_the_auc_difference_agrees_with_scikit_learn_in_both_orders(seed, classes):
    first, second = classifiers(
        seed,
        60,
        2.0,
        0.5,
        classes=classes,
    )
    result = comparison.auc_difference(first, second)
    reverse = comparison.auc_difference(second, first)
    assert result.value == pytest.approx(sklearn_auc(first) - sklearn_auc(second))
    assert result.value == pytest.approx(-reverse.value)
    assert result.low == pytest.approx(-reverse.high)
    assert result.high == pytest.approx(-reverse.low)
    assert result.low <= result.value <= result.high
    assert (result.n, result.groups) == (60, 30)


def test_a_better_model_beats_its_best_control():
    model, weak, guess = classifiers(
        1,
        300,
        3.0,
        0.7,
        0.0,
    )
    result = comparison.compare_with_controls(model, {"border": weak, "header": guess})
    assert result.best_control == "border"
    assert result.difference.low > 0
    assert result.best_control_shares["border"] > 0.9
    assert sum(result.best_control_shares.values()) == pytest.approx(1.0)
    difference = result.model_auc.value - result.control_auc.value
    assert result.difference.value == pytest.approx(difference)
    sentence = comparison.describe(result)
    assert "does better than every control" in sentence
    assert "border" in sentence


def test_a_control_as_good_as_the_model_is_reported_in_one_line():
    model, control = classifiers(
        2,
        300,
        2.0,
        2.2,
    )
    sentence = comparison.describe(comparison.compare_with_controls(model, {"header": control}))
    assert sentence.startswith("On this data the score is not shown to come from the lungs: ")
    assert "header" in sentence
    assert sentence.count(".") > 3  # It states numbers.
    assert "\n" not in sentence


def test_rechoosing_the_best_of_many_controls_lowers_the_bound():
    model, *guesses = classifiers(
        3,
        200,
        1.0,
        *[0.4] * 8,
    )
    controls = {f"control {number}": control for number, control in enumerate(guesses)}
    among_all = comparison.compare_with_controls(model, controls)
    best = among_all.best_control
    alone = comparison.compare_with_controls(model, {best: controls[best]})
    assert among_all.difference.value == pytest.approx(alone.difference.value)
    assert among_all.difference.low < alone.difference.low
    # In some resamples another control is the best.
    assert max(among_all.best_control_shares.values()) < 1.0


def test_two_models_without_error_may_differ():
    labels = np.repeat([0, 1], 20)
    # All resamples have the AUC 1: the intervals of both AUCs are combined.
    perfect = make_predictions(labels, np.eye(2)[labels])
    result = comparison.auc_difference(perfect, perfect)
    assert result.value == 0.0
    assert result.low < -0.01
    assert result.high > 0.01


def test_there_is_no_difference_without_controls_or_with_one_class():
    model, control = classifiers(
        0,
        20,
        1.0,
        1.0,
    )
    nothing = comparison.compare_with_controls(model, {})
    assert nothing.difference.value is None
    assert "cannot be said" in comparison.describe(nothing)
    one_class = make_predictions(np.zeros(20, int), model.probabilities, model.groups)
    result = comparison.compare_with_controls(one_class, {"header": control})
    assert result.difference.value is None
    assert "class" in comparison.describe(result)


def test_a_seed_decides_the_interval():
    first, second = classifiers(
        4,
        60,
        1.5,
        1.0,
    )
    once, again, other = (comparison.auc_difference(first, second, seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other


@pytest.mark.slow
def test_the_difference_is_covered_about_95_percent_of_the_time():
    design = coverage.DESIGNS["219 images, no groups"]
    coverage_share, _ = coverage.cover_difference(design, (0.95, 0.9), 300)
    assert 0.92 < coverage_share < 0.985
