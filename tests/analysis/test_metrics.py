"""Scores and intervals against scikit-learn, published examples and simulation."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from trainer.analysis import intervals, metrics

NAMES = ("non_covid", "covid")


def predictions(
    rng: np.random.Generator, n: int, classes: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    powers = np.exp(logits)
    return labels, powers / powers.sum(axis=1, keepdims=True)


def singles(n: int) -> np.ndarray:
    return np.array([f"g{i}" for i in range(n)])


@given(st.integers(0, 10_000), st.integers(8, 60))
def test_scores_agree_with_scikit_learn_and_lie_within_their_intervals(seed, n):
    labels, probabilities = predictions(np.random.default_rng(seed), n)
    found = metrics.scores(labels, probabilities, singles(n), NAMES, "covid")
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "loss": sk.log_loss(labels, probabilities),
        "roc_auc": sk.roc_auc_score(labels, probabilities[:, 1]),
        "sensitivity": sk.recall_score(labels, predicted),
        "specificity": sk.recall_score(labels, predicted, pos_label=0),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
        assert found[name].low <= found[name].value <= found[name].high, name
    assert found["accuracy"].n == found["accuracy"].groups == n


def test_three_classes_give_the_mean_area_and_each_class_its_sensitivity():
    labels, probabilities = predictions(np.random.default_rng(3), 90, classes=3)
    found = metrics.scores(labels, probabilities, singles(90), ("a", "b", "c"), None)
    assert found["roc_auc"].value == pytest.approx(
        sk.roc_auc_score(labels, probabilities, multi_class="ovr")
    )
    for index, value in enumerate(
        sk.recall_score(labels, probabilities.argmax(axis=1), average=None)
    ):
        assert found[f"sensitivity_{'abc'[index]}"].value == pytest.approx(value)


def test_wilson_gives_the_published_example():
    low, high = intervals.wilson(
        81, 263
    )  # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857), table I.
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert intervals.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize("reference", [(195, 219, 0.842, 0.925)])
def test_wilson_of_the_reference_score(reference):
    successes, n, low, high = reference
    assert intervals.wilson(successes, n) == pytest.approx((low, high), abs=1e-3)


def test_wilson_covers_about_95_percent():
    rng = np.random.default_rng(0)
    covered = []
    for share in rng.uniform(0.02, 0.98, 400):
        drawn = rng.binomial(60, share, 50)
        covered += [low <= share <= high for low, high in (intervals.wilson(k, 60) for k in drawn)]
    assert 0.93 < np.mean(covered) < 0.97


@given(st.floats(0.5, 1.0), st.integers(5, 300), st.integers(5, 300))
def test_the_area_interval_holds_the_area_and_narrows_with_numbers(area, positives, negatives):
    low, high = intervals.auc_score_interval(area, positives, negatives)
    assert 0.0 <= low <= area <= high <= 1.0 and low < high
    closer = intervals.auc_score_interval(area, 4 * positives, 4 * negatives)
    assert closer[1] - closer[0] < high - low + 1e-9


def test_an_area_of_one_still_has_an_interval():
    labels = np.repeat([0, 1], 20)
    probabilities = np.stack([1 - labels, labels], axis=1).astype(float)
    for groups in (singles(40), np.array([f"g{i // 4}" for i in range(40)])):
        found = metrics.scores(labels, probabilities, groups, NAMES, "covid")
        assert found["roc_auc"].value == 1.0 and found["roc_auc"].low < 0.95
        assert found["accuracy"].value == 1.0 and found["accuracy"].low < 0.95


def test_groups_widen_the_interval_where_their_images_agree():
    rng = np.random.default_rng(0)
    hits, groups = np.repeat(rng.random(40) < 0.8, 10), np.repeat(singles(40), 10)
    alone, together = intervals.proportion(hits, singles(400)), intervals.proportion(hits, groups)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert (together.n, together.groups) == (400, 40)


def test_the_same_data_give_the_same_interval():
    labels, probabilities = predictions(np.random.default_rng(5), 60)
    groups = np.array([f"g{i // 3}" for i in range(60)])
    assert metrics.scores(labels, probabilities, groups, NAMES, "covid") == metrics.scores(
        labels, probabilities, groups, NAMES, "covid"
    )


def test_no_number_where_none_can_be_given():
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    found = metrics.scores(np.array([0, 0]), probabilities, singles(2), NAMES, "covid")
    assert found["roc_auc"].value is None and "missing" in found["roc_auc"].why
    assert found["sensitivity"].value is None and found["sensitivity"].n == 0
    assert found["specificity"].value == 1.0
    assert "why" in found["roc_auc"].to_dict() and "why" not in found["specificity"].to_dict()


@given(st.integers(0, 10_000), st.integers(40, 90), st.floats(0.2, 0.8))
def test_all_scores_agree_with_scikit_learn_and_lie_within_their_intervals(seed, n, threshold):
    labels, probabilities = predictions(np.random.default_rng(seed), n)
    groups = np.array([f"g{i // 2}" for i in range(n)])
    found = metrics.all_scores(labels, probabilities, groups, NAMES, "covid", threshold)
    score, said = probabilities[:, 1], (probabilities[:, 1] >= threshold).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(labels, said),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, said),
        "sensitivity": sk.recall_score(labels, said),
        "specificity": sk.recall_score(labels, said, pos_label=0),
        "ppv": sk.precision_score(labels, said),
        "npv": sk.precision_score(labels, said, pos_label=0),
        "f1": sk.f1_score(labels, said),
        "mcc": sk.matthews_corrcoef(labels, said),
        "roc_auc": sk.roc_auc_score(labels, score),
        "pr_auc": sk.average_precision_score(labels, score),
        "log_loss": sk.log_loss(labels, probabilities),
        "brier": sk.brier_score_loss(labels, score),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
    for name, score in found.items():
        assert score.low <= score.value <= score.high, name
        assert score.groups <= score.n <= n and json.dumps(score.to_dict()), name
    assert found["accuracy"].groups == len(np.unique(groups))


@given(st.integers(0, 10_000))
def test_all_scores_of_three_classes_agree_with_scikit_learn(seed):
    labels, probabilities = predictions(np.random.default_rng(seed), 60, classes=3)
    said = probabilities.argmax(axis=1)
    found = metrics.all_scores(labels, probabilities, singles(60), ("a", "b", "c"), None)
    expected = {
        "accuracy": sk.accuracy_score(labels, said),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, said),
        "mcc": sk.matthews_corrcoef(labels, said),
        "macro_f1": sk.f1_score(labels, said, average="macro"),
        "roc_auc": sk.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "pr_auc": sk.average_precision_score(np.eye(3)[labels], probabilities),
        "log_loss": sk.log_loss(labels, probabilities),
        "brier": sk.brier_score_loss(labels, probabilities, labels=[0, 1, 2], scale_by_half=True),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
        assert found[name].low <= found[name].value <= found[name].high, name


@given(st.integers(0, 10_000), st.integers(4, 40))
def test_weighted_areas_and_precisions_are_scikit_learns_ties_included(seed, n):
    rng = np.random.default_rng(seed)
    positive, score = rng.random(n) < 0.5, np.round(rng.random(n), 1)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=5).astype(float)
    areas, precisions = (
        metrics.weighted_areas(positive, score)(weights),
        metrics.weighted_precisions(positive, score)(weights),
    )
    for row, area, precision in zip(weights, areas, precisions, strict=True):
        if len(np.unique(positive[row > 0])) < 2:
            assert np.isnan(area) and np.isnan(precision)
            continue
        assert area == pytest.approx(sk.roc_auc_score(positive, score, sample_weight=row))
        assert precision == pytest.approx(
            sk.average_precision_score(positive, score, sample_weight=row)
        )


def test_a_classifier_without_error_still_has_intervals():
    labels = np.repeat([0, 1], 30)
    probabilities = np.stack([1 - labels, labels], axis=1) * 0.98 + 0.01
    for groups in (singles(60), np.array([f"g{i // 3}" for i in range(60)])):
        found = metrics.all_scores(labels, probabilities, groups, NAMES, "covid")
        for name in (
            "accuracy",
            "balanced_accuracy",
            "sensitivity",
            "ppv",
            "npv",
            "f1",
            "mcc",
            "roc_auc",
            "pr_auc",
        ):
            assert found[name].value == pytest.approx(1.0) and 0.5 < found[name].low < 0.97, name


def test_all_scores_give_no_number_where_none_can_be_given():
    probabilities = np.tile([0.8, 0.2], (25, 1))
    found = metrics.all_scores(np.zeros(25, int), probabilities, singles(25), NAMES, "covid")
    for name in ("sensitivity", "balanced_accuracy", "ppv", "f1", "mcc", "roc_auc", "pr_auc"):
        assert found[name].value is None and found[name].why, name
    assert found["specificity"].value == found["accuracy"].value == found["npv"].value == 1.0
    single = metrics.all_scores(np.array([1]), probabilities[:1], singles(1), NAMES, "covid")
    assert single["ece"].value is None and single["sensitivity"].value == 0.0
    assert (
        metrics.all_scores(np.zeros(0, int), probabilities[:0], singles(0), NAMES, "covid")[
            "accuracy"
        ].value
        is None
    )
