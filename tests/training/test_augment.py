"""Random views: stateless, bounded, one resampling, the same eagerly and inside a data set."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.training import augment
from trainer.training.augment import Limits

ALL = Limits(
    shear=0.1, zoom=0.2, horizontal_flip=True, shift=0.1, rotation=0.2, brightness=0.1, contrast=0.3
)
SEEDS = st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)).map(
    lambda pair: tf.constant(pair, tf.int64)
)


def images(batch: int = 4, side: int = 24) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).integers(0, 256, (batch, side, side, 1)), tf.uint8)


@given(SEEDS)
def test_views_are_a_function_of_the_seed_and_stay_in_range(seed):
    first, second = (augment.random_views(images(), seed, ALL).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (4, 24, 24, 1) and first.dtype == np.float32
    assert first.min() >= 0.0 and first.max() <= 255.0


def test_other_seeds_and_other_places_in_the_batch_give_other_views():
    same = tf.repeat(images(1), 4, axis=0)
    found = augment.random_views(same, tf.constant([1, 2], tf.int64), ALL).numpy()
    assert len({view.tobytes() for view in found}) == 4
    assert not np.array_equal(found, augment.random_views(same, tf.constant([1, 3], tf.int64), ALL))


def test_eager_and_inside_a_dataset_agree_bit_for_bit():
    seed = tf.constant([7, 9], tf.int64)
    mapped = tf.data.Dataset.from_tensors(images()).map(
        lambda batch: augment.random_views(batch, seed, ALL)
    )
    np.testing.assert_array_equal(
        next(mapped.as_numpy_iterator()), augment.random_views(images(), seed, ALL)
    )


@given(SEEDS)
def test_without_limits_nothing_changes(seed):
    np.testing.assert_array_equal(
        augment.random_views(images(), seed, Limits()), tf.cast(images(), tf.float32)
    )


@given(SEEDS)
def test_flip_alone_gives_the_image_or_its_mirror(seed):
    original = tf.cast(images(8), tf.float32).numpy()
    for view, image in zip(
        augment.random_views(images(8), seed, Limits(horizontal_flip=True)).numpy(),
        original,
        strict=True,
    ):
        assert np.allclose(view, image, atol=1e-3) or np.allclose(view, image[:, ::-1], atol=1e-3)


def test_about_half_of_the_views_are_mirrored():
    draws = tf.random.stateless_uniform([4000, 7], [1, 2], -1.0, 1.0)
    mirrored = augment.affine_transforms(draws, Limits(horizontal_flip=True), 24).numpy()[:, 0] < 0
    assert 0.46 < mirrored.mean() < 0.54


@given(st.floats(0.0, 0.5), SEEDS)
def test_zoom_stays_within_its_limits_on_each_axis(zoom, seed):
    draws = tf.random.stateless_uniform([64, 7], seed, -1.0, 1.0)
    found = augment.affine_transforms(draws, Limits(zoom=zoom), 24).numpy()
    for column in (0, 4):
        assert (np.abs(found[:, column] - 1.0) <= zoom + 1e-5).all()
    np.testing.assert_allclose(found[:, [1, 3]], 0.0, atol=1e-6)


def test_a_quarter_turn_is_numpys():
    square = images(1, 25)
    draws = tf.constant([[1.0, 0, 0, 0, 0, 0, 0.0]])
    turn = augment.affine_transforms(draws, Limits(rotation=math.pi / 2), 25)
    turned = augment.resample(tf.cast(square, tf.float32), turn).numpy()[0, ..., 0]
    image = square.numpy()[0, ..., 0].astype(np.float32)
    assert min(np.abs(turned - np.rot90(image, count)).max() for count in (1, 3)) < 0.1


def test_a_shift_moves_by_a_fraction_of_the_side_and_repeats_the_border():
    ramp = tf.reshape(tf.repeat(tf.range(20.0)[None], 20, axis=0), [1, 20, 20, 1])
    draws = tf.constant([[0.0, 0, 0, 0, 1.0, 0, 0]])
    moved = augment.resample(ramp, augment.affine_transforms(draws, Limits(shift=0.1), 20)).numpy()[
        0, 5, :, 0
    ]
    np.testing.assert_allclose(moved, np.minimum(np.arange(20) + 2, 19), atol=1e-4)


@pytest.mark.parametrize("kind", [tf.uint8, tf.float32])
def test_the_resampling_is_tensorflows_own_but_for_rounding(kind):
    squares = tf.constant(np.random.default_rng(1).integers(0, 256, (3, 200, 200, 1)), kind)
    transforms = augment.affine_transforms(
        tf.random.stateless_uniform([3, 7], [3, 4], -1.0, 1.0), ALL, 200
    )
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(squares, tf.float32),
        transforms=transforms,
        output_shape=[200, 200],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    np.testing.assert_allclose(augment.resample(squares, transforms), expected, rtol=0, atol=0.02)


def test_intensity_scales_about_the_mean_and_clips():
    batch = tf.cast(images(2), tf.float32)
    found = augment.change_intensity(
        batch, tf.constant([0.0, 0.5]), tf.constant([-1.0, 0.0]), ALL
    ).numpy()
    np.testing.assert_allclose(found[0], batch.numpy()[0].mean(), atol=1e-3)
    np.testing.assert_allclose(found[1], np.clip(batch.numpy()[1] + 127.5, 0, 255), atol=1e-3)


def test_angles_are_given_in_degrees_and_used_in_radians():
    found = Limits.from_config(TrainConfig(shear=45.0, rotation=180.0))
    assert found.shear == pytest.approx(math.pi / 4) and found.rotation == pytest.approx(math.pi)
