"""Tests of the random views: stateless, bounded, the same eagerly and inside a data set."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.training import augment

PLAIN = TrainConfig(horizontal_flip=False, shear=0.0, zoom=0.0)
ALL = TrainConfig(
    shear=6.0,
    zoom=0.2,
    horizontal_flip=True,
    shift=0.1,
    rotation=12.0,
    brightness=0.1,
    contrast=0.3,
)
NAMES = [function.__name__ for function in (*augment._GEOMETRIC, *augment._INTENSITY)]
SEED = tf.constant([1, 2], tf.int64)
SEEDS = st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)).map(
    lambda pair: tf.constant(pair, tf.int64)
)


def only(**settings) -> TrainConfig:
    """A configuration with these augmentations and no other."""
    return dataclasses.replace(PLAIN, **settings)


def make_images(batch: int = 4, side: int = 24) -> tf.Tensor:
    rng = np.random.default_rng(0)
    return tf.constant(rng.integers(0, 256, (batch, side, side, 1)), tf.uint8)


@given(SEEDS)
def test_views_depend_on_the_seed_alone_and_stay_in_range(seed):
    first = augment.random_views(make_images(), seed, ALL).numpy()
    second = augment.random_views(make_images(), seed, ALL).numpy()
    np.testing.assert_array_equal(first, second)
    assert first.shape == (4, 24, 24, 1)
    assert first.dtype == np.float32
    assert first.min() >= 0.0
    assert first.max() <= 255.0


def test_other_seeds_and_positions_in_the_batch_give_other_views():
    same = tf.repeat(make_images(1), 4, axis=0)
    # Four copies of one image: only the draws differ.
    views = augment.random_views(same, SEED, ALL).numpy()
    others = augment.random_views(same, tf.constant([1, 3], tf.int64), ALL).numpy()
    assert len({view.tobytes() for view in views}) == 4
    assert not np.array_equal(views, others)


@given(SEEDS)
def test_slice_of_a_batch_gets_the_views_of_the_whole(seed):
    whole = augment.random_views(make_images(6), seed, ALL).numpy()
    # As a worker with the third and fourth image does.
    rows = augment.random_views(make_images(6)[2:4], seed, ALL, first=2, batch_size=6)
    np.testing.assert_array_equal(rows, whole[2:4])


@given(SEEDS)
@pytest.mark.parametrize("added", NAMES)
def test_adding_an_augmentation_changes_the_draws_of_no_other(added, seed):
    without = dataclasses.replace(ALL, **{added: 0})
    draws = augment.draw(seed, 4, ALL)
    assert set(draws) == set(NAMES)
    remaining = augment.draw(seed, 4, without)
    assert set(remaining) == set(NAMES) - {added}
    for name, numbers in remaining.items():
        np.testing.assert_array_equal(numbers, draws[name])


def test_no_two_augmentations_share_a_random_number():
    draws = augment.draw(SEED, 1000, ALL)
    columns = np.concatenate(list(draws.values()), axis=1)  # [1000, 9]
    correlations = np.corrcoef(columns, rowvar=False)  # [9, 9]
    # Of independent numbers, 1,000 each: a standard deviation of 0.03.
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.15


def test_eager_and_dataset_views_agree_bit_for_bit():
    seed = tf.constant([7, 9], tf.int64)
    mapped = tf.data.Dataset.from_tensors(make_images()).map(
        lambda batch: augment.random_views(batch, seed, ALL)
    )
    eager = augment.random_views(make_images(), seed, ALL)
    np.testing.assert_array_equal(next(mapped.as_numpy_iterator()), eager)


@given(SEEDS)
def test_without_augmentation_nothing_changes(seed):
    views = augment.random_views(make_images(), seed, PLAIN)
    np.testing.assert_array_equal(views, tf.cast(make_images(), tf.float32))


@given(SEEDS)
def test_flip_alone_gives_the_image_or_its_mirror(seed):
    images = tf.cast(make_images(8), tf.float32).numpy()  # [8, 24, 24, 1]
    views = augment.random_views(make_images(8), seed, only(horizontal_flip=True)).numpy()
    for view, image in zip(views, images, strict=True):
        # Resampling at whole pixels rounds a little.
        same = np.allclose(view, image, atol=1e-3)
        mirrored = np.allclose(view, image[:, ::-1], atol=1e-3)
        assert same or mirrored


def test_about_half_of_the_views_are_mirrored():
    config = only(horizontal_flip=True)
    draws = augment.draw(SEED, 4000, config)
    transforms = augment.affine_transforms(draws, config, 24).numpy()
    # Entry 0 is the scale along x: negative mirrors.
    assert 0.46 < (transforms[:, 0] < 0).mean() < 0.54


@given(st.floats(0.01, 0.5), SEEDS)
def test_zoom_stays_in_its_range_on_each_axis(zoom, seed):
    draws = augment.draw(seed, 64, only(zoom=zoom))
    transforms = augment.affine_transforms(draws, only(zoom=zoom), 24).numpy()
    # Entries 0 and 4 are the scales; 1 and 3 mix the axes.
    for column in (0, 4):
        assert (np.abs(transforms[:, column] - 1.0) <= zoom + 1e-5).all()
    np.testing.assert_allclose(transforms[:, [1, 3]], 0.0, atol=1e-6)


def test_rotation_by_90_degrees_equals_numpys():
    square = make_images(1, 25)  # an odd side has a pixel at its centre
    draws = {"rotation": tf.constant([[1.0]])}
    transform = augment.affine_transforms(draws, only(rotation=90.0), 25)
    turned = augment.resample(tf.cast(square, tf.float32), transform).numpy()[0, ..., 0]
    image = square.numpy()[0, ..., 0].astype(np.float32)
    # The direction of the rotation does not matter.
    assert min(np.abs(turned - np.rot90(image, count)).max() for count in (1, 3)) < 0.1


def test_shear_of_45_degrees_moves_each_row_by_its_distance():
    draws = {"shear": tf.constant([[1.0]])}
    transform = augment.affine_transforms(draws, only(shear=45.0), 25).numpy()[0]
    # x stays; y is turned by 45 degrees.
    np.testing.assert_allclose(transform[:2], [1.0, -np.sqrt(0.5)], atol=1e-6)
    np.testing.assert_allclose(transform[3:5], [0.0, np.sqrt(0.5)], atol=1e-6)


def test_shift_moves_by_a_fraction_of_the_side_and_repeats_the_border():
    ramp = tf.reshape(tf.repeat(tf.range(20.0)[None], 20, axis=0), [1, 20, 20, 1])  # [1, 20, 20, 1]
    draws = {"shift": tf.constant([[1.0, 0.0]])}  # x, y
    transform = augment.affine_transforms(draws, only(shift=0.1), 20)
    row = augment.resample(ramp, transform).numpy()[0, 5, :, 0]
    # A tenth of 20 pixels is 2.
    np.testing.assert_allclose(row, np.minimum(np.arange(20) + 2, 19), atol=1e-4)


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_resampling_equals_tensorflows_but_for_rounding(dtype):
    squares = tf.constant(np.random.default_rng(1).integers(0, 256, (3, 200, 200, 1)), dtype)
    draws = augment.draw(SEED, 3, ALL)
    transforms = augment.affine_transforms(draws, ALL, 200)
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(squares, tf.float32),
        transforms=transforms,
        output_shape=[200, 200],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    resampled = augment.resample(squares, transforms)
    np.testing.assert_allclose(resampled, expected, rtol=0, atol=0.02)


def test_intensity_scales_about_the_mean_and_clips():
    images = tf.cast(make_images(2), tf.float32).numpy()
    # The first image stays, the second gets half of the full range brighter.
    draws = {"brightness": tf.constant([[0.0], [0.5]])}
    changed = augment.change_intensity(images, draws, only(brightness=1.0)).numpy()
    np.testing.assert_allclose(changed[0], images[0], atol=1e-3)
    np.testing.assert_allclose(changed[1], np.clip(images[1] + 127.5, 0, 255), atol=1e-3)
    # No contrast at all in the first, twice as much in the second.
    contrast = augment.contrast(images, tf.constant([[-1.0], [1.0]]), 1.0).numpy()
    np.testing.assert_allclose(contrast[0], images[0].mean(), atol=1e-3)
    mean = images[1].mean()
    np.testing.assert_allclose(contrast[1], mean + 2 * (images[1] - mean), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_augmentation_changes_the_views(name):
    config = only(**{name: getattr(ALL, name)})
    views = augment.random_views(make_images(), SEED, config).numpy()
    assert not np.array_equal(views, make_images())
    assert views.min() >= 0.0
    assert views.max() <= 255.0
