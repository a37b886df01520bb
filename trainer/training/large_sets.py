"""Where a split's images are kept while it is trained on: in memory, in a file beside the set, or only as prepared.

Images in a file can be read in any order, as those in memory, and give the same batches. Images left in their records are read
shard by shard: shards in random order, then shuffled within a window; that order, too, is computed from (seed, epoch) and can
be entered at any step.
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from trainer import workdir
from trainer.data import prepared
from trainer.errors import UserError
from trainer.training import layers
from trainer.workdir import Workdir

WINDOW = 1024  # Records shuffled at a time; they are held undecoded.
_OF_MEMORY = 0.2  # Of the memory that is free: images are held twice while parts are taken.
_OF_DISK = 0.5
_CHUNK = 16  # Images at a time: few enough that their memory is used again and not asked for anew.
_SHARDS, _WITHIN = 0, 1


@dataclasses.dataclass(frozen=True)
class Index:
    """What is known of a split's examples besides their pixels, in the order of its records.

    Attributes:
      filenames, groups: [n] str.
      labels: [n] int32.
      shard_lengths: records a shard.
    """

    filenames: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    shard_lengths: tuple[int, ...]


def index_of(builder: Any, split: str) -> Index:
    """Reads a split once, without decoding an image."""
    wanted = tfds.decode.PartialDecoding({"label": True, "group": True, "filename": True})
    rows = _in_order(builder, split, wanted).batch(1024).as_numpy_iterator()
    total = builder.info.splits[split].num_examples
    filenames, groups, labels = [], [], []
    with (
        prepared.reading(builder, split),
        tqdm(
            total=total,
            desc=f"reading the index of {split}",
            unit=" images",
            leave=False,
            delay=2,
            disable=None,
        ) as bar,
    ):
        for part in rows:
            filenames.append(np.char.decode(part["filename"].astype("S"), "utf-8"))
            groups.append(np.char.decode(part["group"].astype("S"), "utf-8"))
            labels.append(part["label"].astype(np.int32))
            bar.update(len(labels[-1]))
    return Index(
        np.concatenate(filenames),
        np.concatenate(groups),
        np.concatenate(labels),
        tuple(builder.info.splits[split].shard_lengths),
    )


def choose(count: int, side: int, folder: Path) -> tuple[str, str]:
    """Which of memory, disk, none suits `count` images of a side, and a line that says so.

    Memory where they take a fifth of what is free or less; else the disk, where they take half of what is free in `folder` or
    less; else none.
    """
    size = count * side * side
    memory, disk = _free_memory(), shutil.disk_usage(folder).free
    said = f"{count} images of {side} pixels take {size / 1e9:.2f} GB"
    if size <= _OF_MEMORY * memory:
        return "memory", f"{said} and are kept in memory"
    if size <= _OF_DISK * disk and hasattr(os, "pread"):
        return (
            "disk",
            f"{said}, of {memory / 1e9:.1f} GB of memory that are free, and are kept in a file in "
            f"{folder}",
        )
    return "none", (
        f"{said}, too much for memory ({memory / 1e9:.1f} GB free) and disk ({disk / 1e9:.1f} GB "
        f"free in {folder}), and are read from their records each time"
    )


def settle(work: Workdir, wanted: str, count: int, side: int, folder: Path) -> tuple[str, str]:
    """Where a run keeps its images (memory, disk, none), and a line that says so; the first call is written down.

    Memory and disk give the same batches, records left where they lie another order: so a run keeps to one or the other.

    Args:
      work: of the run.
      wanted: auto or one of the three.
      count, side: of the images.
      folder: where a file of them would lie.

    Raises:
      UserError: the run was started with the other order.
    """
    chosen, line = (
        choose(count, side, folder)
        if wanted == "auto"
        else (wanted, f"images are kept: {wanted}, as asked")
    )
    note = work.path / "cache.json"
    before = workdir.read_json(note)["cache"] if note.exists() else chosen
    if (before == "none") != (chosen == "none"):
        if wanted != "auto":
            raise UserError(
                f"{work.path} was started with --cache={before}, whose order differs; give the "
                "same, or another --workdir."
            )
        chosen, line = (
            ("none" if before == "none" else "disk"),
            f"images are kept as the run was started: {before}",
        )
    if work.writes and not note.exists():
        workdir.write_json(note, {"cache": chosen})
    return chosen, line


def _free_memory() -> float:
    try:
        with open("/proc/meminfo") as file:
            return 1024.0 * next(
                int(line.split()[1]) for line in file if line.startswith("MemAvailable")
            )
    except (OSError, StopIteration, ValueError):
        return 4e9  # Not Linux: small enough for any machine this runs on.


def squares(builder: Any, split: str, side: int) -> Iterator[np.ndarray]:
    """The images of a split in the order of its records, resampled: [up to 16, side, side, 1] uint8 at a time."""
    wanted = tfds.decode.PartialDecoding({"image": True})
    total = builder.info.splits[split].num_examples
    with (
        prepared.reading(builder, split),
        tqdm(
            total=total, desc=f"reading {split}", unit=" images", leave=False, delay=2, disable=None
        ) as bar,
    ):
        for part in _in_order(builder, split, wanted).batch(_CHUNK).as_numpy_iterator():
            yield layers.resample_images(part["image"], side)
            bar.update(len(part["image"]))


class DiskImages:
    """Images in one file, read when they are asked for; they take no memory.

    Args:
      path: n squares of uint8 one after another.
      side: of a square, in pixels.
      rows: [m] int, which of them these are.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, side: int, rows: np.ndarray):
        self._path, self._side, self._rows = path, side, rows
        self._file = os.open(
            path, os.O_RDONLY
        )  # pread, not a map: pages of a map count as memory of the process.

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self._rows), self._side, self._side, 1

    def __getitem__(self, index: Any) -> np.ndarray:
        """[…, side, side, 1] uint8 of an int, a slice, or [k] int or bool."""
        size = self._side * self._side
        rows = np.atleast_1d(self._rows[index])
        data = b"".join(os.pread(self._file, size, int(row) * size) for row in rows)
        found = np.frombuffer(data, np.uint8).reshape(len(rows), self._side, self._side, 1)
        return found[0] if np.ndim(self._rows[index]) == 0 else found

    def part(self, indices: np.ndarray) -> "DiskImages":
        """Those at `indices`, still on disk."""
        return DiskImages(self._path, self._side, self._rows[indices])


