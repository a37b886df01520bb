"""Tests of the random views: stateless, bounded, the same eagerly and inside a data set."""

import dataclasses
import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from trainer.config import TrainConfig
from trainer.training import augment, augment_geometry, augment_intensity

PLAIN = TrainConfig(horizontal_flip=False, shear=0.0, zoom=0.0)
ALL = TrainConfig(
    shear=6.0,
    zoom=0.2,
    horizontal_flip=True,
    shift=0.1,
    rotation=12.0,
    brightness=0.1,
    contrast=0.3,
    tone=1.0,
    gamma=0.4,
    coarsen=0.5,
    blur=1.0,
    sharpen=1.0,
    noise=8.0,
    jpeg=1.0,
)
NAMES = [
    function.__name__ for function in (*augment_geometry.GEOMETRIC, *augment_intensity.INTENSITY)
]
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
    first = augment.random_views(make_images(), seed, ALL)["image"].numpy()
    second = augment.random_views(make_images(), seed, ALL)["image"].numpy()
    np.testing.assert_array_equal(first, second)
    assert first.shape == (4, 24, 24, 1)
    assert first.dtype == np.float32
    assert first.min() >= 0.0
    assert first.max() <= 255.0


def test_other_seeds_and_positions_in_the_batch_give_other_views():
    same = tf.repeat(make_images(1), 4, axis=0)
    # Four copies of one image: only the draws differ.
    views = augment.random_views(same, SEED, ALL)["image"].numpy()
    others = augment.random_views(same, tf.constant([1, 3], tf.int64), ALL)["image"].numpy()
    assert len({view.tobytes() for view in views}) == 4
    assert not np.array_equal(views, others)


@given(SEEDS)
def test_slice_of_a_batch_gets_the_views_of_the_whole(seed):
    whole = augment.random_views(make_images(6), seed, ALL)["image"].numpy()
    # As a worker with the third and fourth image does.
    rows = augment.random_views(make_images(6)[2:4], seed, ALL, first=2, batch_size=6)["image"]
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
    correlations = np.corrcoef(columns, rowvar=False)  # one a column
    # Of independent numbers, 1,000 each: a standard deviation of 0.03.
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.15


def test_eager_and_dataset_views_agree_bit_for_bit():
    seed = tf.constant([7, 9], tf.int64)
    mapped = tf.data.Dataset.from_tensors(make_images()).map(
        lambda batch: augment.random_views(batch, seed, ALL)["image"]
    )
    eager = augment.random_views(make_images(), seed, ALL)["image"]
    np.testing.assert_array_equal(next(mapped.as_numpy_iterator()), eager)


@given(SEEDS)
def test_without_augmentation_nothing_changes(seed):
    views = augment.random_views(make_images(), seed, PLAIN)["image"]
    np.testing.assert_array_equal(views, tf.cast(make_images(), tf.float32))


@given(SEEDS)
def test_flip_alone_gives_the_image_or_its_mirror(seed):
    images = tf.cast(make_images(8), tf.float32).numpy()  # [8, 24, 24, 1]
    views = augment.random_views(make_images(8), seed, only(horizontal_flip=True))["image"].numpy()
    for view, image in zip(views, images, strict=True):
        # Resampling at whole pixels rounds a little.
        same = np.allclose(view, image, atol=1e-3)
        mirrored = np.allclose(view, image[:, ::-1], atol=1e-3)
        assert same or mirrored


def test_about_half_of_the_views_are_mirrored():
    config = only(horizontal_flip=True)
    draws = augment.draw(SEED, 4000, config)
    transforms = augment_geometry.affine_transforms(draws, config, 24).numpy()
    # Entry 0 is the scale along x: negative mirrors.
    assert 0.46 < (transforms[:, 0] < 0).mean() < 0.54


