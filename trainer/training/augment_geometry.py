"""Geometric augmentations, composed into one affine map and one resampling of each image.

    transforms = affine_transforms(draws, config, side=256)
    images = resample(images, transforms)

An augmentation is a function under `@_augmentation`, named like its setting in `TrainConfig`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.config import TrainConfig

# Augmentation → its random numbers a view. It is called with the geometry, with these numbers,
# [batch, count] float32 in [-1, 1), and with the value of its setting. In the order of application.
GEOMETRIC: dict[Callable[..., Any], int] = {}


def _augmentation(count: int = 1) -> Callable[[Callable], Callable]:
    def add(function: Callable) -> Callable:
        GEOMETRIC[function] = count
        return function

    return add


class Geometry(NamedTuple):
    """Affine maps from a view's pixels to the image's; in each field x, then y.

    Attributes:
      angles: direction of the image's axes in radians, [batch, 2] float32.
      scales: length of a pixel along the axes, [batch, 2] float32; negative mirrors.
      shifts: fraction of the side, [batch, 2] float32.
    """

    angles: tf.Tensor
    scales: tf.Tensor
    shifts: tf.Tensor


@_augmentation()
def rotation(geometry: Geometry, draws: tf.Tensor, degrees: float) -> Geometry:
    """Rotates by up to `degrees` to either side."""
    # Both axes turn by the same angle, [batch, 1].
    return geometry._replace(angles=geometry.angles + draws * math.radians(degrees))


@_augmentation()
def shear(geometry: Geometry, draws: tf.Tensor, degrees: float) -> Geometry:
    """Shears along x by up to `degrees`, as Keras's ImageDataGenerator does."""
    # The x axis stays, only y turns.
    return geometry._replace(angles=geometry.angles + draws * [0.0, math.radians(degrees)])


@_augmentation(2)
def zoom(geometry: Geometry, draws: tf.Tensor, fraction: float) -> Geometry:
    """Scales each axis by its own factor around 1, up to `fraction` off."""
    return geometry._replace(scales=geometry.scales * (1.0 + draws * fraction))


@_augmentation(2)
def shift(geometry: Geometry, draws: tf.Tensor, fraction: float) -> Geometry:
    """Shifts along each axis by up to `fraction` of the side."""
    return geometry._replace(shifts=geometry.shifts + draws * fraction)


@_augmentation()
def horizontal_flip(geometry: Geometry, draws: tf.Tensor, _: bool) -> Geometry:
    """Mirrors half of the images."""
    return geometry._replace(scales=geometry.scales * tf.where(draws < 0.0, [-1.0, 1.0], 1.0))


def affine_transforms(draws: dict[str, tf.Tensor], config: TrainConfig, side: int) -> tf.Tensor:
    """Composes the geometric augmentations that are drawn about the image's centre.

    Args:
      draws: of `draw`, at least one of them geometric.
      config: its augmentation settings, which a draw of 1 stands for.
      side: of the square image, in pixels.

    Returns:
      [batch, 8] float32 projective transforms from output to input pixels, as `resample` takes them
      (https://www.tensorflow.org/api_docs/python/tf/raw_ops/ImageProjectiveTransformV3).
    """
    batch_size = tf.shape(next(iter(draws.values())))[0]
    zeros = tf.zeros([batch_size, 2])
    geometry = Geometry(angles=zeros, scales=zeros + 1.0, shifts=zeros)
    for function in GEOMETRIC:
        name = function.__name__
        if name in draws:
            geometry = function(geometry, draws[name], getattr(config, name))
    x_angle, y_angle = tf.unstack(geometry.angles, axis=1)  # [batch] each
    x_scale, y_scale = tf.unstack(geometry.scales, axis=1)
    x_shift, y_shift = tf.unstack(geometry.shifts, axis=1)
    # The columns of the matrix are the axes in polar form.
    xx = tf.cos(x_angle) * x_scale
    xy = -tf.sin(y_angle) * y_scale
    yx = tf.sin(x_angle) * x_scale
    yy = tf.cos(y_angle) * y_scale
    # The centre stays where it is, but for the shift.
    centre = (side - 1) / 2.0
    x0 = centre + x_shift * side - (xx + xy) * centre
    y0 = centre + y_shift * side - (yx + yy) * centre
    # Affine: the last two are 0.
    return tf.concat([tf.stack([xx, xy, x0, yx, yy, y0], axis=1), zeros], axis=1)  # [batch, 8]


@tf.function(jit_compile=True, autograph=False)
def resample(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Resamples each image once, bilinearly; pixels from outside repeat the border.

    ImageProjectiveTransformV3 does the same at a quarter of the speed. Compiled, all of this is one
    loop over the pixels that reads uint8 and stores nothing in between. The two differ by the
    rounding of coordinates: under 0.01 of 255 levels.

    Args:
      images: [batch, height, width, 1], uint8 or float32.
      transforms: [batch, 8] float32, affine, from output to input pixels: x' = t0 x + t1 y + t2,
        y' = t3 x + t4 y + t5.

    Returns:
      [batch, height, width, 1] float32.
    """
    count, height, width, _ = tf.unstack(tf.shape(images))
    x = tf.range(width, dtype=tf.float32)[None, None, :]  # [1, 1, width]
    y = tf.range(height, dtype=tf.float32)[None, :, None]  # [1, height, 1]
    t = transforms[:, :, None, None]  # [batch, 8, 1, 1]
    input_x = t[:, 0] * x + t[:, 1] * y + t[:, 2]  # [batch, height, width]
    input_y = t[:, 3] * x + t[:, 4] * y + t[:, 5]
    floor_x = tf.floor(input_x)
    floor_y = tf.floor(input_y)
    right_weight = input_x - floor_x
    lower_weight = input_y - floor_y
    left = tf.cast(floor_x, tf.int32)
    top = tf.cast(floor_y, tf.int32)
    pixels = tf.reshape(images, [-1])
    start = (tf.range(count) * height * width)[:, None, None]  # [batch, 1, 1]

    def pixel(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        row = tf.clip_by_value(row, 0, height - 1)
        column = tf.clip_by_value(column, 0, width - 1)
        return tf.cast(tf.gather(pixels, start + row * width + column), tf.float32)

    left_weight = 1.0 - right_weight
    upper = left_weight * pixel(top, left) + right_weight * pixel(top, left + 1)
    lower = left_weight * pixel(top + 1, left) + right_weight * pixel(top + 1, left + 1)
    return ((1.0 - lower_weight) * upper + lower_weight * lower)[..., None]
