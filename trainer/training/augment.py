"""Random views of a batch of radiographs: stateless, on-graph, all geometry in one resampling.

`random_views(images, seed, config)` makes one view of each image. It gives the same values eagerly
and inside `dataset.map`. Where a setting is 0 or False its augmentation is left out. Each draws
from a stream of its own name, so that adding one changes the views of no other. Opacities are
painted between geometry and intensity, so that paint is exposed as the film is.
"""

import zlib

import tensorflow as tf

from trainer.config import TrainConfig
from trainer.training import backgrounds, paint
from trainer.training.augment_geometry import GEOMETRIC, affine_transforms, resample
from trainer.training.augment_intensity import INTENSITY, change_intensity


def random_views(
    images: tf.Tensor,
    seed: tf.Tensor,
    config: TrainConfig,
    first: int = 0,
    batch_size: int | None = None,
    lungs: tf.Tensor | None = None,
    partners: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Draws one random view of each image.

    Args:
      images: [batch, side, side, 1], uint8 or float32, in 0..255.
      seed: [2] int64; one seed gives example i one view, on any replica and after any restart.
      config: its augmentation settings.
      first: position of the first image in its batch.
      batch_size: size of that batch; by default the images are the whole of it.
      lungs: [batch, side, side, 1] masks in 0..255, where opacities are painted or backgrounds
        swapped.
      partners: images like `images`, where backgrounds are swapped.

    Returns:
      image [batch, side, side, 1] float32 in 0..255, where pixels from outside the image repeat its
      border; with paint also opacity, as `paint.paint` returns it.
    """
    count = tf.shape(images)[0]
    # Drawn for the whole batch, so that a slice of it gets the same views.
    draws = draw(seed, batch_size or count, config)
    pictures = [images] + [more for more in (lungs, partners) if more is not None]
    if any(function.__name__ in draws for function in GEOMETRIC):
        # Sliced after the sines: those of a slice can differ in the last bit.
        transforms = affine_transforms(draws, config, images.shape[1])[first : first + count]
        pictures = [resample(picture, transforms) for picture in pictures]
    images, *others = [tf.cast(picture, tf.float32) for picture in pictures]
    views = {}
    if lungs is not None:
        masks = others[0] / 255.0
        if partners is not None:
            numbers = tf.random.stateless_uniform(
                [batch_size or count], stream_seed(seed, "swap_backgrounds")
            )
            chosen = numbers[first : first + count] < config.swap_backgrounds
            images = backgrounds.swap(images, masks, others[1], chosen)
        if config.paint_opacities:
            images, views["opacity"] = paint.paint(
                images,
                masks,
                stream_seed(seed, "paint_opacities"),
                config.paint_opacities,
                first,
                batch_size or count,
            )
    draws = {name: numbers[first : first + count] for name, numbers in draws.items()}
    return views | {"image": change_intensity(images, draws, config)}


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
            draws[name] = tf.random.stateless_uniform(
                [batch_size, count], stream_seed(seed, name), -1.0, 1.0
            )
    return draws


def stream_seed(seed: tf.Tensor, name: str) -> tf.Tensor:
    """Derives the seed of a stream of random numbers, [2] int64, from its name."""
    stream = zlib.crc32(name.encode())  # Unlike hash(), the same in every process.
    return tf.random.experimental.stateless_fold_in(seed, stream)
