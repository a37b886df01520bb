"""Tests of views: what a square shows, from which resolution, and without lungs."""

import numpy as np
import pytest
from PIL import Image

from trainer.config import TrainConfig
from trainer.data import phantom, prepared, radiograph, records, views
from trainer.errors import UserError
from trainer.training import input_pipeline


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """A phantom in high resolution, [1000, 1000] uint8."""
    return phantom.draw(3, 1, 1, 1000).image


def test_the_whole_view_is_the_standard_square(film):
    square = views.make_square(film, 128, "whole")
    np.testing.assert_array_equal(square.pixels, radiograph.standardize(film, 128))
    assert square.box == (0.0, 0.0, 1.0, 1.0)
    assert square.has_lungs


def test_the_lungs_are_cut_from_the_full_resolution(film):
    square = views.make_square(film, 256, "lungs")
    assert square.has_lungs
    # Pillow cuts and resizes whole pixels to the same picture, up to the fractions of a pixel.
    box = [round(1000 * edge) for edge in square.box]
    cut = Image.fromarray(film).crop(box).resize((256, 256), Image.Resampling.BILINEAR)
    difference = np.abs(square.pixels.astype(int) - np.array(cut, int))
    assert difference.mean() < 2.0


def test_the_box_holds_the_lungs_and_little_else(film):
    mask = phantom.draw(3, 1, 1, 1000).lung_mask
    x0, y0, x1, y1 = (round(1000 * edge) for edge in views.make_square(film, 64, "lungs").box)
    assert mask[y0:y1, x0:x1].sum() > 0.98 * mask.sum()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    tight = (rows[-1] - rows[0]) * (columns[-1] - columns[0])
    assert (x1 - x0) * (y1 - y0) < 1.6 * tight


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_picture_without_lungs_is_seen_whole(depth):
    noise = np.random.default_rng(0).integers(0, 256, (300, 200)).astype(depth)
    square = views.make_square(noise, 64, "lungs")
    assert not square.has_lungs
    np.testing.assert_array_equal(square.pixels, radiograph.standardize(noise, 64))


@pytest.fixture(scope="module")
def lungs_set(tmp_path_factory) -> prepared.PreparedDataset:
    """A phantom set cut at the lungs."""
    config = TrainConfig(
        dataset="phantom",
        data_dir=str(tmp_path_factory.mktemp("data")),
        phantom_train=8,
        phantom_test=4,
        prepared_side=128,
        view="lungs",
    )
    return prepared.open_from_config(config)


def test_a_prepared_set_holds_the_lungs_and_the_whole_radiographs(lungs_set):
    assert lungs_set.view == "lungs"
    test = records.read(lungs_set.builder, "test")
    assert test.images.shape == (4, 128, 128, 1)
    assert test.wholes.shape == (4, 256, 256, 1)
    for index, name in enumerate(test.filenames):
        number = 1_000_000 + int(name.rsplit("_", 1)[1])
        drawn = phantom.draw(0, number, int(test.labels[index]), 128)
        square = views.make_square(drawn.image, 128, "lungs")
        np.testing.assert_array_equal(test.images[index, ..., 0], square.pixels)
        # The true mask is cut at the same box.
        cut = radiograph.standardize(drawn.lung_mask * np.uint8(255), 128, square.box)
        np.testing.assert_array_equal(test.lung_masks[index], cut > 127)


def test_audits_see_the_whole_radiographs(lungs_set):
    test = records.read(lungs_set.builder, "test")
    wholes = test.whole_radiographs()
    np.testing.assert_array_equal(wholes.images, test.wholes)
    assert wholes.lung_masks is None
    np.testing.assert_array_equal(wholes.take(np.array([2])).images, test.wholes[[2]])


def test_examples_tell_where_lungs_were_found(lungs_set):
    examples = input_pipeline.load(lungs_set.builder, "train", 64)
    assert examples.has_lungs.shape == (8,)
    assert examples.has_lungs.mean() > 0.8
    assert examples.take(np.array([3, 1])).has_lungs.shape == (2,)


def test_a_set_cut_by_another_segmenter_is_refused(lungs_set, monkeypatch):
    config = TrainConfig(
        dataset="phantom",
        data_dir=str(lungs_set.data_dir),
        phantom_train=8,
        phantom_test=4,
        prepared_side=128,
        view="lungs",
    )
    monkeypatch.setattr("trainer.data.lungs.VERSION", 99)
    with pytest.raises(UserError, match="segmenter; remove it"):
        prepared.open_from_config(config)