@given(st.floats(0.01, 0.5), SEEDS)
def test_zoom_stays_in_its_range_on_each_axis(zoom, seed):
    draws = augment.draw(seed, 64, only(zoom=zoom))
    transforms = augment_geometry.affine_transforms(draws, only(zoom=zoom), 24).numpy()
    # Entries 0 and 4 are the scales; 1 and 3 mix the axes.
    for column in (0, 4):
        assert (np.abs(transforms[:, column] - 1.0) <= zoom + 1e-5).all()
    np.testing.assert_allclose(transforms[:, [1, 3]], 0.0, atol=1e-6)


def test_rotation_by_90_degrees_equals_numpys():
    square = make_images(1, 25)  # an odd side has a pixel at its centre
    draws = {"rotation": tf.constant([[1.0]])}
    transform = augment_geometry.affine_transforms(draws, only(rotation=90.0), 25)
    turned = augment_geometry.resample(tf.cast(square, tf.float32), transform).numpy()[0, ..., 0]
    image = square.numpy()[0, ..., 0].astype(np.float32)
    # The direction of the rotation does not matter.
    assert min(np.abs(turned - np.rot90(image, count)).max() for count in (1, 3)) < 0.1


def test_shear_of_45_degrees_moves_each_row_by_its_distance():
    draws = {"shear": tf.constant([[1.0]])}
    transform = augment_geometry.affine_transforms(draws, only(shear=45.0), 25).numpy()[0]
    # x stays; y is turned by 45 degrees.
    np.testing.assert_allclose(transform[:2], [1.0, -np.sqrt(0.5)], atol=1e-6)
    np.testing.assert_allclose(transform[3:5], [0.0, np.sqrt(0.5)], atol=1e-6)


def test_shift_moves_by_a_fraction_of_the_side_and_repeats_the_border():
    ramp = tf.reshape(tf.repeat(tf.range(20.0)[None], 20, axis=0), [1, 20, 20, 1])  # [1, 20, 20, 1]
    draws = {"shift": tf.constant([[1.0, 0.0]])}  # x, y
    transform = augment_geometry.affine_transforms(draws, only(shift=0.1), 20)
    row = augment_geometry.resample(ramp, transform).numpy()[0, 5, :, 0]
    # A tenth of 20 pixels is 2.
    np.testing.assert_allclose(row, np.minimum(np.arange(20) + 2, 19), atol=1e-4)


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_resampling_equals_tensorflows_but_for_rounding(dtype):
    squares = tf.constant(np.random.default_rng(1).integers(0, 256, (3, 200, 200, 1)), dtype)
    draws = augment.draw(SEED, 3, ALL)
    transforms = augment_geometry.affine_transforms(draws, ALL, 200)
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(squares, tf.float32),
        transforms=transforms,
        output_shape=[200, 200],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    resampled = augment_geometry.resample(squares, transforms)
    np.testing.assert_allclose(resampled, expected, rtol=0, atol=0.02)


