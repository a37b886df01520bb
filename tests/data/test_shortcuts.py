"""Planted shortcuts: class 0 untouched, class 1 changed where it is said to be, the lungs hardly."""

import numpy as np
import pytest

from trainer.data import phantom, prepared, shortcuts


@pytest.mark.parametrize("shortcut", shortcuts.SHORTCUTS)
def test_only_class_one_is_changed(shortcut):
    image = phantom.draw(0, 1, 0, 200).image
    np.testing.assert_array_equal(shortcuts.plant(image, 0, shortcut), image)
    changed = shortcuts.plant(image, 1, shortcut)
    assert changed.dtype == np.uint8 and changed.shape == image.shape
    assert (changed != image).any() == (shortcut in ("marker", "border", "contrast"))
    same = shortcuts.header_of(0, shortcut, 200) == shortcuts.header_of(1, shortcut, 200)
    assert same == (shortcut != "header")


@pytest.mark.parametrize("shortcut", ["marker", "border"])
def test_markers_and_borders_stay_outside_the_lungs(shortcut):
    drawn = phantom.draw(0, 3, 1, 300)
    changed = shortcuts.plant(drawn.image, 1, shortcut) != drawn.image
    assert not (changed & drawn.lung_mask).any() and changed.any()


def test_the_shortcut_is_part_of_the_prepared_sets_name(tmp_path):
    plain, marked = (
        prepared.open_dataset(
            "phantom",
            data_dir=str(tmp_path),
            phantom_train=8,
            phantom_test=4,
            phantom_shortcut=shortcut,
        )
        for shortcut in ("none", "marker")
    )
    assert plain.fingerprint["source_fingerprint"] != marked.fingerprint["source_fingerprint"]
    assert marked.fingerprint["config"] == "gray500_8_4_marker" and "marker" in marked.reason
