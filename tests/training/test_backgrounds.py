"""Tests of swapped backgrounds: the lungs stay, the rest is another image's, in any slice."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.data import phantom
from trainer.errors import UserError
from trainer.training import backgrounds, input_pipeline
from trainer.training.input_pipeline import Examples
from trainer.training.record_images import RecordImages

SIDE = 64


@pytest.fixture(scope="module")
def films() -> tuple[np.ndarray, np.ndarray]:
    """Phantoms and their lungs, each [12, SIDE, SIDE, 1] uint8."""
    drawn = [phantom.draw(4, index, index % 2, SIDE) for index in range(12)]
    images = np.stack([example.image for example in drawn])[..., None]
    lungs = np.stack([example.lung_mask for example in drawn])[..., None] * np.uint8(255)
    return images, lungs


def test_the_lungs_stay_and_what_is_far_from_them_is_the_partners(films):
    images, lungs = (pixels.astype(np.float32) for pixels in films)
    partners = np.full_like(images, 200.0)
    chosen = tf.constant([True] * 6 + [False] * 6)
    swapped = backgrounds.swap(images, lungs / 255.0, partners, chosen).numpy()
    np.testing.assert_array_equal(swapped[6:], images[6:])
    core = lungs[:6] > 0.0
    np.testing.assert_allclose(swapped[:6][core], images[:6][core], atol=1e-3)
    far = cv2.dilate(np.moveaxis(lungs[:6, ..., 0], 0, -1), np.ones((15, 15))) == 0.0
    np.testing.assert_allclose(swapped[:6, ..., 0][np.moveaxis(far, -1, 0)], 200.0, atol=1e-3)


def test_an_image_without_lungs_stays(films):
    images = films[0].astype(np.float32)
    empty = np.zeros_like(images)
    swapped = backgrounds.swap(images, empty, empty, tf.ones(12, tf.bool))
    np.testing.assert_array_equal(swapped, images)


def test_workers_get_the_slices_of_one_batch(films):
    config = TrainConfig(view="lungs", swap_backgrounds=0.7, batch_size=8)
    names = np.array([str(index) for index in range(12)])
    labels = np.arange(12, dtype=np.int32) % 2
    examples = Examples(films[0], labels, names, names, lungs=films[1])
    whole = next(input_pipeline.training_batches(examples, config).as_numpy_iterator())
    halves = [
        next(
            input_pipeline.training_batches(
                examples, config, worker=worker, workers=2
            ).as_numpy_iterator()
        )
        for worker in (0, 1)
    ]
    joined = np.concatenate([half["image"] for half in halves])
    np.testing.assert_array_equal(joined, whole["image"])
    plain = TrainConfig(view="lungs", batch_size=8)
    bare = next(input_pipeline.training_batches(examples, plain).as_numpy_iterator())
    changed = (bare["image"] != whole["image"]).any(axis=(1, 2, 3))
    assert 0.3 < changed.mean() <= 1.0
    # No label changes: a background shows no disease.
    np.testing.assert_array_equal(bare["label"], whole["label"])


def test_images_that_auto_left_in_their_records_are_refused(films):
    names = np.array([str(index) for index in range(12)])
    images = RecordImages.__new__(RecordImages)  # Never read.
    examples = Examples(images, np.zeros(12, np.int32), names, names)
    config = TrainConfig(view="lungs", swap_backgrounds=0.5)
    with pytest.raises(UserError, match="give --cache=disk"):
        input_pipeline.training_batches(examples, config)


def test_records_cannot_be_read_in_any_order():
    with pytest.raises(UserError, match="--cache=memory or --cache=disk"):
        TrainConfig(view="lungs", swap_backgrounds=0.5, cache="none")