def test_intensity_scales_about_the_mean_and_clips():
    images = tf.cast(make_images(2), tf.float32).numpy()
    # The first image stays, the second gets half of the full range brighter.
    draws = {"brightness": tf.constant([[0.0], [0.5]])}
    changed = augment_intensity.change_intensity(images, draws, only(brightness=1.0)).numpy()
    np.testing.assert_allclose(changed[0], images[0], atol=1e-3)
    np.testing.assert_allclose(changed[1], np.clip(images[1] + 127.5, 0, 255), atol=1e-3)
    # No contrast at all in the first, twice as much in the second.
    contrast = augment_intensity.contrast(images, tf.constant([[-1.0], [1.0]]), 1.0).numpy()
    np.testing.assert_allclose(contrast[0], images[0].mean(), atol=1e-3)
    mean = images[1].mean()
    np.testing.assert_allclose(contrast[1], mean + 2 * (images[1] - mean), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_augmentation_changes_the_views(name):
    config = only(**{name: getattr(ALL, name)})
    views = augment.random_views(make_images(), SEED, config)["image"].numpy()
    assert not np.array_equal(views, make_images())
    assert views.min() >= 0.0
    assert views.max() <= 255.0


def smooth_images(side: int = 64) -> tf.Tensor:
    """Two smooth images with all grey levels, [2, side, side, 1] float32."""
    ramp = np.linspace(0.0, 255.0, side, dtype=np.float32)
    across = np.tile(ramp[None, :, None], (side, 1, 1))
    return tf.constant(np.stack([across, across.transpose(1, 0, 2)]))


@given(SEEDS, st.floats(0.1, 3.0))
def test_tone_curves_rise_from_black_to_white(seed, strength):
    draws = augment.draw(seed, 2, only(tone=strength))["tone"]
    levels = augment_intensity.tone(smooth_images(), draws, strength).numpy()[0, 0, :, 0]
    assert (np.diff(levels) > 0).all()
    np.testing.assert_allclose(levels[[0, -1]], [0.0, 255.0], atol=1e-3)


@pytest.mark.parametrize("name", ["blur", "sharpen", "noise", "coarsen", "jpeg"])
def test_half_of_the_images_stay_as_they_are(name):
    config = only(**{name: getattr(ALL, name)})
    draws = augment.draw(SEED, 200, config)
    images = tf.repeat(tf.cast(make_images(1), tf.float32), 200, axis=0)
    changed = augment_intensity.change_intensity(images, draws, config)
    same = np.abs(changed - images).max(axis=(1, 2, 3)) < 1e-2  # [200]
    np.testing.assert_array_equal(same[draws[name][:, 0] <= 0], True)
    assert 0.4 < same.mean() < 0.65


def test_blur_equals_opencvs_but_for_the_ends_of_the_kernel():
    image = make_images(1, 40).numpy().astype(np.float32)[0, ..., 0]
    blurred = augment_intensity.blur(image[None, ..., None], tf.constant([[0.6]]), 2.0)
    expected = cv2.GaussianBlur(image, (9, 9), 1.2, borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(blurred[0, ..., 0], expected, atol=0.01)


def test_noise_is_normal_and_independent():
    grey = tf.fill([2, 200, 200, 1], 128.0)
    noisy = augment_intensity.noise(grey, tf.constant([[0.5, 0.1], [0.5, 0.2]]), 10.0).numpy()
    noise = noisy[..., 0] - 128.0  # [2, 200, 200]
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 5.0) < 0.1  # Half of the deviation, as drawn.
    assert stats.kurtosis(noise.ravel()) > -0.4  # Of four bytes: -0.3; of one: -1.2.
    for other in (np.roll(noise, 1, axis=1), np.roll(noise, 1, axis=2), noise[::-1]):
        assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.02


def test_jpeg_loses_about_as_much_as_pillows():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.uniform(0, 255, (64, 64)).astype(np.float32), (0, 0), 1.5)
    image = np.clip((image - 128.0) * 3.0 + 128.0, 0, 255)
    # All but one: the largest draw.
    draws = tf.constant([[0.999]])
    ours = augment_intensity.jpeg(image[None, ..., None], draws, 1.0).numpy()[0, ..., 0]
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(file, "JPEG", quality=50)
    theirs = np.asarray(Image.open(file), np.float32)
    assert np.abs(ours - theirs).mean() < 1.5
    assert np.abs(ours - image).mean() == pytest.approx(np.abs(theirs - image).mean(), rel=0.15)


def test_coarse_images_lose_detail_and_keep_slopes():
    ramp = smooth_images(64)
    draws = tf.constant([[0.999], [0.999]])
    coarse = augment_intensity.coarsen(ramp, draws, 0.5)
    # Samples lie at whole pixels: half a pixel of the slope, 255 / 63, is lost at the most.
    np.testing.assert_allclose(coarse[:, :60, :60], ramp[:, :60, :60], atol=2.03)
    noise = tf.cast(make_images(2, 64), tf.float32)
    assert np.std(np.diff(augment_intensity.coarsen(noise, draws, 0.5), axis=1)) < 0.8 * np.std(
        np.diff(noise, axis=1)
    )
