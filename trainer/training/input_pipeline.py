"""From a prepared set to batches: a pure function of (configuration, seed, step).

Example order is computed, not remembered: batches are consecutive slices of permutation 0, 1, 2, … of the training split,
so they may span epochs, nothing is dropped or padded, and a run can start at any step.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from trainer.training import augment, large_sets

_ORDER, _VIEWS, _NOISE, _RECORDS = range(4)
_ALIGNED = 64  # Bytes.
_AS_IT_IS = (
    tf.autograph.experimental.do_not_convert
)  # No control flow hangs on a tensor, and looking for it takes a second.


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split (or a part of one), its images held in memory or read where they lie.

    Attributes:
      images: [n, side, side, 1] uint8; or what gives them out, `DiskImages` or `RecordImages`.
      labels: [n] int32, indices into the set's class names.
      groups: [n] str; images of one group (a patient, or copies of one another) are never split apart.
      filenames: [n] str, as the data set names them.
    """

    images: np.ndarray | large_sets.DiskImages | large_sets.RecordImages
    labels: np.ndarray
    groups: np.ndarray
    filenames: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """The examples at `indices` ([m] int), in that order; they stay where they lie."""
        images = (
            _rows(self.images, indices)
            if isinstance(self.images, np.ndarray)
            else self.images.part(indices)
        )
        return Examples(images, self.labels[indices], self.groups[indices], self.filenames[indices])

    def with_groups(self, groups: np.ndarray) -> "Examples":
        """The same examples in other groups ([n] str)."""
        return dataclasses.replace(self, groups=groups)


def load(builder, split: str, side: int, cache: str = "memory") -> Examples:
    """Opens a split of a prepared set, its images resampled to `side` x `side` once.

    Args:
      builder: a prepared tfds.core.DatasetBuilder whose examples have image, label, group and filename.
      split: as TFDS names it.
      side: in pixels.
      cache: where the images are kept: memory; disk, a file beside the set; none, their records. Sorted by filename, but with
        none: these are in the order of their records.
    """
    index = large_sets.index_of(builder, split)
    found = Examples(np.zeros(0), index.labels, index.groups, index.filenames)
    if cache == "none":
        rows = np.arange(len(found))
        return dataclasses.replace(
            found, images=large_sets.RecordImages(builder, split, side, index.shard_lengths, rows)
        )
    order = np.argsort(index.filenames, kind="stable")
    if cache == "disk":
        return dataclasses.replace(found, images=large_sets.on_disk(builder, split, side)).take(
            order
        )
    rank = np.argsort(order)
    images, done = _empty((len(found), side, side, 1)), 0
    for part in large_sets.squares(builder, split, side):
        images[rank[done : done + len(part)]] = part
        done += len(part)
    return Examples(images, index.labels[order], index.groups[order], index.filenames[order])


