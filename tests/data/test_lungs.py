"""Tests of lung fields: near the truth, stable under disease, removed exactly, and sure or not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.studies import lung_films, train_lungs
from trainer.data import lungs, phantom


@pytest.fixture(scope="module")
def phantoms() -> list[phantom.Phantom]:
    return [phantom.draw(5, index, index % 2, 250) for index in range(40)]


@pytest.fixture(scope="module")
def images(phantoms) -> np.ndarray:
    """The phantoms' images, [40, 250, 250, 1] uint8."""
    return np.stack([example.image for example in phantoms])[..., None]


@pytest.fixture(scope="module")
def films() -> lung_films.Films:
    """The films beside the checkout whose lungs people have marked."""
    table = ROOT.parent / "shared" / "data" / "lungs" / "lungs.csv"
    if not table.exists():
        pytest.skip(f"the films with marked lungs are not at {table}")
    return lung_films.read_films(table)


def dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the Dice coefficients [n] of masks [n, side, side]."""
    overlap = (first & second).sum((1, 2))  # [n]
    return 2 * overlap / (first.sum((1, 2)) + second.sum((1, 2)))


def test_masks_cover_the_true_lungs(phantoms, images):
    truth = np.stack([example.lung_mask for example in phantoms])
    coefficients = dice(lungs.mask(images), truth)
    assert np.median(coefficients) > 0.95
    assert coefficients.min() > 0.85


def test_masks_cover_the_lungs_that_people_marked(films):
    # The network was trained on these films; lungs.md has the scores on held-out patients.
    fields = lungs.find(films.images)
    outlined = films.outlined
    truth = films.targets[outlined].max(axis=-1) > 127
    assert np.median(dice(fields.masks[outlined], truth)) > 0.94
    assert fields.certain.mean() > 0.9


def test_opacities_hardly_change_the_mask():
    clear, diseased = (
        np.stack([phantom.draw(5, index, label, 250).image for index in range(12)])[..., None]
        for label in (0, 1)
    )
    assert dice(lungs.mask(clear), lungs.mask(diseased)).mean() > 0.95


def test_mirrored_images_have_mirrored_lungs(images):
    fields = lungs.find(images)
    mirrored = lungs.find(images[:, :, ::-1])
    assert dice(mirrored.masks[:, :, ::-1], fields.masks).min() > 0.9
    # The left lung of the picture becomes the right one: x0 and x1 exchange.
    np.testing.assert_allclose(mirrored.boxes[:, ::-1, 2], 1.0 - fields.boxes[:, :, 0], atol=0.05)


def test_boxes_hold_the_masks(images):
    fields = lungs.find(images)
    for mask, boxes in zip(fields.masks, fields.boxes, strict=True):
        hull = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        tight = lung_films.box(mask)
        assert (hull[:2] <= tight[:2] + 0.01).all()
        assert (hull[2:] >= tight[2:] - 0.01).all()


def test_an_upright_chest_is_certain_and_other_pictures_are_not(images):
    assert lungs.find(images).certain.mean() > 0.95
    sideways = np.rot90(images, axes=(1, 2))
    assert lungs.find(sideways).certain.mean() < 0.1
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (8, 64, 64, 1)).astype(np.uint8)
    flat = np.full((1, 64, 64, 1), 200, np.uint8)
    stripes = np.tile(np.eye(64, dtype=np.uint8)[None, ..., None] * 255, (1, 1, 1, 1))
    for pictures in (noise, flat, stripes):
        fields = lungs.find(pictures)
        assert fields.masks.shape == pictures.shape[:3]
        assert not fields.certain.any()


def test_a_large_number_of_images_gives_the_masks_of_each_alone(images):
    one_by_one = [lungs.mask(image[None])[0] for image in images]
    # Batches may differ in rounding, so a pixel at an edge may flip.
    assert (lungs.mask(images) != np.stack(one_by_one)).mean() < 1e-4


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


def test_outlines_show_the_masks_and_nothing_else(images):
    masks = lungs.mask(images)
    drawn = lungs.outlines(masks)
    assert set(np.unique(drawn)) == {0, 255}
    np.testing.assert_array_equal(drawn[..., 0] > 0, masks)


def test_no_image_gives_no_mask():
    empty = np.zeros((0, 64, 64, 1), np.uint8)
    fields = lungs.find(empty)
    assert fields.masks.shape == (0, 64, 64)
    assert fields.boxes.shape == (0, 2, 4)
    assert lungs.without_lungs(empty, fields.masks).shape == empty.shape


def test_the_network_is_small_and_says_how_well_it_works():
    assert Path(lungs.__file__).with_name("lungs.onnx").stat().st_size <= 1_000_000
    facts = lungs.facts()
    assert facts["version"] == lungs.VERSION
    assert facts["held_out"]["dice"]["p50"] > 0.9
    assert 0.0 <= facts["held_out"]["visible"]["p50"] <= facts["held_out"]["visible"]["p95"] < 0.2


def test_lungs_are_found_without_tensorflow():
    code = (
        "import sys; import numpy as np; from trainer.data import lungs;"
        "lungs.find(np.zeros((1, 64, 64, 1), np.uint8)); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@pytest.mark.slow
def test_training_lowers_the_loss_and_is_deterministic():
    drawn = lung_films.draw_phantoms(24, seed=1)
    first, second = (train_lungs.train(drawn, drawn, epochs=55, seed=3) for _ in range(2))
    for weight, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    measured = train_lungs.measure(drawn, train_lungs.predict(first, drawn.images))
    assert np.median(measured["dice"]) > 0.7
