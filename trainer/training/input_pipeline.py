"""From a prepared set to batches: a pure function of (configuration, seed, step).

`training_batches(examples, config, first_step)` gives the batches of a run. Their order is
computed, not remembered: batches are consecutive slices of permutations 0, 1, 2, ... of the
training split. So they may span epochs, nothing is dropped or padded, and a run can start at any
step.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data.prepared import PreparedDataset
from trainer.training import augment, image_store
from trainer.training.record_images import RecordImages

# Purposes of the random numbers; no two of them share a seed.
_ORDER = 0
_VIEWS = 1
_NOISE = 2
_RECORDS = 3

_ALIGNMENT = 64  # bytes

# No control flow depends on a tensor, and AutoGraph's search for it takes a second.
_no_autograph = tf.autograph.experimental.do_not_convert

# Images of a split, [n, side, side, 1] uint8: in memory, on disk or in records.
Images = np.ndarray | image_store.DiskImages | RecordImages


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split or a subset of one.

    Attributes:
      images: [n, side, side, 1] uint8, as an array or as `DiskImages` or `RecordImages`.
      labels: [n] int32, indices into the set's class names.
      groups: [n] str; images of one group (a patient, or copies of one another) are never split.
      filenames: [n] str, as the data set names them.
    """

    images: Images
    labels: np.ndarray
    groups: np.ndarray
    filenames: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """Selects the examples at `indices` ([m] int), in that order."""
        return Examples(
            _take_aligned(self.images, indices)
            if isinstance(self.images, np.ndarray)
            else self.images.take(indices),
            self.labels[indices],
            self.groups[indices],
            self.filenames[indices],
        )

    def predictions(self, probabilities: np.ndarray, data: PreparedDataset) -> Predictions:
        """Joins the examples with predicted probabilities, [n, classes]."""
        return Predictions(
            self.filenames,
            self.groups,
            self.labels,
            probabilities,
            data.class_names,
            data.positive_class,
        )


def load(builder: Any, split: str, side: int, cache: str = "memory") -> Examples:
    """Opens a split of a prepared set, with its images resampled once.

    Args:
      builder: a prepared tfds.core.DatasetBuilder whose examples have image, label, group and
        filename.
      split: as TFDS names it.
      side: side length after resampling, in pixels.
      cache: memory; disk, a file beside the set; none, the records.

    Returns:
      The examples, sorted by filename; with cache none in the order of their records.
    """
    index = image_store.read_index(builder, split)
    count = len(index["label"])
    # Records are parallel and come in shards, so only names give a fixed order.
    order = np.argsort(index["filename"], kind="stable")
    if cache == "none":
        order = np.arange(count)
        images: Images = RecordImages(builder, split, side, order)
    elif cache == "disk":
        images = image_store.write_disk_cache(builder, split, side).take(order)
    else:
        rank = np.argsort(order)  # the position of each record among the sorted
        images = _empty_aligned((count, side, side, 1))
        start = 0
        for chunk in image_store.read_images(builder, split, side):
            images[rank[start : start + len(chunk)]] = chunk
            start += len(chunk)
    return Examples(images, index["label"][order], index["group"][order], index["filename"][order])


