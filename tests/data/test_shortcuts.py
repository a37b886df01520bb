"""Tests of planted shortcuts: class 0 unchanged, class 1 changed in the intended region."""

import numpy as np
import pytest

from tests.data.sets import open_set
from trainer.data import phantom, shortcuts


@pytest.mark.parametrize("shortcut", shortcuts.SHORTCUTS)
def test_only_class_one_is_changed(shortcut):
    image = phantom.draw(0, 1, 0, 200).image
    np.testing.assert_array_equal(shortcuts.plant(image, 0, shortcut), image)
    planted = shortcuts.plant(image, 1, shortcut)
    assert planted.dtype == np.uint8
    assert planted.shape == image.shape
    # The shortcut header is in the header only.
    changes_pixels = shortcut in ("marker", "border", "contrast")
    assert (planted != image).any() == changes_pixels
    clear_header = shortcuts.header_of(0, shortcut, 200)
    planted_header = shortcuts.header_of(1, shortcut, 200)
    assert (clear_header != planted_header) == (shortcut == "header")


@pytest.mark.parametrize("shortcut", ["marker", "border"])
def test_markers_and_borders_stay_outside_the_lungs(shortcut):
    example = phantom.draw(0, 3, 1, 300)
    changed = shortcuts.plant(example.image, 1, shortcut) != example.image
    assert changed.any()
    assert not (changed & example.lung_mask).any()


def test_name_of_the_prepared_set_contains_the_shortcut(tmp_path):
    size = {"phantom_train": 8, "phantom_test": 4}
    plain = open_set(tmp_path, "phantom", **size)
    marked = open_set(tmp_path, "phantom", phantom_shortcut="marker", **size)
    plain_source = plain.fingerprint["source_fingerprint"]
    # Runs on the two sets must not be mixed.
    assert marked.fingerprint["source_fingerprint"] != plain_source
    assert marked.fingerprint["config"] == "gray500_8_4_marker"
    assert "marker" in marked.reason
