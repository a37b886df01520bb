"""From a prepared set to batches: a pure function of (configuration, seed, step).

Example order is computed, not remembered: batches are consecutive slices of permutation 0, 1, 2, … of the training split,
so they may span epochs, nothing is dropped or padded, and a run can start at any step.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from trainer.training import augment, layers

_ORDER, _VIEWS, _NOISE = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split (or a part of one) held in memory.

    Attributes:
      images: [n, side, side, 1] uint8.
      labels: [n] int32, indices into the set's class names.
      groups: [n] str; images of one group (a patient, or copies of one another) are never split apart.
      filenames: [n] str, as the data set names them.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    filenames: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """The examples at `indices` ([m] int), in that order."""
        return Examples(self.images[indices], self.labels[indices], self.groups[indices], self.filenames[indices])

    def with_groups(self, groups: np.ndarray) -> "Examples":
        """The same examples in other groups ([n] str)."""
        return dataclasses.replace(self, groups=groups)


def load(builder, split: str, side: int) -> Examples:
    """Reads a split of a prepared set into memory, sorted by filename and resampled to `side` x `side` once.

    Args:
      builder: a prepared tfds.core.DatasetBuilder whose examples have image, label, group and filename.
      split: as TFDS names it.
      side: in pixels.
    """
    wanted = tfds.decode.PartialDecoding({"image": True, "label": True, "group": True, "filename": True})
    rows = builder.as_dataset(split=split, decoders=wanted, shuffle_files=False)
    total = builder.info.splits[split].num_examples
    rows = list(tqdm(rows.as_numpy_iterator(), f"reading {split}", total, unit=" images", leave=False, delay=2, disable=None))
    rows.sort(key=lambda row: row["filename"])
    return Examples(
        images=layers.resample_images(np.stack([row["image"] for row in rows]), side),
        labels=np.array([row["label"] for row in rows], np.int32),
        groups=np.array([row["group"].decode() for row in rows]),
        filenames=np.array([row["filename"].decode() for row in rows]))


def number_of_steps(examples: int, epochs: int, batch_size: int) -> int:
    """The steps after which each example has been seen at least `epochs` times: ceil(examples x epochs / batch_size)."""
    return -(-examples * epochs // batch_size)


def epoch_ends(examples: int, epochs: int, batch_size: int) -> list[int]:
    """The step after which each epoch is complete, first to last; the last is `number_of_steps`."""
    return [number_of_steps(examples, epoch, batch_size) for epoch in range(1, epochs + 1)]


def order_of(examples: int, batch_size: int, seed: int, first_step: int) -> tf.data.Dataset:
    """Yields the indices of each batch, [batch_size] int32, from step `first_step` on, without end."""
    first = first_step * batch_size

    def permutation(epoch: tf.Tensor) -> tf.data.Dataset:
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(examples), _stream(seed, _ORDER, epoch))
        return tf.data.Dataset.from_tensor_slices(shuffled)

    epochs = tf.data.Dataset.range(first // examples, 2**31 - 1)
    return epochs.flat_map(permutation).skip(first % examples).batch(batch_size, drop_remainder=True)


def training_batches(
    examples: Examples, limits: augment.Limits, batch_size: int, seed: int, first_step: int = 0, worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Yields the augmented global batches of a run from `first_step` on, without end; or one worker's slice of each.

    Args:
      examples: what is trained on, all of it, on every worker.
      limits: how far the views may go.
      batch_size: the global one; `workers` divides it.
      seed, first_step: what order, views and noise follow from.
      worker, workers: whose consecutive slice of each batch is wanted.

    Returns:
      A dataset of dicts: image [batch, side, side, 1] float32 in 0..255; label [batch] int32; index [batch] int32 into
      `examples`; noise_seed [batch, 2] int64, one pair an example, for stateless dropout. Every field is a function of
      (seed, step, place in the global batch) alone, so the number of replicas and workers does not change it.
    """
    images, labels = tf.constant(examples.images), tf.constant(examples.labels, tf.int32)

    own = batch_size // workers
    start = worker * own

    def batch_at(step: tf.Tensor, index: tf.Tensor) -> dict[str, tf.Tensor]:
        index = index[start:start + own]
        view = augment.random_views(tf.gather(images, index), _stream(seed, _VIEWS, step), limits, start, batch_size)
        places = step * batch_size + start + tf.range(own, dtype=tf.int64)
        return {"image": view, "label": tf.gather(labels, index), "index": index,
                "noise_seed": _stream(seed, _NOISE, places)}

    order = order_of(len(examples), batch_size, seed, first_step)
    steps = tf.data.Dataset.range(first_step, 2**31 - 1)
    return tf.data.Dataset.zip(steps, order).map(batch_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def evaluation_batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields each image once, in order: (batch [batch_size, side, side, 1] float32 padded with zeros, how many are real)."""
    for start in range(0, len(images), batch_size):
        part = images[start:start + batch_size]
        padding = np.zeros((batch_size - len(part), *images.shape[1:]), images.dtype)
        yield np.concatenate([part, padding]).astype(np.float32), len(part)


def _stream(seed: int, purpose: int, counter: tf.Tensor) -> tf.Tensor:
    """Seeds for stateless operations, [..., 2] int64 for a counter of shape [...]; different purposes never share one."""
    counter = tf.cast(counter, tf.int64)
    return tf.stack([tf.fill(tf.shape(counter), tf.constant(seed * 4 + purpose, tf.int64)), counter], axis=-1)
