"""Scores of predictions, compared with scikit-learn."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tests.analysis.builders import make_predictions, random_predictions, single_groups
from trainer.analysis import metrics, weighted

SEEDS = st.integers(0, 10_000)


def expect_values(scores: dict, expected: dict) -> None:
    """Asserts the values, and that each lies within its interval."""
    for name, value in expected.items():
        assert scores[name].value == pytest.approx(value, abs=1e-9), name
        assert scores[name].low <= scores[name].value <= scores[name].high, name


@given(SEEDS, st.integers(8, 60))
def test_scores_agree_with_scikit_learn(seed, n):
    predictions = random_predictions(seed, n)
    labels = predictions.labels
    predicted = predictions.predicted
    scores = metrics.scores(predictions)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "loss": sklearn_metrics.log_loss(labels, predictions.probabilities),
        "roc_auc": sklearn_metrics.roc_auc_score(labels, predictions.probabilities[:, 1]),
        "sensitivity": sklearn_metrics.recall_score(labels, predicted),
        "specificity": sklearn_metrics.recall_score(labels, predicted, pos_label=0),
    }
    assert list(scores) == list(expected)  # In the order of metrics.json.
    expect_values(scores, expected)
    assert scores["accuracy"].n == scores["accuracy"].groups == n


def test_three_classes_have_a_mean_auc_and_one_sensitivity_each():
    predictions = random_predictions(3, 90, classes=3)
    scores = metrics.scores(predictions)
    auc = sklearn_metrics.roc_auc_score(
        predictions.labels, predictions.probabilities, multi_class="ovr"
    )
    recalls = sklearn_metrics.recall_score(predictions.labels, predictions.predicted, average=None)
    assert scores["roc_auc"].value == pytest.approx(auc)
    for name, recall in zip("abc", recalls, strict=True):
        assert scores[f"sensitivity_{name}"].value == pytest.approx(recall)


def test_an_auc_of_one_has_an_interval():
    labels = np.repeat([0, 1], 20)
    probabilities = np.stack([1 - labels, labels], axis=1).astype(float)
    for groups in (single_groups(40), np.array([f"g{index // 4}" for index in range(40)])):
        scores = metrics.scores(make_predictions(labels, probabilities, groups))
        assert scores["roc_auc"].value == 1.0
        assert scores["roc_auc"].low < 0.95
        assert scores["accuracy"].value == 1.0
        assert scores["accuracy"].low < 0.95


def test_the_same_predictions_give_the_same_interval():
    predictions = random_predictions(5, 60, group_size=3)
    assert metrics.scores(predictions) == metrics.scores(predictions)


def test_scores_without_a_number_say_why():
    predictions = make_predictions(np.array([0, 0]), np.array([[0.8, 0.2], [0.6, 0.4]]))
    scores = metrics.scores(predictions)
    assert scores["roc_auc"].value is None
    assert "missing" in scores["roc_auc"].why
    assert scores["sensitivity"].value is None
    assert scores["sensitivity"].n == 0
    assert scores["specificity"].value == 1.0
    # metrics.json has a reason only where it has no number.
    assert "why" in scores["roc_auc"].to_dict()
    assert "why" not in scores["specificity"].to_dict()


@given(SEEDS, st.integers(40, 90), st.floats(0.2, 0.8))
def test_detailed_scores_agree_with_scikit_learn(
    seed,
    n,
    threshold,
):
    predictions = random_predictions(seed, n, group_size=2)
    labels = predictions.labels
    probability = predictions.probabilities[:, 1]
    predicted = (probability >= threshold).astype(int)
    scores = metrics.scores(predictions, detailed=True, threshold=threshold)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "sensitivity": sklearn_metrics.recall_score(labels, predicted),
        "specificity": sklearn_metrics.recall_score(labels, predicted, pos_label=0),
        "ppv": sklearn_metrics.precision_score(labels, predicted),
        "npv": sklearn_metrics.precision_score(labels, predicted, pos_label=0),
        "f1": sklearn_metrics.f1_score(labels, predicted),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, predicted),
        "roc_auc": sklearn_metrics.roc_auc_score(labels, probability),
        "pr_auc": sklearn_metrics.average_precision_score(labels, probability),
        "log_loss": sklearn_metrics.log_loss(labels, predictions.probabilities),
        "brier": sklearn_metrics.brier_score_loss(labels, probability),
    }
    for name, value in expected.items():
        assert scores[name].value == pytest.approx(value, abs=1e-9), name
    for name, score in scores.items():
        assert score.low <= score.value <= score.high, name
        assert score.groups <= score.n <= n, name
        assert json.dumps(score.to_dict()), name
    assert scores["accuracy"].groups == len(np.unique(predictions.groups))


@given(SEEDS)
def test_detailed_scores_of_three_classes_agree_with_scikit_learn(seed):
    predictions = random_predictions(seed, 60, classes=3)
    labels = predictions.labels
    predicted = predictions.predicted
    probabilities = predictions.probabilities
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, predicted),
        "macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
        "roc_auc": sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "pr_auc": sklearn_metrics.average_precision_score(np.eye(3)[labels], probabilities),
        "log_loss": sklearn_metrics.log_loss(labels, probabilities),
        "brier": sklearn_metrics.brier_score_loss(
            labels,
            probabilities,
            labels=[0, 1, 2],
            scale_by_half=True,
        ),
    }
    expect_values(metrics.scores(predictions, detailed=True), expected)


@given(SEEDS, st.integers(4, 40))
def test_weighted_scores_agree_with_scikit_learn_also_with_ties(seed, n):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.5
    score = np.round(rng.random(n), 1)  # Few distinct values: many ties.
    weights = rng.multinomial(n, np.full(n, 1 / n), size=5).astype(float)
    aucs = weighted.aucs(positive, score)(weights)
    precisions = weighted.average_precisions(positive, score)(weights)
    for row, auc, precision in zip(
        weights,
        aucs,
        precisions,
        strict=True,
    ):
        # A resample of one class has no score.
        if len(np.unique(positive[row > 0])) < 2:
            assert np.isnan(auc)
            assert np.isnan(precision)
            continue
        expected_auc = sklearn_metrics.roc_auc_score(positive, score, sample_weight=row)
        expected_precision = sklearn_metrics.average_precision_score(
            positive, score, sample_weight=row
        )
        assert auc == pytest.approx(expected_auc)
        assert precision == pytest.approx(expected_precision)


def test_a_classifier_without_error_has_intervals():
    labels = np.repeat([0, 1], 30)
    # Correct, but not certain.
    probabilities = np.stack([1 - labels, labels], axis=1) * 0.98 + 0.01
    names = ("accuracy", "balanced_accuracy", "sensitivity", "ppv", "npv", "f1", "mcc")
    for groups in (single_groups(60), np.array([f"g{index // 3}" for index in range(60)])):
        scores = metrics.scores(make_predictions(labels, probabilities, groups), detailed=True)
        for name in (*names, "roc_auc", "pr_auc"):
            assert scores[name].value == pytest.approx(1.0), name
            assert 0.5 < scores[name].low < 0.97, name


def test_detailed_scores_of_one_class_say_why_they_have_no_number():
    predictions = make_predictions(np.zeros(25, int), np.tile([0.8, 0.2], (25, 1)))
    scores = metrics.scores(predictions, detailed=True)
    for name in ("sensitivity", "balanced_accuracy", "ppv", "f1", "mcc", "roc_auc", "pr_auc"):
        assert scores[name].value is None, name
        assert scores[name].why, name
    # All images are negative and called so.
    for name in ("specificity", "accuracy", "npv"):
        assert scores[name].value == 1.0, name


def test_detailed_scores_of_one_image_and_of_none():
    single = make_predictions(np.array([1]), np.array([[0.8, 0.2]]))
    scores = metrics.scores(single, detailed=True)
    assert scores["ece"].value is None  # Too few images for a bin.
    assert scores["sensitivity"].value == 0.0
    nothing = single.take(np.zeros(0, int))
    assert metrics.scores(nothing, detailed=True)["accuracy"].value is None
