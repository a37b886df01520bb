"""Lung fields: near the truth on synthetic radiographs, the same with and without disease, and what is painted over."""

import numpy as np
import pytest

from trainer.data import lungs, phantom


@pytest.fixture(scope="module")
def drawn() -> list[phantom.Phantom]:
    return [phantom.draw(5, index, index % 2, 250) for index in range(40)]


@pytest.fixture(scope="module")
def images(drawn) -> np.ndarray:
    return np.stack([one.image for one in drawn])[..., None]


def test_masks_lie_over_the_true_lungs(drawn, images):
    found, truth = lungs.mask(images), np.stack([one.lung_mask for one in drawn])
    dice = 2 * (found & truth).sum((1, 2)) / (found.sum((1, 2)) + truth.sum((1, 2)))
    assert dice.mean() > 0.77 and dice.min() > 0.6


def test_opacities_hardly_move_the_mask():
    pairs = [[phantom.draw(5, index, label, 250).image for label in (0, 1)] for index in range(12)]
    clear, diseased = (
        lungs.mask(np.stack(images)[..., None]) for images in zip(*pairs, strict=True)
    )
    alike = 2 * (clear & diseased).sum((1, 2)) / (clear.sum((1, 2)) + diseased.sum((1, 2)))
    assert alike.mean() > 0.93


def test_what_is_removed_and_what_is_kept_add_up(images):
    masks = lungs.mask(images)
    without, alone = lungs.without_lungs(images, masks), lungs.only_lungs(images, masks)
    assert (without[masks] == lungs.GREY).all() and (alone[~masks] == lungs.GREY).all()
    np.testing.assert_array_equal(alone[masks], images[masks])
    untouched = without[..., 0] != lungs.GREY
    np.testing.assert_array_equal(without[untouched], images[untouched])


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64, 1)), np.full((64, 64, 1), 255), np.eye(64)[..., None] * 255]
)
def test_other_pictures_give_some_mask_and_no_error(image):
    found = lungs.mask(image[None].astype(np.uint8))
    assert found.shape == (1, 64, 64) and 0.05 < found.mean() < 0.7


def test_no_image_gives_no_mask():
    assert lungs.mask(np.zeros((0, 64, 64, 1), np.uint8)).shape == (0, 64, 64)
