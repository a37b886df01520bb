"""Scores and intervals against scikit-learn, published examples and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from trainer.evidence import intervals, metrics

NAMES = ("non_covid", "covid")


def predictions(rng: np.random.Generator, n: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
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
    expected = {"accuracy": sk.accuracy_score(labels, predicted), "loss": sk.log_loss(labels, probabilities),
                "roc_auc": sk.roc_auc_score(labels, probabilities[:, 1]), "sensitivity": sk.recall_score(labels, predicted),
                "specificity": sk.recall_score(labels, predicted, pos_label=0)}
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
        assert found[name].low <= found[name].value <= found[name].high, name
    assert found["accuracy"].n == found["accuracy"].groups == n


def test_three_classes_give_the_mean_area_and_each_class_its_sensitivity():
    labels, probabilities = predictions(np.random.default_rng(3), 90, classes=3)
    found = metrics.scores(labels, probabilities, singles(90), ("a", "b", "c"), None)
    assert found["roc_auc"].value == pytest.approx(sk.roc_auc_score(labels, probabilities, multi_class="ovr"))
    for index, value in enumerate(sk.recall_score(labels, probabilities.argmax(axis=1), average=None)):
        assert found[f"sensitivity_{'abc'[index]}"].value == pytest.approx(value)


def test_wilson_gives_the_published_example():
    low, high = intervals.wilson(81, 263)  # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857), table I.
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
        labels, probabilities, groups, NAMES, "covid")


def test_no_number_where_none_can_be_given():
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    found = metrics.scores(np.array([0, 0]), probabilities, singles(2), NAMES, "covid")
    assert found["roc_auc"].value is None and "missing" in found["roc_auc"].why
    assert found["sensitivity"].value is None and found["sensitivity"].n == 0
    assert found["specificity"].value == 1.0
    assert "why" in found["roc_auc"].to_dict() and "why" not in found["specificity"].to_dict()
