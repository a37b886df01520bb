"""Images left in the records of a prepared split, read shard by shard.

`RecordImages.shuffle_from(seed_of, first)` gives shards in random order, then shuffled within a
window. The order follows from (seed, epoch) and can be entered at any step.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.data import prepared
from trainer.training import layers

WINDOW = 1024  # records shuffled at a time; they stay undecoded

# Purposes of the seeds.
_SHARD_ORDER = 0
_WINDOW_ORDER = 1

# (purpose, counter) → [2] int64 for a stateless draw.
SeedFunction = Callable[[int, tf.Tensor], tf.Tensor]


class RecordImages:
    """Images of a split that are decoded each time they are read.

    Args:
      builder, split: the prepared set.
      side: side length after resampling, in pixels.
      rows: [m] int, rising: the records to read.
      feature: image, or lungs for the masks.

    Attributes:
      shape: [m, side, side, 1].
    """

    def __init__(
        self, builder: Any, split: str, side: int, rows: np.ndarray, feature: str = "image"
    ):
        self._feature = feature
        self._builder = builder
        self._split = split
        self._side = side
        self._rows = rows
        self.shape = (len(rows), side, side, 1)
        info = builder.info.splits[split]
        self._files = [str(path) for path in info.filepaths]
        self._shard_ends = np.cumsum(info.shard_lengths)  # [shards], in records
        self._shards = np.searchsorted(self._shard_ends, rows, side="right")  # [m]
        # The index among these images of every record of the split; -1 for the others.
        self._index = np.full(self._shard_ends[-1], -1, np.int32)
        self._index[rows] = np.arange(len(rows))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Reads the images at an int, a slice, or [k] int.

        It reads whole shards, so it suits few images.

        Returns:
          [..., side, side, 1] uint8.
        """
        selected = np.arange(len(self))[index]
        indices = np.atleast_1d(selected)  # [k]
        images = np.zeros((len(indices), *self.shape[1:]), np.uint8)
        for shard in np.unique(self._shards[indices]):
            for record_index, record in self._read_shard(int(shard)).as_numpy_iterator():
                matches = np.flatnonzero(indices == record_index)
                if len(matches):
                    images[matches] = self.decode(tf.constant([record])).numpy().astype(np.uint8)
        return images[0] if np.ndim(selected) == 0 else images

    def take(self, indices: np.ndarray) -> "RecordImages":
        """Selects the images at `indices` ([k] int, rising); they stay in their records."""
        return RecordImages(
            self._builder, self._split, self._side, self._rows[indices], self._feature
        )

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yields all images in order, [<= size, side, side, 1] uint8."""
        images = (
            tf.data.Dataset.range(len(self._files))
            .flat_map(self._read_shard)
            .map(lambda _, record: record)
            .batch(size)
            .map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)
        )
        with prepared.convert_read_errors(self._builder, self._split):
            for batch in images.prefetch(2).as_numpy_iterator():
                yield batch.astype(np.uint8)

    def decode(self, records: tf.Tensor) -> tf.Tensor:
        """Decodes serialised examples.

        Args:
          records: [n] string.

        Returns:
          [n, side, side, 1] float32, whole numbers in 0..255.
        """
        shape = self._builder.info.features[
            self._feature
        ].shape  # (prepared side, prepared side, 1)
        images = tf.map_fn(
            lambda png: tf.ensure_shape(tf.io.decode_png(png, 1), shape),
            tf.io.parse_example(
                records,
                {self._feature: tf.io.FixedLenFeature([], tf.string)},
            )[self._feature],  # [n] string, the files
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )  # [n, prepared side, prepared side, 1]
        if shape[0] == self._side:
            return tf.cast(images, tf.float32)
        return layers.Resample(self._side, dtype="float32")(images)

    def shuffle_from(self, seed_of: SeedFunction, first: int) -> tf.data.Dataset:
        """Yields shuffled epochs without end, from the example `first` on.

        Only the shards from the one with the first example's window on are opened.

        Args:
          seed_of: gives the seeds of the orders.
          first: position counted from the beginning of epoch 0.

        Returns:
          A dataset of (index among these images [] int32, serialised example).
        """
        epoch, position = divmod(first, len(self))
        first_window, skipped = divmod(position, WINDOW)
        order = self._shard_order(seed_of, tf.constant(epoch, tf.int64))
        # Number of these images in each shard, in the order of the epoch.
        lengths = np.bincount(self._shards, minlength=len(self._files))[order.numpy()]
        stops = np.cumsum(lengths)
        # The window begins in this shard of the order, after `passed` of its examples.
        first_shard = int(np.searchsorted(stops, first_window * WINDOW, side="right"))
        passed = first_window * WINDOW - int(stops[first_shard] - lengths[first_shard])

        def read_epoch(
            epoch: tf.Tensor, first_shard: int = 0, passed: int = 0, first_window: int = 0
        ) -> tf.data.Dataset:
            order = self._shard_order(seed_of, epoch)[first_shard:]
            return (
                tf.data.Dataset.from_tensor_slices(order)
                .flat_map(self._read_shard)
                .skip(passed)
                .batch(WINDOW)
                .enumerate(first_window)
                # The number of the window is part of its seed.
                .flat_map(
                    lambda number, window: _shuffle(
                        window, seed_of(_WINDOW_ORDER, epoch * 2**24 + number)
                    )
                )
            )

        return (
            read_epoch(tf.constant(epoch, tf.int64), first_shard, passed, first_window)
            .skip(skipped)
            .concatenate(tf.data.Dataset.range(epoch + 1, 2**31 - 1).flat_map(read_epoch))
        )

    def shard_at(
        self, number: tf.Tensor, seed_of: SeedFunction
    ) -> tuple[tf.Tensor, tf.data.Dataset]:
        """Opens a shard by its position in the orders of all epochs.

        Returns:
          The shard's epoch, and a dataset of (index among these images, serialised example).
        """
        epoch = number // len(self._files)
        shard = self._shard_order(seed_of, epoch)[number % len(self._files)]
        return epoch, self._read_shard(shard)

    def _shard_order(self, seed_of: SeedFunction, epoch: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(
            tf.range(len(self._files), dtype=tf.int64), seed_of(_SHARD_ORDER, epoch)
        )

    def _read_shard(self, number: int | tf.Tensor) -> tf.data.Dataset:
        # Yields (index among these images, serialised example) of one shard.
        shard_ends = tf.constant([0, *self._shard_ends], tf.int64)
        index = tf.constant(self._index)[shard_ends[number] : shard_ends[number + 1]]
        # Reads 1 MiB at a time.
        records = tf.data.TFRecordDataset(tf.constant(self._files)[number], buffer_size=2**20)
        return tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices(index),
            records,
        ).filter(lambda index, _: index >= 0)


def _shuffle(window: tuple[tf.Tensor, ...], seed: tf.Tensor) -> tf.data.Dataset:
    order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(window[0])[0]), seed)
    return tf.data.Dataset.from_tensor_slices(tuple(tf.gather(values, order) for values in window))