def number_of_steps(examples: int, epochs: int, batch_size: int) -> int:
    """The steps that show each example at least `epochs` times, rounded up."""
    return -(-examples * epochs // batch_size)


def epoch_end_steps(examples: int, epochs: int, batch_size: int) -> list[int]:
    """The step that completes each epoch; the last is `number_of_steps`."""
    return [number_of_steps(examples, epoch, batch_size) for epoch in range(1, epochs + 1)]


def index_batches(examples: int, batch_size: int, seed: int, first_step: int) -> tf.data.Dataset:
    """Yields the indices of each batch, [batch_size] int32, without end."""
    first = first_step * batch_size

    @_no_autograph
    def permutation(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(examples), _seeds(seed, _ORDER, epoch)
        )
        return tf.data.Dataset.from_tensor_slices(order)

    return (
        tf.data.Dataset.range(first // examples, 2**31 - 1)  # epochs
        .flat_map(permutation)
        .skip(first % examples)
        .batch(batch_size, drop_remainder=True)
    )


def batch_indices(examples: Examples, config: TrainConfig, step: int) -> np.ndarray:
    """The examples in the global batch of step `step` (from 1), [batch_size] int32."""
    return next(_batch_contents(examples.images, config, step - 1).as_numpy_iterator())[0]


def training_batches(
    examples: Examples,
    config: TrainConfig,
    first_step: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Yields augmented batches from `first_step` on, without end.

    Args:
      examples: the whole training split, on every worker.
      config: its batch_size (global, a multiple of `workers`), seed and augmentation settings.
      first_step: steps before it are passed over.
      worker: index of this worker, which gets the slice of each global batch at that position.
      workers: number of consecutive slices.

    Returns:
      A dataset of dicts: image [batch, side, side, 1] float32 in 0..255; label [batch] int32; index
      [batch] int32 into `examples`; noise_seed [batch, 2] int64, one pair an example, for stateless
      dropout. Every field is a function of (seed, step, position in the global batch) alone, so the
      number of replicas and workers does not change it.
    """
    labels = tf.constant(examples.labels, tf.int32)
    read_images = _image_reader(examples.images)
    count = config.batch_size // workers
    start = worker * count

    @_no_autograph
    def batch_at(step: tf.Tensor, contents: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        contents = tuple(values[start : start + count] for values in contents)  # this worker's
        # Positions in the run: step n of every layout has the same.
        positions = step * config.batch_size + start + tf.range(count, dtype=tf.int64)
        return make_batch(
            read_images(*contents),
            tf.gather(labels, contents[0]),
            contents[0],
            config,
            step,
            positions,
            start,
        )

    return tf.data.Dataset.zip(
        tf.data.Dataset.range(first_step, 2**31 - 1),
        _batch_contents(examples.images, config, first_step),
    ).map(batch_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def make_batch(
    images: tf.Tensor,
    labels: tf.Tensor,
    index: tf.Tensor,
    config: TrainConfig,
    step: tf.Tensor,
    positions: tf.Tensor,
    first: int = 0,
) -> dict[str, tf.Tensor]:
    """Makes one batch, or a slice of it, as `training_batches` describes it.

    Args:
      images: [batch, side, side, 1], uint8 or float32.
      labels: [batch] int32.
      index: [batch] int32, position in the training split.
      config: its batch_size, seed and augmentation settings.
      step: [] int64, the seed of the views; no other batch has the same.
      positions: [batch] int64, the seeds of the noise; no other example of the run has the same.
      first: position of the slice in a batch of config.batch_size.
    """
    return {
        "image": augment.random_views(
            images, _seeds(config.seed, _VIEWS, step), config, first, config.batch_size
        ),
        "label": labels,
        "index": index,
        "noise_seed": _seeds(config.seed, _NOISE, positions),
    }


def record_seed(seed: int, purpose: int, counter: tf.Tensor) -> tf.Tensor:
    """Seeds for the order of records: of shards (purpose 0) or within windows (1)."""
    # No epoch or window has a number as high as 2**52, so the purposes share no seed.
    return _seeds(seed, _RECORDS, counter + purpose * 2**52)


def evaluation_batches(images: Any, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields each image once, in order.

    Args:
      images: [n, side, side, 1] uint8, as in `Examples`.
      batch_size: of every batch.

    Yields:
      A batch [batch_size, side, side, 1] float32 padded with zeros, and its number of real images.
    """
    if isinstance(images, RecordImages):
        batches = images.batches(batch_size)  # Slices would read whole shards for each batch.
    else:
        batches = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    for batch in batches:
        # The network is compiled for whole batches.
        padding = np.zeros((batch_size - len(batch), *batch.shape[1:]), batch.dtype)
        yield np.concatenate([batch, padding]).astype(np.float32), len(batch)


def _batch_contents(images: Any, config: TrainConfig, first_step: int) -> tf.data.Dataset:
    # Yields (index [batch_size] int32,) or (index, records) of each batch.
    if isinstance(images, RecordImages):
        return images.shuffle_from(
            functools.partial(record_seed, config.seed),
            first_step * config.batch_size,
        ).batch(config.batch_size, drop_remainder=True)
    # Tuples, as of records.
    return index_batches(len(images), config.batch_size, config.seed, first_step).map(
        lambda index: (index,)
    )


def _image_reader(images: Any) -> Callable[..., tf.Tensor]:
    # Makes the function from a batch's contents to its images.
    if isinstance(images, RecordImages):
        return lambda _, records: images.decode(records)  # float32, whole numbers
    if isinstance(images, np.ndarray):
        return functools.partial(tf.gather, _tensor_without_copy(images))  # uint8
    # From disk, in a Python function.
    return lambda index: tf.ensure_shape(
        tf.numpy_function(images.__getitem__, [index], tf.uint8, stateful=False),
        [None, *images.shape[1:]],
    )


def _empty_aligned(shape: tuple[int, ...]) -> np.ndarray:
    # An empty uint8 array in memory that TensorFlow takes over without a copy.
    # NumPy's own arrays begin 16 bytes after a page.
    size = math.prod(shape)  # bytes
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT  # bytes to the next multiple of 64
    return buffer[start : start + size].reshape(shape)


def _take_aligned(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
    # images[indices] in aligned memory.
    rows = np.arange(len(images))[indices]  # from int or bool indices
    return np.take(
        images,
        rows,
        axis=0,
        out=_empty_aligned((len(rows), *images.shape[1:])),
        mode="clip",  # the default "raise" fills a buffer first
    )


def _tensor_without_copy(images: np.ndarray) -> tf.Tensor:
    # A tensor in the same memory, which must not be written again; a copy if it is not aligned.
    if (
        images.ctypes.data % _ALIGNMENT
        or not images.flags.c_contiguous
        or not images.flags.writeable
        or not images.size
    ):
        return tf.constant(images)
    # Memory that is not aligned would end the process here.
    return tf.experimental.dlpack.from_dlpack(images.__dlpack__())


def _seeds(seed: int, purpose: int, counter: tf.Tensor) -> tf.Tensor:
    # Seeds for stateless operations, [..., 2] int64 for a counter of shape [...].
    counter = tf.cast(counter, tf.int64)
    stream = tf.fill(tf.shape(counter), tf.constant(seed * 4 + purpose, tf.int64))
    return tf.stack([stream, counter], axis=-1)
