"""Measures of evidence maps whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.builders import single_groups
from trainer.analysis import explanation


def rectangles(n: int, seed: int = 0) -> np.ndarray:
    """Places one rectangle in each of n masks, [n, 60, 60] bool."""
    masks = np.zeros((n, 60, 60), bool)
    rng = np.random.default_rng(seed)
    for mask in masks:
        top, left = rng.integers(0, 30, 2)
        mask[top : top + 20, left : left + 25] = True
    return masks


@given(st.integers(0, 100), st.floats(0.01, 100))
def test_a_uniform_map_has_ratio_one_and_a_map_in_the_lungs_their_inverse_area(seed, scale):
    lungs = rectangles(3, seed)
    uniform = np.full((3, 60, 60), scale)
    inside = explanation.lung_ratios(scale * lungs, lungs)
    outside = explanation.lung_ratios(scale * ~lungs, lungs)
    np.testing.assert_allclose(explanation.lung_ratios(uniform, lungs), 1.0)
    np.testing.assert_allclose(inside, 1 / lungs.mean(axis=(1, 2)))
    np.testing.assert_allclose(outside, 0.0)


@given(st.integers(0, 1000), st.floats(0.1, 50))
def test_the_scale_of_a_map_changes_nothing(seed, scale):
    maps = np.random.default_rng(seed).random((4, 60, 60))
    lungs = rectangles(4)
    np.testing.assert_allclose(
        explanation.lung_ratios(scale * maps, lungs), explanation.lung_ratios(maps, lungs)
    )


def test_empty_maps_are_left_out():
    maps = np.zeros((3, 60, 60))
    assert explanation.lung_share(maps, rectangles(3), single_groups(3)).value is None
    maps[1:] = 1.0  # The first stays empty.
    share = explanation.lung_share(maps, rectangles(3), single_groups(3))
    assert share.n == 2
    assert share.value == pytest.approx(1.0)


def test_the_pointing_game_counts_peaks_in_lesions():
    lesions = rectangles(4)
    maps = np.zeros((4, 60, 60))
    for index in range(3):
        row, column = np.argwhere(lesions[index])[7]
        maps[index, row, column] = 1.0
    # The last peak lies outside.
    row, column = np.argwhere(~lesions[3])[-1]
    maps[3, row, column] = 1.0
    game = explanation.pointing_game(
        maps,
        lesions,
        single_groups(4),
        tolerance=0,
    )
    assert (game["hits"].value, game["hits"].n) == (0.75, 4)
    assert game["chance"].value == pytest.approx(lesions.mean())
    lesions[0] = False
    assert explanation.pointing_game(maps, lesions, single_groups(4))["hits"].n == 3
    lesions[:] = False  # No image has a lesion.
    assert explanation.pointing_game(maps, lesions, single_groups(4))["hits"].value is None


def test_the_randomisation_check_tells_same_from_unrelated_maps():
    rng = np.random.default_rng(0)
    maps = rng.random((5, 50, 50))
    others = rng.random((5, 50, 50))
    groups = single_groups(5)
    # Squares have the same ranks.
    same = explanation.randomisation_similarity(maps, maps**2, groups)
    unrelated = explanation.randomisation_similarity(maps, others, groups)
    empty = explanation.randomisation_similarity(maps, np.zeros_like(maps), groups)
    assert same.value == pytest.approx(1.0)
    assert abs(unrelated.value) < 0.1
    assert empty.value is None
    assert empty.why
