"""Measures of maps: what they must be on maps whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.analysis import explanation


def masks(n: int, seed: int = 0) -> np.ndarray:
    found = np.zeros((n, 60, 60), bool)
    rng = np.random.default_rng(seed)
    for one in found:
        top, left = rng.integers(0, 30, 2)
        one[top : top + 20, left : left + 25] = True
    return found


def names(n: int) -> np.ndarray:
    return np.array([f"p{i}" for i in range(n)])


@given(st.integers(0, 100), st.floats(0.01, 100))
def test_a_uniform_map_gives_one_and_a_map_within_the_lungs_the_inverse_of_their_area(seed, scale):
    lungs = masks(3, seed)
    np.testing.assert_allclose(explanation.lung_ratios(np.full((3, 60, 60), scale), lungs), 1.0)
    inside = explanation.lung_ratios(scale * lungs, lungs)
    np.testing.assert_allclose(inside, 1 / lungs.mean(axis=(1, 2)))
    np.testing.assert_allclose(explanation.lung_ratios(scale * ~lungs, lungs), 0.0)


@given(st.integers(0, 1000), st.floats(0.1, 50))
def test_the_scale_of_a_map_changes_nothing(seed, scale):
    maps = np.random.default_rng(seed).random((4, 60, 60))
    np.testing.assert_allclose(
        explanation.lung_ratios(scale * maps, masks(4)), explanation.lung_ratios(maps, masks(4))
    )


def test_empty_maps_are_left_out_and_none_is_said_where_all_are():
    maps = np.zeros((3, 60, 60))
    assert explanation.lung_share(maps, masks(3), names(3)).value is None
    maps[1:] = 1.0
    found = explanation.lung_share(maps, masks(3), names(3))
    assert found.n == 2 and found.value == pytest.approx(1.0)


def test_the_pointing_game_counts_peaks_in_lesions():
    lesions, maps = masks(4), np.zeros((4, 60, 60))
    for index in range(3):
        row, column = np.argwhere(lesions[index])[7]
        maps[index, row, column] = 1.0
    row, column = np.argwhere(~lesions[3])[-1]
    maps[3, row, column] = 1.0
    found = explanation.pointing_game(maps, lesions, names(4), tolerance=0)
    assert (found["hits"].value, found["hits"].n) == (0.75, 4)
    assert found["chance"].value == pytest.approx(lesions.mean())
    lesions[0] = False
    assert explanation.pointing_game(maps, lesions, names(4))["hits"].n == 3
    assert explanation.pointing_game(maps, np.zeros_like(lesions), names(4))["hits"].value is None


def test_the_randomisation_check_tells_same_from_unrelated_maps():
    rng = np.random.default_rng(0)
    maps, others = rng.random((5, 50, 50)), rng.random((5, 50, 50))
    assert explanation.randomisation_similarity(maps, maps**2, names(5)).value == pytest.approx(1.0)
    assert abs(explanation.randomisation_similarity(maps, others, names(5)).value) < 0.1
    empty = explanation.randomisation_similarity(maps, np.zeros_like(maps), names(5))
    assert empty.value is None and empty.why


def test_the_sheet_is_drawn(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 60, 60, 1)).astype(np.uint8)
    explanation.contact_sheet(
        images, masks(3).astype(float), ["a", "b", "c"], tmp_path / "maps.png", "maps"
    )
    assert Image.open(tmp_path / "maps.png").width > 300
