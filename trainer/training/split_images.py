"""Images of a split: in memory, on disk or in records.

images = split_images.load(builder, "train", 256, "disk", order, "image")
read = split_images.reader(images)
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.training import aligned, image_store
from trainer.training.record_images import RecordImages

# Images of a split, [n, side, side, 1] uint8: in memory, on disk or in records.
Images = np.ndarray | image_store.DiskImages | RecordImages


def load(
    builder: Any, split: str, side: int, cache: str, order: np.ndarray, feature: str
) -> Images:
    """Opens the images of a split.

    Args:
      builder: the prepared set.
      split: as TFDS names it.
      side: side length after resampling, in pixels.
      cache: memory; disk, a file beside the set; none, the records.
      order: [n] int, the records in the order of the examples.
      feature: image, or lungs for the masks.
    """
    if cache == "none":
        return RecordImages(builder, split, side, order, feature)
    if cache == "disk":
        return image_store.write_disk_cache(builder, split, side, feature).take(order)
    rank = np.argsort(order)  # the position of each record among the sorted
    images = aligned.empty((len(order), side, side, 1))
    start = 0
    for chunk in image_store.read_images(builder, split, side, feature):
        images[rank[start : start + len(chunk)]] = chunk
        start += len(chunk)
    return images


def take(images: Images, indices: np.ndarray) -> Images:
    """Selects the images at `indices`, [m] int or bool."""
    if isinstance(images, np.ndarray):
        return aligned.take(images, indices)
    return images.take(indices)


def reader(images: Any) -> Callable[..., tf.Tensor]:
    """Makes the function from a batch's contents to its images.

    Args:
      images: as `load` gives them.

    Returns:
      index [batch] int32, and of records also [batch] string → [batch, side, side, 1], uint8 or
      float32 in whole numbers.
    """
    if isinstance(images, RecordImages):
        return lambda _, records: images.decode(records)  # float32, whole numbers
    if isinstance(images, np.ndarray):
        return functools.partial(tf.gather, aligned.as_tensor(images))  # uint8
    # From disk, in a Python function.
    return lambda index: tf.ensure_shape(
        tf.numpy_function(images.__getitem__, [index], tf.uint8, stateful=False),
        [None, *images.shape[1:]],
    )
