"""Subgroups: each is scored like a split of its own, and small ones are left blank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.builders import make_predictions, softmax
from trainer.analysis import metrics, subgroups
from trainer.analysis.predictions import Predictions


def simulated(n: int = 120, classes: int = 2) -> Predictions:
    """Simulates predictions with classes in turn and groups of two images."""
    labels = np.arange(n) % classes
    logits = np.random.default_rng(0).normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    return make_predictions(labels, softmax(logits), (np.arange(n) // 2).astype(str))


def test_a_subgroup_is_scored_like_a_split_of_its_own():
    predictions = simulated()
    values = np.where(np.arange(120) < 70, "PA", "AP")
    rows = subgroups.by_value(values, predictions)
    assert list(rows) == ["PA", "AP"]
    for name, row in rows.items():
        subgroup = predictions.take(values == name)
        expected = metrics.scores(subgroup, detailed=True)
        assert row["n"] == len(subgroup)
        assert row["groups"] == len(np.unique(subgroup.groups))
        for score in ("accuracy", "sensitivity", "specificity", "roc_auc"):
            assert row[score] == expected[score], score


def test_three_classes_have_one_sensitivity_each():
    row = subgroups.by_value(np.full(120, "x"), simulated(classes=3))["x"]
    sensitivities = {"sensitivity_a", "sensitivity_b", "sensitivity_c"}
    assert set(row) == {"n", "groups", "accuracy", "roc_auc"} | sensitivities


@given(st.integers(1, 60))
def test_fewer_than_twenty_images_give_no_number(size):
    values = np.where(np.arange(120) < size, "rare", "common")
    for row in subgroups.by_value(values, simulated()).values():
        for name in ("accuracy", "sensitivity", "specificity", "roc_auc"):
            score = row[name]
            assert (score.value is None) == (score.n < 20)
            # Too few images of a class, none of it, or one class only.
            if score.value is None:
                assert "20" in score.why or score.n == 0 or "class" in score.why


def test_a_subgroup_of_one_class_has_no_auc():
    predictions = simulated()
    row = subgroups.by_value(predictions.labels.astype(str), predictions)["1"]
    assert row["roc_auc"].value is None
    assert row["specificity"].n == 0
    assert row["accuracy"].value == row["sensitivity"].value


def test_many_numbers_are_cut_into_quarters():
    # One age is not recorded.
    ages = np.array([str(age) for age in range(20, 60)] + [""])
    names, counts = np.unique(subgroups.bin_values(ages), return_counts=True)
    spans = {"20 to 29": 10, "30 to 39": 10, "40 to 49": 10, "50 to 59": 10}
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"": 1} | spans


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2", "3"] * 20,
        [f"view {index}" for index in range(30)],
        ["", ""],
        [*map(str, range(30)), "nan"],
    ],
)
def test_text_and_few_numbers_are_not_cut(values):
    column = np.array(values)
    assert (subgroups.bin_values(column) == column).all()


@given(st.lists(st.integers(0, 40), min_size=11, max_size=100))
def test_every_number_lies_in_the_span_that_names_it(numbers):
    values = np.array([str(number) for number in numbers])
    for number, name in zip(numbers, subgroups.bin_values(values), strict=True):
        # A span of one number is named after it.
        bounds = [float(bound) for bound in name.split(" to ")]
        assert bounds[0] <= number <= bounds[-1]


def test_columns_of_one_value_are_left_out_and_empty_values_are_named():
    predictions = simulated()
    columns = {"view": np.where(np.arange(120) % 3 == 0, "", "PA"), "site": np.full(120, "one")}
    rows = subgroups.by_columns(columns, predictions)
    assert list(rows) == ["view"]
    assert list(rows["view"]) == ["PA", subgroups.UNKNOWN]
    expected = subgroups.by_value(columns["view"], predictions)["PA"]["accuracy"]
    assert rows["view"]["PA"]["accuracy"].low == pytest.approx(expected.low)
