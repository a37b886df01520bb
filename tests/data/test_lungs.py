"""Tests of lung fields: near the truth of phantoms, stable under disease, and removed exactly."""

import numpy as np
import pytest

from trainer.data import lungs, phantom


@pytest.fixture(scope="module")
def phantoms() -> list[phantom.Phantom]:
    return [phantom.draw(5, index, index % 2, 250) for index in range(40)]


@pytest.fixture(scope="module")
def images(phantoms) -> np.ndarray:
    """The phantoms' images, [40, 250, 250, 1] uint8."""
    return np.stack([example.image for example in phantoms])[..., None]


def dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the Dice coefficients [n] of masks [n, side, side]."""
    overlap = (first & second).sum((1, 2))  # [n]
    return 2 * overlap / (first.sum((1, 2)) + second.sum((1, 2)))


def test_masks_cover_the_true_lungs(phantoms, images):
    truth = np.stack([example.lung_mask for example in phantoms])
    # Measured over 256 phantoms: 0.82.
    coefficients = dice(lungs.mask(images), truth)
    assert coefficients.mean() > 0.77
    assert coefficients.min() > 0.6


def test_opacities_hardly_change_the_mask():
    clear, diseased = (
        np.stack([phantom.draw(5, index, label, 250).image for index in range(12)])[..., None]
        for label in (0, 1)
    )
    assert dice(lungs.mask(clear), lungs.mask(diseased)).mean() > 0.93


def test_lungs_and_rest_are_complements(images):
    masks = lungs.mask(images)
    without = lungs.without_lungs(images, masks)
    only = lungs.only_lungs(images, masks)
    assert (without[masks] == lungs.GREY).all()
    assert (only[~masks] == lungs.GREY).all()
    np.testing.assert_array_equal(only[masks], images[masks])
    # The removed region is slightly wider than the mask.
    unchanged = without[..., 0] != lungs.GREY
    np.testing.assert_array_equal(without[unchanged], images[unchanged])


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64, 1)), np.full((64, 64, 1), 255), np.eye(64)[..., None] * 255]
)
def test_other_pictures_give_a_mask_and_no_error(image):
    masks = lungs.mask(image[None].astype(np.uint8))
    assert masks.shape == (1, 64, 64)
    assert 0.05 < masks.mean() < 0.7


def test_no_image_gives_no_mask():
    empty = np.zeros((0, 64, 64, 1), np.uint8)
    assert lungs.mask(empty).shape == (0, 64, 64)