def on_disk(builder: Any, split: str, side: int) -> DiskImages:
    """The images of a split in the order of its records, in a file beside it that is written once.

    Raises:
      OSError: it cannot be written.
    """
    path = Path(str(builder.data_path)) / f"squares_{split}_{side}.u8"
    count = builder.info.splits[split].num_examples
    if not path.exists() or path.stat().st_size != count * side * side:
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with open(part, "wb") as file:
                for chunk in squares(builder, split, side):
                    file.write(chunk.tobytes())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return DiskImages(path, side, np.arange(count))


class RecordImages:
    """Images left in the records of a prepared split, read one shard after another.

    Args:
      builder, split: the set.
      side: they are resampled to, in pixels.
      shard_lengths: records a shard.
      rows: [m] int, rising: which records these are.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, builder: Any, split: str, side: int, shard_lengths: tuple[int, ...], rows: np.ndarray
    ):
        self._builder, self._split, self._side, self._lengths, self._rows = (
            builder,
            split,
            side,
            shard_lengths,
            rows,
        )
        self._files = [str(path) for path in builder.info.splits[split].filepaths]
        self._place = np.full(
            sum(shard_lengths), -1, np.int32
        )  # Of each record among these, or -1.
        self._place[rows] = np.arange(len(rows))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self._rows), self._side, self._side, 1

    def __getitem__(self, index: Any) -> np.ndarray:
        """[…, side, side, 1] uint8 of an int, a slice, or [k] int; reads whole shards, so it is for a few images."""
        wanted = np.atleast_1d(np.arange(len(self))[index])
        found = np.zeros((len(wanted), self._side, self._side, 1), np.uint8)
        shard_of = np.searchsorted(np.cumsum(self._lengths), self._rows[wanted], side="right")
        for shard in np.unique(shard_of):
            for place, record in self._shard(int(shard)).as_numpy_iterator():
                for slot in np.flatnonzero(wanted == place):
                    found[slot] = self.decoded(tf.constant([record]))[0].numpy().astype(np.uint8)
        return found[0] if np.ndim(np.arange(len(self))[index]) == 0 else found

    def part(self, indices: np.ndarray) -> "RecordImages":
        """Those at `indices`, which must rise, still in their records."""
        return RecordImages(
            self._builder, self._split, self._side, self._lengths, self._rows[indices]
        )

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """All of them in order, [up to size, side, side, 1] uint8 at a time."""
        records = (
            tf.data.Dataset.range(len(self._files))
            .flat_map(self._shard)
            .map(lambda place, record: record)
        )
        squares = (
            records.batch(size).map(self.decoded, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
        )
        with prepared.reading(self._builder, self._split):
            for batch in squares.as_numpy_iterator():
                yield batch.astype(np.uint8)

    def decoded(self, records: tf.Tensor) -> tf.Tensor:
        """[n] serialised examples → [n, side, side, 1] float32, whole numbers in 0..255."""
        pictures = tf.io.parse_example(records, {"image": tf.io.FixedLenFeature([], tf.string)})[
            "image"
        ]
        shape = self._builder.info.features["image"].shape
        images = tf.map_fn(
            lambda data: tf.ensure_shape(tf.io.decode_png(data, 1), shape),
            pictures,
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )
        fits = shape[0] == self._side
        return (
            tf.cast(images, tf.float32)
            if fits
            else layers.Resample(self._side, dtype="float32")(images)
        )

    def shuffled(
        self, seed_of: Callable[[int, tf.Tensor], tf.Tensor], first: int
    ) -> tf.data.Dataset:
        """Yields (place among these [] int32, serialised example), epoch after epoch without end, from the example `first` on.

        Args:
          seed_of: (purpose 0 or 1, counter) → [2] int64 for a stateless draw.
          first: counted from the beginning of epoch 0; only shards from the one that holds its window on are opened.
        """
        epoch, passed = divmod(first, len(self))
        window, within = divmod(passed, WINDOW)
        counts = np.array(
            [
                (self._place[end - length : end] >= 0).sum()
                for end, length in zip(np.cumsum(self._lengths), self._lengths, strict=True)
            ]
        )
        ends = np.cumsum(counts[self._order(seed_of, tf.constant(epoch, tf.int64)).numpy()])
        shard = int(np.searchsorted(ends, window * WINDOW, side="right"))
        left_out = window * WINDOW - int(ends[shard - 1] if shard else 0)
        entered = self._epoch(seed_of, tf.constant(epoch, tf.int64), shard, left_out, window).skip(
            within
        )
        rest = tf.data.Dataset.range(epoch + 1, 2**31 - 1).flat_map(
            lambda later: self._epoch(seed_of, later, 0, 0, 0)
        )
        return entered.concatenate(rest)

    def shard_at(
        self, number: tf.Tensor, seed_of: Callable[[int, tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, tf.data.Dataset]:
        """The shard that stands at a place in all epochs' orders, as (its epoch, (place among these, serialised example))."""
        epoch = number // len(self._files)
        return epoch, self._shard(self._order(seed_of, epoch)[number % len(self._files)])

    def _order(self, seed_of: Callable, epoch: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(
            tf.range(len(self._files), dtype=tf.int64), seed_of(_SHARDS, epoch)
        )

    def _epoch(
        self, seed_of: Callable, epoch: tf.Tensor, shard: int, left_out: int, window: int
    ) -> tf.data.Dataset:
        """One epoch, entered at a shard of its order, less the first of its examples, of which a window begins."""
        order = self._order(seed_of, epoch)[shard:]
        examples = tf.data.Dataset.from_tensor_slices(order).flat_map(self._shard).skip(left_out)

        def mixed(number: tf.Tensor, part: tuple[tf.Tensor, tf.Tensor]) -> tf.data.Dataset:
            seed = seed_of(_WITHIN, epoch * 2**24 + number)
            within = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(part[0])[0]), seed)
            return tf.data.Dataset.from_tensor_slices(
                tuple(tf.gather(values, within) for values in part)
            )

        return examples.batch(WINDOW).enumerate(window).flat_map(mixed)

    def _shard(self, number: int | tf.Tensor) -> tf.data.Dataset:
        """(place among these, serialised example) of a shard's records that are among these."""
        start = tf.constant(np.cumsum([0, *self._lengths[:-1]]), tf.int64)[number]
        places, length = tf.constant(self._place), tf.constant(self._lengths, tf.int64)[number]
        own = tf.data.Dataset.from_tensor_slices(places[start : start + length])
        records = tf.data.TFRecordDataset(tf.constant(self._files)[number], buffer_size=2**20)
        return tf.data.Dataset.zip(own, records).filter(lambda place, _: place >= 0)


def _in_order(builder: Any, split: str, wanted: tfds.decode.PartialDecoding) -> tf.data.Dataset:
    """The records of a split, one shard after another."""
    # On all cores at once: by itself tf.data begins with one, and a small set is read before it takes more.
    settings = tfds.ReadConfig(
        interleave_cycle_length=1, add_tfds_id=False, num_parallel_calls_for_decode=os.cpu_count()
    )
    return builder.as_dataset(
        split=split, decoders=wanted, shuffle_files=False, read_config=settings
    )
