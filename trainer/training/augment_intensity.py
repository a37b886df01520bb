"""Augmentations of intensity: exposure, tone, sharpness, noise and compression.

    images = change_intensity(images, draws, config)

An augmentation is a function under `@_augmentation`, named like its setting in `TrainConfig`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig

_TONE_POINTS = 5  # Segments of a tone curve.
_MAX_RADIUS = 4  # Of the kernel of a blur, in pixels: twice the largest deviation.
_BLOCK = 8  # Side of a JPEG block, in pixels.
# Quantisation of luminance at quality 50 (ITU-T T.81, table K.1).
_QUANTISATION = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)

# Augmentation → its random numbers a view. It is called with the images, with these numbers,
# [batch, count] float32 in [-1, 1), and with the value of its setting. In the order of application.
INTENSITY: dict[Callable[..., Any], int] = {}


def _augmentation(count: int = 1, compiled: bool = True) -> Callable[[Callable], Callable]:
    # Each is compiled alone: fused, one would compute its predecessors once for each pixel it
    # reads.
    def add(function: Callable) -> Callable:
        if compiled:
            function = tf.function(function, jit_compile=True, autograph=False)
        INTENSITY[function] = count
        return function

    return add


@_augmentation(_TONE_POINTS)
def tone(images: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Bends grey levels along a random rising curve of straight pieces."""
    rises = tf.nn.softmax(strength * draws, axis=1)  # [batch, pieces], how far each piece rises
    position = images * (_TONE_POINTS / 255.0)  # In pieces.
    pieces = [
        rises[:, piece, None, None, None] * tf.clip_by_value(position - piece, 0.0, 1.0)
        for piece in range(_TONE_POINTS)
    ]
    return 255.0 * tf.add_n(pieces)


@_augmentation()
def gamma(images: tf.Tensor, draws: tf.Tensor, logarithm: float) -> tf.Tensor:
    """Raises intensities to a power of e^-logarithm to e^logarithm."""
    return 255.0 * tf.maximum(images / 255.0, 0.0) ** tf.exp(logarithm * _each(draws))


@_augmentation()
def contrast(images: tf.Tensor, draws: tf.Tensor, fraction: float) -> tf.Tensor:
    """Scales deviations from the mean by 1 - fraction to 1 + fraction."""
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)  # [batch, 1, 1, 1]
    factor = 1.0 + _each(draws) * fraction  # [batch, 1, 1, 1]
    return (images - mean) * factor + mean


@_augmentation()
def brightness(images: tf.Tensor, draws: tf.Tensor, fraction: float) -> tf.Tensor:
    """Adds up to `fraction` of the full range of 255, or subtracts it."""
    return images + 255.0 * _each(draws) * fraction


@_augmentation(compiled=False)  # Compiled, its gathering takes three times as long.
def coarsen(images: tf.Tensor, draws: tf.Tensor, fraction: float) -> tf.Tensor:
    """Samples down by up to `fraction` and up again, linearly; half of the images stay."""
    step = 1.0 / (1.0 - fraction * _of_half(draws))[:, 0, 0, 0]  # [batch], in pixels

    def along_rows(x: tf.Tensor) -> tf.Tensor:
        side = tf.shape(x)[1]
        position = tf.range(tf.cast(side, tf.float32))[None] / step[:, None]  # [batch, side]
        cell = tf.floor(position)
        weight = (position - cell)[:, :, None, None]
        rows = [
            tf.minimum(tf.cast(tf.round((cell + offset) * step[:, None]), tf.int32), side - 1)
            for offset in (0.0, 1.0)
        ]
        first, second = (tf.gather(x, row, axis=1, batch_dims=1) for row in rows)
        return (1.0 - weight) * first + weight * second

    across = tf.transpose(along_rows(images), [0, 2, 1, 3])
    return tf.transpose(along_rows(across), [0, 2, 1, 3])


@_augmentation()
def blur(images: tf.Tensor, draws: tf.Tensor, deviation: float) -> tf.Tensor:
    """Blurs by a Gaussian of up to `deviation` pixels; half of the images stay."""
    variance = tf.maximum((deviation * _of_half(draws)) ** 2, 1e-3)
    return _filter(
        images, [tf.exp(-0.5 * offset**2 / variance) for offset in range(_MAX_RADIUS + 1)]
    )


@_augmentation()
def sharpen(images: tf.Tensor, draws: tf.Tensor, amount: float) -> tf.Tensor:
    """Adds up to `amount` of what a binomial blur of three pixels removes; half stay."""
    one = tf.ones_like(_each(draws))
    detail = images - _filter(images, [one, 0.5 * one])
    return images + amount * _of_half(draws) * detail


