"""Subgroups: each is scored as if it stood alone, and small ones are left blank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.analysis import metrics, subgroups

NAMES = ("non_covid", "covid")


def split(n: int = 120, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    powers = np.exp(rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels])
    return labels, powers / powers.sum(axis=1, keepdims=True), (np.arange(n) // 2).astype(str)


def test_a_part_is_scored_as_if_it_stood_alone():
    labels, probabilities, groups = split()
    values = np.where(np.arange(120) < 70, "PA", "AP")
    found = subgroups.by_value(values, labels, probabilities, groups, NAMES, "covid")
    assert list(found) == ["PA", "AP"]
    for name, part in found.items():
        inside = values == name
        alone = metrics.all_scores(
            labels[inside], probabilities[inside], groups[inside], NAMES, "covid"
        )
        assert part["n"] == inside.sum() and part["groups"] == len(np.unique(groups[inside]))
        for score in ("accuracy", "sensitivity", "specificity", "roc_auc"):
            assert part[score] == alone[score], score


def test_three_classes_give_each_class_its_sensitivity():
    labels, probabilities, groups = split(classes=3)
    found = subgroups.by_value(
        np.full(120, "x"), labels, probabilities, groups, ("a", "b", "c"), None
    )["x"]
    assert set(found) == {
        "n",
        "groups",
        "accuracy",
        "roc_auc",
        "sensitivity_a",
        "sensitivity_b",
        "sensitivity_c",
    }


@given(st.integers(1, 60))
def test_no_number_stands_on_fewer_than_twenty_images(size):
    values = np.where(np.arange(120) < size, "rare", "common")
    for part in subgroups.by_value(values, *split(), NAMES, "covid").values():
        for score in (part["accuracy"], part["sensitivity"], part["specificity"], part["roc_auc"]):
            assert (score.value is None) == (score.n < 20)
            assert (
                score.value is not None or "20" in score.why or score.n == 0 or "class" in score.why
            )


def test_a_part_of_one_class_has_no_area():
    labels, probabilities, groups = split()
    part = subgroups.by_value(labels.astype(str), labels, probabilities, groups, NAMES, "covid")[
        "1"
    ]
    assert part["roc_auc"].value is None and part["specificity"].n == 0
    assert part["accuracy"].value == part["sensitivity"].value


def test_numbers_are_cut_into_quarters_and_text_is_not():
    ages = np.array([str(age) for age in range(20, 60)] + [""])
    cut = subgroups.parts(ages)
    names, counts = np.unique(cut, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "": 1,
        "20 to 29": 10,
        "30 to 39": 10,
        "40 to 49": 10,
        "50 to 59": 10,
    }
    for kept in (
        np.array(["1", "2", "3"] * 20),
        np.array([f"view {i}" for i in range(30)]),
        np.array(["", ""]),
        np.array([*map(str, range(30)), "nan"]),
    ):
        assert (subgroups.parts(kept) == kept).all()


@given(st.lists(st.integers(0, 40), min_size=11, max_size=100))
def test_every_number_lies_in_the_span_that_names_it(numbers):
    values = np.array([str(number) for number in numbers])
    for number, name in zip(numbers, subgroups.parts(values), strict=True):
        low, *high = (float(end) for end in name.split(" to "))
        assert low <= number <= (high[0] if high else low)


def test_columns_that_tell_nothing_apart_are_left_out_and_blanks_are_named():
    columns = {"view": np.where(np.arange(120) % 3 == 0, "", "PA"), "site": np.full(120, "one")}
    found = subgroups.by_columns(columns, *split(), NAMES, "covid")
    assert list(found) == ["view"] and list(found["view"]) == ["PA", subgroups.UNKNOWN]
    assert found["view"]["PA"]["accuracy"].low == pytest.approx(
        subgroups.by_value(columns["view"], *split(), NAMES, "covid")["PA"]["accuracy"].low
    )