def number_of_steps(examples: int, epochs: int, batch_size: int) -> int:
    """The steps after which each example has been seen at least `epochs` times: ceil(examples x epochs / batch_size)."""
    return -(-examples * epochs // batch_size)


def epoch_ends(examples: int, epochs: int, batch_size: int) -> list[int]:
    """The step after which each epoch is complete, first to last; the last is `number_of_steps`."""
    return [number_of_steps(examples, epoch, batch_size) for epoch in range(1, epochs + 1)]


def order_of(examples: int, batch_size: int, seed: int, first_step: int) -> tf.data.Dataset:
    """Yields the indices of each batch, [batch_size] int32, from step `first_step` on, without end."""
    first = first_step * batch_size

    @_AS_IT_IS
    def permutation(epoch: tf.Tensor) -> tf.data.Dataset:
        shuffled = tf.random.experimental.stateless_shuffle(
            tf.range(examples), _stream(seed, _ORDER, epoch)
        )
        return tf.data.Dataset.from_tensor_slices(shuffled)

    epochs = tf.data.Dataset.range(first // examples, 2**31 - 1)
    return (
        epochs.flat_map(permutation).skip(first % examples).batch(batch_size, drop_remainder=True)
    )


def indices_at(examples: Examples, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The examples of the global batch that step `step` (from 1) is taken on, [batch_size] int32."""
    return next(_choices(examples.images, batch_size, seed, step - 1).as_numpy_iterator())[0]


def training_batches(
    examples: Examples,
    limits: augment.Limits,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    worker: int = 0,
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
    labels, squares = tf.constant(examples.labels, tf.int32), _reader(examples.images)
    own = batch_size // workers
    start = worker * own

    @_AS_IT_IS
    def batch_at(step: tf.Tensor, chosen: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        mine = tuple(part[start : start + own] for part in chosen)
        places = step * batch_size + start + tf.range(own, dtype=tf.int64)
        return batch_of(
            squares(*mine),
            tf.gather(labels, mine[0]),
            mine[0],
            limits,
            seed,
            step,
            places,
            start,
            batch_size,
        )

    order = _choices(examples.images, batch_size, seed, first_step)
    steps = tf.data.Dataset.range(first_step, 2**31 - 1)
    return tf.data.Dataset.zip(steps, order).map(
        batch_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def batch_of(
    squares: tf.Tensor,
    labels: tf.Tensor,
    index: tf.Tensor,
    limits: augment.Limits,
    seed: int,
    step: tf.Tensor,
    places: tf.Tensor,
    first: int = 0,
    batch_size: int | None = None,
) -> dict[str, tf.Tensor]:
    """One batch, or a slice of it, as `training_batches` describes it.

    Args:
      squares, labels, index: of its images, [batch, …].
      limits: how far the views may go.
      seed: of the run.
      step: [] int64, what the views follow from; no other batch has the same.
      places: [batch] int64, what the noise follows from; no other image of the run has the same.
      first, batch_size: the slice starts there in a batch of that size; by default it is the whole.
    """
    return {
        "image": augment.random_views(
            squares, _stream(seed, _VIEWS, step), limits, first, batch_size
        ),
        "label": labels,
        "index": index,
        "noise_seed": _stream(seed, _NOISE, places),
    }


def record_stream(seed: int, purpose: int, counter: tf.Tensor) -> tf.Tensor:
    """Seeds for the order of records that are left where they lie: of shards (purpose 0) or within windows (1)."""
    return _stream(seed, _RECORDS, counter + purpose * 2**52)


def _choices(images, batch_size: int, seed: int, first_step: int) -> tf.data.Dataset:
    """Yields what each global batch is made of: (index [batch_size] int32,), with records left where they lie also these."""
    if isinstance(images, large_sets.RecordImages):
        records = images.shuffled(
            lambda *wanted: record_stream(seed, *wanted), first_step * batch_size
        )
        return records.batch(batch_size, drop_remainder=True)
    return order_of(len(images), batch_size, seed, first_step).map(lambda index: (index,))


def _reader(images) -> Callable[..., tf.Tensor]:
    """The function that gets the squares of a choice: → [n, side, side, 1] uint8, or float32 of whole numbers."""
    if isinstance(images, large_sets.RecordImages):
        return lambda index, records: images.decoded(records)
    if isinstance(images, np.ndarray):
        held = _tensor(images)
        return lambda index: tf.gather(held, index)
    shape = images.shape[1:]
    return lambda index: tf.ensure_shape(
        tf.numpy_function(images.__getitem__, [index], tf.uint8, stateful=False), [None, *shape]
    )


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 of a shape, where TensorFlow can take it over without a copy: NumPy's own places begin 16 bytes after a page."""
    size = math.prod(shape)
    raw = np.empty(size + _ALIGNED, np.uint8)
    start = -raw.ctypes.data % _ALIGNED
    return raw[start : start + size].reshape(shape)


def _rows(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """images[indices], in such a place."""
    rows = np.arange(len(images))[indices]
    return np.take(
        images, rows, axis=0, out=_empty((len(rows), *images.shape[1:])), mode="clip"
    )  # "raise" fills a copy.


def _tensor(images: np.ndarray) -> tf.Tensor:
    """The same values; in the same memory, which must not be written to any more, where it is such a place."""
    there = (
        images.ctypes.data % _ALIGNED == 0
        and images.flags.c_contiguous
        and images.flags.writeable
        and images.size
    )
    # What is not aligned, from_dlpack does not copy: it ends the process.
    return tf.experimental.dlpack.from_dlpack(images.__dlpack__()) if there else tf.constant(images)


def evaluation_batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields each image once, in order: (batch [batch_size, side, side, 1] float32 padded with zeros, how many are real)."""
    parts = (
        images.batches(batch_size)
        if isinstance(images, large_sets.RecordImages)
        else (images[start : start + batch_size] for start in range(0, len(images), batch_size))
    )
    for part in parts:
        padding = np.zeros((batch_size - len(part), *images.shape[1:]), images.dtype)
        yield np.concatenate([part, padding]).astype(np.float32), len(part)


def _stream(seed: int, purpose: int, counter: tf.Tensor) -> tf.Tensor:
    """Seeds for stateless operations, [..., 2] int64 for a counter of shape [...]; different purposes never share one."""
    counter = tf.cast(counter, tf.int64)
    return tf.stack(
        [tf.fill(tf.shape(counter), tf.constant(seed * 4 + purpose, tf.int64)), counter], axis=-1
    )
