"""Controls: each planted shortcut is named first, none where none is, and near what is known of the real sample."""

import numpy as np
import pytest

from trainer.analysis import controls
from trainer.data import image_folder, phantom, records, shortcuts
from trainer.data.records import Records

CLASSES = phantom.CLASSES


def drawn(
    first: int, count: int, shortcut: str = "none", side: int = 160, seed: int = 0
) -> Records:
    rows = []
    for index in range(first, first + count):
        label = phantom.label_of(seed, index)
        image = shortcuts.plant(phantom.draw(seed, index, label, side).image, label, shortcut)
        name = b"%d" % index
        rows.append(
            {
                "image": image[..., None],
                "label": label,
                "filename": name,
                "group": name,
                "columns": "{}",
                "format": b"PNG",
                **shortcuts.header_of(label, shortcut, side),
            }
        )
    return records.from_rows(rows)


@pytest.mark.parametrize("shortcut", [name for name in shortcuts.SHORTCUTS if name != "none"])
def test_a_planted_shortcut_is_named_first(shortcut):
    found = controls.run(drawn(0, 96, shortcut), drawn(10**6, 48, shortcut), CLASSES, "opacities")
    assert controls.shortcuts_found(found)[0] == shortcuts.SHORTCUTS[shortcut]


def test_where_nothing_is_planted_every_no_lung_interval_contains_chance():
    found = controls.run(drawn(0, 128), drawn(10**6, 64), CLASSES, "opacities")
    assert controls.shortcuts_found(found) == []
    for control in found:
        if control.kind == "no_lung":
            assert control.roc_auc.low <= 0.5 <= control.roc_auc.high, control.name


def test_one_seed_gives_one_result_and_any_number_of_classes_is_scored():
    train, test = drawn(0, 45), drawn(10**6, 24)
    three = [
        Records(**{**vars(part), "labels": (np.arange(len(part)) % 3).astype(np.int32)})
        for part in (train, test)
    ]
    first, again = (controls.run(*three, ("a", "b", "c"), None, seed=1) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        assert one.probabilities.shape == (24, 3) and one.accuracy.n == 24


def test_nothing_is_claimed_of_a_single_class_or_a_single_image():
    one_class = drawn(0, 20).take(np.array([i for i in range(20) if phantom.label_of(0, i) == 1]))
    for train, test in (
        (one_class, drawn(10**6, 8)),
        (drawn(0, 20), one_class.take(np.array([0]))),
    ):
        for control in controls.run(train, test, CLASSES, "opacities"):
            assert control.roc_auc.value is None and control.roc_auc.why
        assert controls.shortcuts_found(controls.run(train, test, CLASSES, "opacities")) == []


def test_no_lung_features_do_not_see_the_middle_of_the_image():
    part = drawn(0, 4)
    middle = part.images.copy()
    middle[:, 40:120, 40:120] = 0
    other = Records(**{**vars(part), "images": middle})
    for name in ("corners", "border", "header"):
        np.testing.assert_array_equal(controls.features(name, part), controls.features(name, other))


@pytest.mark.slow
def test_the_real_sample_is_told_apart_without_a_lung(sample_dir):
    found = image_folder.find(sample_dir, ("Train", "Test"), ("non_covid", "covid"))
    parts = [
        records.from_folder(found.splits[split], ("non_covid", "covid"))[0]
        for split in ("Train", "Test")
    ]
    scores = {
        control.name: control.accuracy.value
        for control in controls.run(*parts, ("non_covid", "covid"), "covid")
    }
    assert (
        scores["header"] > 0.99
        and 0.82 < scores["mean_and_deviation"] < 0.91
        and 0.85 < scores["border"] < 0.95
    )
    assert 0.90 < scores["thumbnail_16"] < 0.97
