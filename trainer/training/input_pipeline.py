"""From a prepared set to batches: a pure function of (configuration, seed, step).

`training_batches(examples, config, first_step)` gives the batches of a run. Their order is
computed, not remembered: batches are consecutive slices of permutations 0, 1, 2, ... of the
training split. So they may span epochs, nothing is dropped or padded, and a run can start at any
step.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data.prepared import PreparedDataset
from trainer.errors import UserError
from trainer.training import aligned, augment, image_store, split_images
from trainer.training.record_images import RecordImages
from trainer.training.split_images import Images

# Purposes of the random numbers; no two of them share a seed.
_ORDER = 0
_VIEWS = 1
_NOISE = 2
_RECORDS = 3

_VISIBLE = 0.1  # Opacity from which an image with paint counts as positive.

# No control flow depends on a tensor, and AutoGraph's search for it takes a second.
_no_autograph = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split or a subset of one.

    Attributes:
      images: [n, side, side, 1] uint8, as an array or as `DiskImages` or `RecordImages`.
      labels: [n] int32, indices into the set's class names; of several findings an image
        [n, findings] int8: 1, 0, or -1 for unknown.
      groups: [n] str; images of one group (a patient, or copies of one another) are never split.
      filenames: [n] str, as the data set names them.
      has_lungs: [n] bool; False where a view of the lungs shows the whole radiograph. None where
        that is not known.
      lungs: [n, side, side, 1] uint8, 255 in the lungs, as `images`; None where nothing is painted.
      opacities: [n, side, side, 1] uint8, the targets of what is not painted, in 0..255; None where
        it has no opacity.
    """

    images: Images
    labels: np.ndarray
    groups: np.ndarray
    filenames: np.ndarray
    has_lungs: np.ndarray | None = None
    lungs: Images | None = None
    opacities: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Examples":
        """Selects the examples at `indices` ([m] int), in that order."""
        return Examples(
            split_images.take(self.images, indices),
            self.labels[indices],
            self.groups[indices],
            self.filenames[indices],
            None if self.has_lungs is None else self.has_lungs[indices],
            None if self.lungs is None else split_images.take(self.lungs, indices),
            None if self.opacities is None else aligned.take(self.opacities, indices),
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


def load(
    builder: Any, split: str, side: int, cache: str = "memory", with_lungs: bool = False
) -> Examples:
    """Opens a split of a prepared set, with its images resampled once.

    Args:
      builder: a prepared tfds.core.DatasetBuilder whose examples have image, label, group and
        filename.
      split: as TFDS names it.
      side: side length after resampling, in pixels.
      cache: memory; disk, a file beside the set; none, the records.
      with_lungs: whether to open the masks of the lungs too.

    Returns:
      The examples, sorted by filename; with cache none in the order of their records.
    """
    index = image_store.read_index(builder, split)
    # Records are parallel and come in shards, so only names give a fixed order.
    order = np.argsort(index["filename"], kind="stable")
    if cache == "none":
        order = np.arange(len(order))
    index = {name: values[order] for name, values in index.items()}
    open_images = functools.partial(split_images.load, builder, split, side, cache, order)
    return Examples(
        images=open_images("image"),
        labels=index["label"],
        groups=index["group"],
        filenames=index["filename"],
        has_lungs=index["has_lungs"],
        lungs=split_images.load(builder, split, side, cache, order, "lungs")
        if with_lungs
        else None,
    )


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
    positive: int | None = None,
) -> tf.data.Dataset:
    """Yields augmented batches from `first_step` on, without end.

    Args:
      examples: the whole training split, on every worker.
      config: its batch_size (global, a multiple of `workers`), seed and augmentation settings.
      first_step: steps before it are passed over.
      worker: index of this worker, which gets the slice of each global batch at that position.
      workers: number of consecutive slices.
      positive: the class of an image that opacities were painted into; `examples` have lungs then.

    Raises:
      UserError: backgrounds are swapped, and the images are in records.

    Returns:
      A dataset of dicts: image [batch, side, side, 1] float32 in 0..255; label [batch] int32, or
      [batch, findings]; index
      [batch] int32 into `examples`; noise_seed [batch, 2] int64, one pair an example, for stateless
      dropout; where opacities are painted, opacity [batch, side, side, 1] float32 in 0..1. Every
      field is a function of (seed, step, position in the global batch) alone, so the number of
      replicas and workers does not change it.
    """
    labels = tf.constant(examples.labels, tf.int32)
    if config.swap_backgrounds and isinstance(examples.images, RecordImages):
        raise UserError(
            "--swap_backgrounds takes images in any order, and these are read from their records; "
            "give --cache=disk."
        )
    read_images = split_images.reader(examples.images)
    read_lungs = None if examples.lungs is None else split_images.reader(examples.lungs)
    read_opacities = None if examples.opacities is None else split_images.reader(examples.opacities)
    count = config.batch_size // workers
    start = worker * count

    @_no_autograph
    def batch_at(step: tf.Tensor, contents: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        contents = tuple(values[start : start + count] for values in contents)  # this worker's
        # Positions in the run: step n of every layout has the same.
        positions = step * config.batch_size + start + tf.range(count, dtype=tf.int64)
        batch = {
            "image": read_images(*contents),
            "label": tf.gather(labels, contents[0]),
            "index": contents[0],
        }
        if read_lungs is not None:
            batch["lungs"] = read_lungs(*contents)
        if read_opacities is not None:
            batch["opacity"] = read_opacities(*contents)
        if config.swap_backgrounds:
            # Drawn for the whole batch, so that a slice of it gets the same.
            seed = augment.stream_seed(_seeds(config.seed, _VIEWS, step), "partners")
            partners = tf.random.stateless_uniform(
                [config.batch_size], seed, 0, len(examples), tf.int32
            )
            batch["partner"] = read_images(partners[start : start + count])
        return make_batch(batch, config, step, positions, start, positive)

    return tf.data.Dataset.zip(
        tf.data.Dataset.range(first_step, 2**31 - 1),
        _batch_contents(examples.images, config, first_step),
    ).map(batch_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def make_batch(
    batch: dict[str, tf.Tensor],
    config: TrainConfig,
    step: tf.Tensor,
    positions: tf.Tensor,
    first: int = 0,
    positive: int | None = None,
) -> dict[str, tf.Tensor]:
    """Makes one batch, or a slice of it, as `training_batches` describes it.

    Args:
      batch: image [batch, side, side, 1], uint8 or float32; label [batch] int32; index [batch]
        int32, position in the training split; where opacities are painted or backgrounds swapped
        also lungs, masks like the images, in 0..255; partner, other images; and opacity, the
        opacities of images before paint, in 0..255.
      config: its batch_size, seed and augmentation settings.
      step: [] int64, the seed of the views; no other batch has the same.
      positions: [batch] int64, the seeds of the noise; no other example of the run has the same.
      first: position of the slice in a batch of config.batch_size.
      positive: the class of an image that opacities were painted into.
    """
    views = augment.random_views(
        batch["image"],
        _seeds(config.seed, _VIEWS, step),
        config,
        first,
        config.batch_size,
        batch,
    )
    labels = batch["label"]
    if "opacity" in views:
        painted = tf.reduce_any(views["opacity"] > _VISIBLE, axis=[1, 2, 3])  # [batch]
        labels = tf.where(painted, tf.constant(positive, tf.int32), labels)
    return views | {
        "label": labels,
        "index": batch["index"],
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


def _seeds(seed: int, purpose: int, counter: tf.Tensor) -> tf.Tensor:
    # Seeds for stateless operations, [..., 2] int64 for a counter of shape [...].
    counter = tf.cast(counter, tf.int64)
    stream = tf.fill(tf.shape(counter), tf.constant(seed * 4 + purpose, tf.int64))
    return tf.stack([stream, counter], axis=-1)
