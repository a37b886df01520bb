"""Controls: each planted shortcut is listed first, and none where none is planted."""

import dataclasses

import numpy as np
import pytest

from trainer.analysis import controls
from trainer.data import image_folder, phantom, records, shortcuts
from trainer.data.records import Records

CLASSES = phantom.CLASSES
POSITIVE = "opacities"
TEST_START = 10**6  # Far from the phantoms of train.
SIDE = 160
PLANTED = [name for name in shortcuts.SHORTCUTS if name != "none"]


def simulated(
    first: int,
    count: int,
    shortcut: str = "none",
) -> Records:
    """Draws phantoms with a planted shortcut, one patient each."""
    rows = []
    for index in range(first, first + count):
        label = phantom.label_of(0, index)
        image = shortcuts.plant(
            phantom.draw(
                0,
                index,
                label,
                SIDE,
            ).image,
            label,
            shortcut,
        )
        name = b"%d" % index
        row = {
            "image": image[..., None],
            "label": label,
            "filename": name,
            "group": name,
            "columns": "{}",
            "format": b"PNG",
        }
        rows.append(row | shortcuts.header_of(label, shortcut, SIDE))
    return records.from_rows(rows)


@pytest.mark.parametrize("shortcut", PLANTED)
def test_a_planted_shortcut_is_listed_first(shortcut):
    train = simulated(0, 96, shortcut)
    test = simulated(TEST_START, 48, shortcut)
    results = controls.run(
        train,
        test,
        CLASSES,
        POSITIVE,
    )
    assert controls.detected_shortcuts(results)[0] == shortcuts.SHORTCUTS[shortcut]


def test_without_a_shortcut_no_control_beats_chance():
    results = controls.run(
        simulated(0, 128),
        simulated(TEST_START, 64),
        CLASSES,
        POSITIVE,
    )
    assert controls.detected_shortcuts(results) == []
    for control in results:
        if control.kind == "no_lung":
            assert control.roc_auc.low <= 0.5 <= control.roc_auc.high, control.name


def test_controls_are_reproducible_with_any_number_of_classes():
    splits = [simulated(0, 45), simulated(TEST_START, 24)]
    three_classes = [
        dataclasses.replace(split, labels=(np.arange(len(split)) % 3).astype(np.int32))
        for split in splits
    ]
    once = controls.run(
        *three_classes,
        ("a", "b", "c"),
        None,
        seed=1,
    )
    again = controls.run(
        *three_classes,
        ("a", "b", "c"),
        None,
        seed=1,
    )
    for first, second in zip(once, again, strict=True):
        probabilities = first.predictions.probabilities
        np.testing.assert_array_equal(probabilities, second.predictions.probabilities)
        assert probabilities.shape == (24, 3)
        assert first.accuracy.n == 24


def single_class() -> Records:
    labels = np.array([phantom.label_of(0, index) for index in range(20)])
    return simulated(0, 20).take(labels == 1)


@pytest.mark.parametrize("case", ["one class to train on", "one test image"])
def test_one_class_or_one_image_gives_no_number(case):
    if case == "one test image":
        train = simulated(0, 20)
        test = single_class().take(np.array([0]))
    else:
        train = single_class()
        test = simulated(TEST_START, 8)
    results = controls.run(
        train,
        test,
        CLASSES,
        POSITIVE,
    )
    for control in results:
        assert control.roc_auc.value is None
        assert control.roc_auc.why
    assert controls.detected_shortcuts(results) == []


def test_no_lung_features_do_not_depend_on_the_middle_of_the_image():
    split = simulated(0, 4)
    images = split.images.copy()
    images[:, 40:120, 40:120] = 0  # The middle half of 160 pixels.
    blackened = dataclasses.replace(split, images=images)
    for name in ("corners", "border", "header"):
        expected = controls.INPUTS[name](split)
        np.testing.assert_array_equal(controls.INPUTS[name](blackened), expected)


@pytest.mark.slow
def test_controls_on_the_real_sample_score_as_measured(sample_dir):
    classes = ("non_covid", "covid")
    entries = image_folder.find(sample_dir, ("Train", "Test"), classes).splits
    train, _ = records.from_folder(entries["Train"], classes, 500)
    test, _ = records.from_folder(entries["Test"], classes, 500)
    results = controls.run(
        train,
        test,
        classes,
        "covid",
    )
    accuracy = {control.name: control.accuracy.value for control in results}
    assert accuracy["header"] > 0.99
    assert 0.82 < accuracy["mean_and_deviation"] < 0.91
    assert 0.85 < accuracy["border"] < 0.95
    assert 0.90 < accuracy["thumbnail_16"] < 0.97
