"""Random views of a batch of radiographs: stateless, on-graph, all geometry in one resampling.

Every function here runs eagerly and inside `dataset.map`, and gives the same result in both.
"""

import dataclasses
import math

import tensorflow as tf

from trainer.config import TrainConfig

_DRAWS = 9


@dataclasses.dataclass(frozen=True)
class Limits:
    """Half-widths of the uniform ranges the views are drawn from.

    Attributes:
      shear, rotation: angles in radians.
      zoom: fraction; each axis is scaled by a factor of its own from [1 - zoom, 1 + zoom].
      shift: fraction of the side.
      horizontal_flip: whether half of the views are mirrored.
      brightness: fraction of the full range, added.
      contrast: fraction; deviations from the mean are scaled by a factor from [1 - contrast, 1 + contrast].
    """

    shear: float = 0.0
    zoom: float = 0.0
    horizontal_flip: bool = False
    shift: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    @classmethod
    def from_config(cls, config: TrainConfig) -> "Limits":
        return cls(
            shear=math.radians(config.shear),
            zoom=config.zoom,
            horizontal_flip=config.horizontal_flip,
            shift=config.shift,
            rotation=math.radians(config.rotation),
            brightness=config.brightness,
            contrast=config.contrast,
        )

    @property
    def moves(self) -> bool:
        """Whether any geometry changes at all."""
        return bool(self.shear or self.zoom or self.horizontal_flip or self.shift or self.rotation)


def random_views(
    images: tf.Tensor,
    seed: tf.Tensor,
    limits: Limits,
    first: int = 0,
    batch_size: int | None = None,
) -> tf.Tensor:
    """Draws one random view of each image.

    Args:
      images: [batch, side, side, 1], uint8 or float32, in 0..255.
      seed: [2] int64; with the same seed example i of the batch gets the same view, on any replica and after any restart.
      limits: how far the views may go.
      first, batch_size: the images are those from `first` on of a batch of this size; by default they are the whole batch.

    Returns:
      [batch, side, side, 1] float32 in 0..255; pixels from outside the image repeat its border.
    """
    here = tf.shape(images)[0]
    draws = tf.random.stateless_uniform([batch_size or here, _DRAWS], seed, -1.0, 1.0)[
        first : first + here
    ]
    if limits.moves:
        images = resample(images, affine_transforms(draws[:, :7], limits, images.shape[1]))
    images = tf.cast(images, tf.float32)
    return change_intensity(
        images, draws[:, 7] * limits.brightness, draws[:, 8] * limits.contrast, limits
    )


def affine_transforms(draws: tf.Tensor, limits: Limits, side: int) -> tf.Tensor:
    """Composes flip, zoom, shear, rotation and shift about the image's centre.

    Args:
      draws: [batch, 7] float32 in [-1, 1): rotation, shear, zoom x, zoom y, shift x, shift y, flip.
      limits: what a draw of 1 stands for.
      side: of the square image, in pixels.

    Returns:
      [batch, 8] float32 projective transforms from output to input pixels, as `resample` takes them
      (https://www.tensorflow.org/api_docs/python/tf/raw_ops/ImageProjectiveTransformV3).
    """
    angle, shear = draws[:, 0] * limits.rotation, draws[:, 1] * limits.shear
    zoom_x, zoom_y = 1.0 + draws[:, 2] * limits.zoom, 1.0 + draws[:, 3] * limits.zoom
    flip = tf.where(draws[:, 6] < 0.0, -1.0, 1.0) if limits.horizontal_flip else tf.ones_like(angle)
    # Rotation x shear x diag(zoom), shear along x as Keras ImageDataGenerator has it.
    xx, xy = tf.cos(angle) * zoom_x * flip, -tf.sin(angle + shear) * zoom_y
    yx, yy = tf.sin(angle) * zoom_x * flip, tf.cos(angle + shear) * zoom_y
    centre = (side - 1) / 2.0
    shift_x, shift_y = draws[:, 4] * limits.shift * side, draws[:, 5] * limits.shift * side
    x0 = centre + shift_x - (xx + xy) * centre
    y0 = centre + shift_y - (yx + yy) * centre
    none = tf.zeros_like(angle)
    return tf.stack([xx, xy, x0, yx, yy, y0, none, none], axis=1)


@tf.function(jit_compile=True, autograph=False)
def resample(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Resamples each image once, bilinearly; what lies outside repeats the border.

    ImageProjectiveTransformV3 does the same at a quarter of the speed: compiled, all of this is one loop over the pixels that
    reads uint8 and keeps nothing in between. The two differ by float rounding of coordinates: under 0.01 of 255 levels.

    Args:
      images: [batch, height, width, 1], uint8 or float32.
      transforms: [batch, 8] float32, affine, from output to input pixels: x' = t0 x + t1 y + t2, y' = t3 x + t4 y + t5.

    Returns:
      [batch, height, width, 1] float32.
    """
    count, height, width, _ = tf.unstack(tf.shape(images))
    x, y = (
        tf.range(width, dtype=tf.float32)[None, None, :],
        tf.range(height, dtype=tf.float32)[None, :, None],
    )
    t = transforms[:, :, None, None]
    at_x, at_y = t[:, 0] * x + t[:, 1] * y + t[:, 2], t[:, 3] * x + t[:, 4] * y + t[:, 5]
    left, top = tf.floor(at_x), tf.floor(at_y)
    from_left, from_top = at_x - left, at_y - top
    left, top = tf.cast(left, tf.int32), tf.cast(top, tf.int32)
    pixels, start = tf.reshape(images, [-1]), (tf.range(count) * height * width)[:, None, None]

    def at(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        row, column = tf.clip_by_value(row, 0, height - 1), tf.clip_by_value(column, 0, width - 1)
        return tf.cast(tf.gather(pixels, start + row * width + column), tf.float32)

    upper = (1.0 - from_left) * at(top, left) + from_left * at(top, left + 1)
    lower = (1.0 - from_left) * at(top + 1, left) + from_left * at(top + 1, left + 1)
    return ((1.0 - from_top) * upper + from_top * lower)[..., None]


def change_intensity(
    images: tf.Tensor, brightness: tf.Tensor, contrast: tf.Tensor, limits: Limits
) -> tf.Tensor:
    """Scales deviations from each image's mean by 1 + contrast and adds 255 x brightness; clips to 0..255.

    Args:
      images: [batch, height, width, 1] float32 in 0..255.
      brightness, contrast: [batch] float32, drawn already.
      limits: where both are zero the images are returned as they are.
    """
    if not (limits.brightness or limits.contrast):
        return images
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    factor, offset = 1.0 + contrast[:, None, None, None], 255.0 * brightness[:, None, None, None]
    return tf.clip_by_value((images - mean) * factor + mean + offset, 0.0, 255.0)
