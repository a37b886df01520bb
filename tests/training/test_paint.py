"""Tests of painted opacities: in the lungs alone, brighter, stateless, and with decoys."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.data import phantom
from trainer.training import augment, augment_geometry, input_pipeline, paint
from trainer.training.input_pipeline import Examples

SIDE = 64
SEEDS = st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)).map(
    lambda pair: tf.constant(pair, tf.int64)
)


@pytest.fixture(scope="module")
def films() -> tuple[np.ndarray, np.ndarray]:
    """Clear phantoms and their lungs, each [8, SIDE, SIDE, 1] uint8."""
    drawn = [phantom.draw(2, index, 0, SIDE) for index in range(8)]
    images = np.stack([example.image for example in drawn])[..., None]
    lungs = np.stack([example.lung_mask for example in drawn])[..., None] * np.uint8(255)
    return images, lungs


def paint_into(films, seed: tf.Tensor, share: float) -> tuple[np.ndarray, np.ndarray]:
    images, lungs = (tf.constant(pixels, tf.float32) for pixels in films)
    painted, opacity = paint.paint(images, lungs / 255.0, seed, share)
    return painted.numpy(), opacity.numpy()


@settings(max_examples=6)
@given(SEEDS)
def test_paint_lies_in_the_lungs_and_stays_in_range(films, seed):
    painted, opacity = paint_into(films, seed, 1.0)
    for values, high in ((painted, 255.0), (opacity, 1.0)):
        assert values.dtype == np.float32
        assert values.min() >= 0.0
        assert values.max() <= high
    assert (opacity[films[1] == 0] == 0.0).all()
    # A faint one may be invisible, but not most.
    assert (opacity.max(axis=(1, 2, 3)) > 0.1).mean() > 0.5


@settings(max_examples=6)
@given(SEEDS)
def test_paint_depends_on_the_seed_alone(films, seed):
    first, opacity = paint_into(films, seed, 0.6)
    second, same = paint_into(films, seed, 0.6)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(opacity, same)


def test_images_that_are_not_painted_have_no_opacity(films):
    seed = tf.constant([1, 2], tf.int64)
    assert (paint_into(films, seed, 0.0)[1] == 0.0).all()
    without_lungs = (films[0], np.zeros_like(films[1]))
    assert (paint_into(without_lungs, seed, 1.0)[1] == 0.0).all()


def test_the_share_of_painted_images_is_as_asked(films):
    shares = [
        (paint_into(films, tf.constant([0, number], tf.int64), 0.6)[1].max(axis=(1, 2, 3)) > 0.0)
        for number in range(30)
    ]
    assert np.mean(shares) == pytest.approx(0.6, abs=0.12)


def test_opacities_brighten_the_lungs_and_decoys_the_rest(films):
    in_lungs = []
    outside = []
    for number in range(15):
        seed = tf.constant([3, number], tf.int64)
        # The same draws with and without opacities; shades and decoys are the same.
        painted, opacity = paint_into(films, seed, 1.0)
        bare, _ = paint_into(films, seed, 0.0)
        difference = painted - bare
        in_lungs.append(difference[opacity > 0.3].mean())
        np.testing.assert_allclose(difference[opacity == 0.0], 0.0, atol=1e-3)
        outside.append(np.abs(bare - films[0])[films[1] == 0].mean())
    assert np.mean(in_lungs) > 10.0
    assert np.mean(outside) > 2.0


def test_opacities_of_the_image_move_with_it_and_stay_beside_paint(films):
    config = TrainConfig(view="lungs", paint_opacities=0.5, rotation=10.0, shift=0.1)
    images, lungs = (tf.constant(pixels) for pixels in films)
    seed = tf.constant((3, 4), tf.int64)
    painted = augment.random_views(images, seed, config, others={"lungs": lungs})
    # The lungs as opacities: where the view of the lungs is white, all is opaque.
    both = augment.random_views(images, seed, config, others={"lungs": lungs, "opacity": lungs})
    np.testing.assert_array_equal(painted["image"], both["image"])
    masks = augment_geometry.resample(
        lungs, augment_geometry.affine_transforms(augment.draw(seed, 8, config), config, 64)
    )
    expected = tf.maximum(painted["opacity"], masks / 255.0)
    np.testing.assert_allclose(both["opacity"], expected, atol=1e-6)


@settings(max_examples=6)
@given(SEEDS, st.integers(0, 6))
def test_a_slice_of_a_batch_is_painted_like_the_whole(films, seed, first):
    config = TrainConfig(view="lungs", paint_opacities=0.6)
    images, lungs = (tf.constant(pixels) for pixels in films)
    whole = augment.random_views(images, seed, config, others={"lungs": lungs})
    rows = slice(first, first + 2)
    views = augment.random_views(images[rows], seed, config, first, 8, {"lungs": lungs[rows]})
    for name in ("image", "opacity"):
        np.testing.assert_array_equal(views[name], whole[name][rows])


def test_painted_images_become_positive_the_same_eagerly_and_in_a_data_set(films):
    config = TrainConfig(view="lungs", paint_opacities=0.5, batch_size=8)
    names = np.array([str(index) for index in range(8)])
    examples = Examples(films[0], np.zeros(8, np.int32), names, names, lungs=films[1])
    batches = input_pipeline.training_batches(examples, config, positive=1)
    batch = next(batches.as_numpy_iterator())
    painted = batch["opacity"].max(axis=(1, 2, 3)) > 0.1
    np.testing.assert_array_equal(batch["label"], painted.astype(np.int32))
    assert 0 < painted.sum() < 8
    eager = input_pipeline.make_batch(
        {
            "image": tf.constant(films[0][batch["index"]]),
            "lungs": tf.constant(films[1][batch["index"]]),
            "label": tf.zeros(8, tf.int32),
            "index": tf.constant(batch["index"]),
        },
        config,
        tf.constant(0, tf.int64),
        tf.range(8, dtype=tf.int64),
        positive=1,
    )
    np.testing.assert_allclose(batch["image"], eager["image"], atol=1e-3)
    np.testing.assert_allclose(batch["opacity"], eager["opacity"], atol=1e-5)
