"""Random views of a batch of radiographs: stateless, on-graph, all geometry in one resampling.

`random_views(images, seed, config)` makes one view of each image. It gives the same values eagerly
and inside `dataset.map`. Where a setting is 0 or False its augmentation is left out. Each draws
from a stream of its own name, so that adding one changes the views of no other. Opacities are
painted between geometry and intensity, so that paint is exposed as the film is.
"""

import zlib
from collections.abc import Mapping
from types import MappingProxyType

import tensorflow as tf

from trainer.config import TrainConfig
from trainer.training import backgrounds, paint
from trainer.training.augment_geometry import GEOMETRIC, affine_transforms, resample
from trainer.training.augment_intensity import INTENSITY, change_intensity

_OTHERS = ("lungs", "partner", "opacity")


def random_views(
    images: tf.Tensor,
    seed: tf.Tensor,
    config: TrainConfig,
    first: int = 0,
    batch_size: int | None = None,
    others: Mapping[str, tf.Tensor] = MappingProxyType({}),
) -> dict[str, tf.Tensor]:
    """Draws one random view of each image.

    Args:
      images: [batch, side, side, 1], uint8 or float32, in 0..255.
      seed: [2] int64; one seed gives example i one view, on any replica and after any restart.
      config: its augmentation settings.
      first: position of the first image in its batch.
      batch_size: size of that batch; by default the images are the whole of it.
      others: what is moved as the images are, [batch, side, side, 1] in 0..255: where opacities are
        painted or backgrounds swapped, lungs, the masks; where they are swapped, partner, other
        images; where the images have opacities before paint, opacity. Other names are passed over.

    Returns:
      image [batch, side, side, 1] float32 in 0..255, where pixels from outside the image repeat its
      border; with paint also opacity, as `paint.paint` returns it, or what the image has if that
      is more.
    """
    count = tf.shape(images)[0]
    # Drawn for the whole batch, so that a slice of it gets the same views.
    draws = draw(seed, batch_size or count, config)
    pictures = {name: others[name] for name in _OTHERS if name in others} | {"image": images}
    if any(function.__name__ in draws for function in GEOMETRIC):
        # Sliced after the sines: those of a slice can differ in the last bit.
        transforms = affine_transforms(draws, config, images.shape[1])[first : first + count]
        pictures = {name: resample(picture, transforms) for name, picture in pictures.items()}
    pictures = {name: tf.cast(picture, tf.float32) for name, picture in pictures.items()}
    images = pictures["image"]
    views = {}
    if "lungs" in pictures:
        masks = pictures["lungs"] / 255.0
        if "partner" in pictures:
            numbers = tf.random.stateless_uniform(
                [batch_size or count], stream_seed(seed, "swap_backgrounds")
            )
            chosen = numbers[first : first + count] < config.swap_backgrounds
            images = backgrounds.swap(images, masks, pictures["partner"], chosen)
        if config.paint_opacities:
            images, views["opacity"] = paint.paint(
                images,
                masks,
                stream_seed(seed, "paint_opacities"),
                config.paint_opacities,
                first,
                batch_size or count,
            )
            if "opacity" in pictures:
                views["opacity"] = tf.maximum(views["opacity"], pictures["opacity"] / 255.0)
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