@_augmentation(2)
def noise(images: tf.Tensor, draws: tf.Tensor, deviation: float) -> tf.Tensor:
    """Adds noise of up to `deviation` grey levels, nearly normal; half of the images stay.

    The second number of a view decides its noise: a hash of it and of the pixel's position.
    """
    shape = tf.shape(images)
    position = tf.range(shape[1] * shape[2], dtype=tf.int32)[None]  # [1, pixels]
    key = tf.bitcast(draws[:, 1, None], tf.int32)  # [batch, 1]
    bits = _hash(_hash(tf.bitcast(position, tf.uint32)) ^ tf.bitcast(key, tf.uint32))
    # The sum of four bytes: mean 510, variance 4 (256**2 - 1) / 12.
    total = tf.add_n(
        [
            tf.cast(tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32)) & 255, tf.float32)
            for shift in (0, 8, 16, 24)
        ]
    )
    normal = (total - 510.0) / np.float32(np.sqrt((256**2 - 1) / 3))  # [batch, pixels]
    return images + deviation * _of_half(draws) * tf.reshape(normal, shape)


@_augmentation()
def jpeg(images: tf.Tensor, draws: tf.Tensor, coarseness: float) -> tf.Tensor:
    """Rounds the cosine transform of blocks as JPEG does; half of the images stay.

    At a coarseness of 1 the table of quality 50 is used, at 2.5 that of quality 20.
    """
    shape = tf.shape(images)
    bottom = -shape[1] % _BLOCK
    right = -shape[2] % _BLOCK
    padded = tf.pad(images[..., 0], [[0, 0], [0, bottom], [0, right]], "SYMMETRIC") - 128.0
    rows = (shape[1] + bottom) // _BLOCK
    columns = (shape[2] + right) // _BLOCK
    split = tf.reshape(padded, [-1, rows, _BLOCK, columns, _BLOCK])
    blocks = tf.reshape(tf.transpose(split, [0, 1, 3, 2, 4]), [-1, rows * columns, _BLOCK**2])
    cosines = tf.constant(_cosines())  # [64, 64]
    scale = coarseness * _each(draws)[..., 0]  # [batch, 1, 1]
    table = tf.maximum(scale * _QUANTISATION.ravel(), 1e-3)  # [batch, 1, 64]
    rounded = tf.round(tf.matmul(blocks, cosines, transpose_b=True) / table) * table
    restored = tf.reshape(tf.matmul(rounded, cosines), [-1, rows, columns, _BLOCK, _BLOCK])
    joined = tf.reshape(tf.transpose(restored, [0, 1, 3, 2, 4]), tf.shape(padded)) + 128.0
    cropped = joined[:, : shape[1], : shape[2], None]
    return tf.where(_each(draws) > 0.0, cropped, images)


def change_intensity(
    images: tf.Tensor, draws: dict[str, tf.Tensor], config: TrainConfig
) -> tf.Tensor:
    """Applies the augmentations of intensity that are drawn and clips to 0..255.

    Args:
      images: [batch, height, width, 1] float32 in 0..255.
      draws: of `draw`; without one of intensity the images are returned.
      config: its augmentation settings.
    """
    names = {function.__name__: function for function in INTENSITY if function.__name__ in draws}
    for name, function in names.items():
        images = function(images, draws[name], getattr(config, name))
    return tf.clip_by_value(images, 0.0, 255.0) if names else images


def _each(draws: tf.Tensor) -> tf.Tensor:
    # The first number of each view, [batch, 1, 1, 1].
    return draws[:, 0, None, None, None]


def _of_half(draws: tf.Tensor) -> tf.Tensor:
    # The first number of each view where it is positive, else 0: [batch, 1, 1, 1] in [0, 1).
    return tf.maximum(_each(draws), 0.0)


def _filter(images: tf.Tensor, weights: list[tf.Tensor]) -> tf.Tensor:
    # Filters rows and columns; weights[k] is that of the pixels k away, [batch, 1, 1, 1].
    radius = len(weights) - 1
    total = weights[0] + 2.0 * tf.add_n(weights[1:])
    for axis in (1, 2):
        side = tf.shape(images)[axis]
        padding = [[radius, radius] if index == axis else [0, 0] for index in range(4)]
        padded = tf.pad(images, padding, "SYMMETRIC")
        sums = weights[0] * images
        for distance, weight in enumerate(weights[1:], start=1):
            before = radius - distance
            after = radius + distance
            if axis == 1:
                pair = padded[:, before : before + side] + padded[:, after : after + side]
            else:
                pair = padded[:, :, before : before + side] + padded[:, :, after : after + side]
            sums += weight * pair
        images = sums / total
    return images


def _hash(values: tf.Tensor) -> tf.Tensor:
    # Mixes the bits of uint32 numbers: the finaliser of MurmurHash3
    # (https://github.com/aappleby/smhasher/wiki/MurmurHash3).
    for multiplier, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13)):
        values ^= tf.bitwise.right_shift(values, tf.constant(shift, tf.uint32))
        values *= tf.constant(multiplier, tf.uint32)
    return values ^ tf.bitwise.right_shift(values, tf.constant(16, tf.uint32))


def _cosines() -> np.ndarray:
    # The orthonormal DCT-II of a block, row by row: [64, 64] float32.
    frequency = np.arange(_BLOCK)[:, None]
    angles = np.pi * (2 * np.arange(_BLOCK) + 1) * frequency / (2 * _BLOCK)
    scale = np.sqrt(np.where(frequency == 0, 1.0, 2.0) / _BLOCK)
    one_axis = scale * np.cos(angles)  # [8, 8]
    return np.asarray(np.kron(one_axis, one_axis), np.float32)
