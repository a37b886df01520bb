"""Random views of a batch of radiographs: stateless, on-graph, all geometry in one resampling.

`random_views(images, seed, config)` makes one view of each image. It gives the same values eagerly
and inside `dataset.map`. Where a setting is 0 or False its augmentation is left out. Each draws
from a stream of its own name, so that adding one changes the views of no other.
"""

import zlib

import tensorflow as tf

from trainer.config import TrainConfig
from trainer.training.augment_geometry import GEOMETRIC, affine_transforms, resample
from trainer.training.augment_intensity import INTENSITY, change_intensity


def random_views(
    images: tf.Tensor,
    seed: tf.Tensor,
    config: TrainConfig,
    first: int = 0,
    batch_size: int | None = None,
) -> tf.Tensor:
    """Draws one random view of each image.

    Args:
      images: [batch, side, side, 1], uint8 or float32, in 0..255.
      seed: [2] int64; one seed gives example i one view, on any replica and after any restart.
      config: its augmentation settings.
      first: position of the first image in its batch.
      batch_size: size of that batch; by default the images are the whole of it.

    Returns:
      [batch, side, side, 1] float32 in 0..255; pixels from outside the image repeat its border.
    """
    count = tf.shape(images)[0]
    # Drawn for the whole batch, so that a slice of it gets the same views.
    draws = draw(seed, batch_size or count, config)
    if any(function.__name__ in draws for function in GEOMETRIC):
        # Sliced after the sines: those of a slice can differ in the last bit.
        transforms = affine_transforms(draws, config, images.shape[1])[first : first + count]
        images = resample(images, transforms)
    draws = {name: numbers[first : first + count] for name, numbers in draws.items()}
    return change_intensity(tf.cast(images, tf.float32), draws, config)


def draw(seed: tf.Tensor, batch_size: int | tf.Tensor, config: TrainConfig) -> dict[str, tf.Tensor]:
    """Draws the random numbers of each augmentation that is on.

    Args:
      seed: [2] int64.
      batch_size: number of views.
      config: its augmentation settings.

    Returns:
      Name of the augmentation → [batch, count] float32 in [-1, 1).
    """
    draws = {}
    for function, count in (GEOMETRIC | INTENSITY).items():
        name = function.__name__
        if getattr(config, name):
            stream = zlib.crc32(name.encode())  # Unlike hash(), the same in every process.
            stream_seed = tf.random.experimental.stateless_fold_in(seed, stream)
            draws[name] = tf.random.stateless_uniform([batch_size, count], stream_seed, -1.0, 1.0)
    return draws
