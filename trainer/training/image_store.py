"""Reads a prepared split, and chooses where its images lie during training.

`resolve_cache(workdir, config.cache, ...)` gives memory, disk or none. Memory and disk
(`DiskImages`) can be read in any order and give the same batches. With none, the images stay in
their records (`record_images`), which are read shard by shard.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from trainer.data import prepared
from trainer.errors import UserError
from trainer.training import layers
from trainer.workdir import Workdir, read_json, write_json

_MEMORY_SHARE = 0.2  # of the free memory: images are there twice while a split is carved
_DISK_SHARE = 0.5  # of the free disk
_CHUNK = 16  # images: few enough that their memory is reused and not requested anew


def read_index(builder: Any, split: str) -> dict[str, np.ndarray]:
    """Reads everything but the pixels of a split, without decoding an image.

    Returns:
      In record order: filename and group, [n] str; label, [n] int32, or of several findings an
      image [n, findings] int8; has_lungs, [n] bool.
    """
    names = tuple(
        name
        for name in ("filename", "group", "label", "findings", "has_lungs")
        if name in builder.info.features
    )
    batches = list(_read(builder, split, names, 1024, f"reading the index of {split}"))
    index = {name: np.concatenate([batch[name] for batch in batches]) for name in names}
    labels = index["label"].astype(np.int32)
    if builder.info.metadata.get("multi_label"):
        labels = index["findings"]
    # TensorFlow gives text as objects of bytes.
    return {
        "filename": np.char.decode(index["filename"].astype("S"), "utf-8"),
        "group": np.char.decode(index["group"].astype("S"), "utf-8"),
        "label": labels,
        # Whole radiographs need no lungs.
        "has_lungs": index.get("has_lungs", np.ones(len(index["label"]), bool)),
    }


def read_images(
    builder: Any, split: str, side: int, feature: str = "image"
) -> Iterator[np.ndarray]:
    """Yields the images of a split in the order of its records.

    Args:
      builder: the prepared set.
      split: as TFDS names it.
      side: side length after resampling, in pixels.
      feature: image, or lungs for the masks.

    Yields:
      [up to 16, side, side, 1] uint8.
    """
    for batch in _read(builder, split, (feature,), _CHUNK, f"reading {split}"):
        yield layers.resample_images(batch[feature], side)


class DiskImages:
    """Images in one file, read when they are indexed.

    Args:
      path: n squares of uint8 one after another.
      side: of a square, in pixels.
      rows: [m] int, the squares to read.

    Attributes:
      shape: [m, side, side, 1].
    """

    def __init__(self, path: Path, side: int, rows: np.ndarray):
        self._path = path
        self._side = side
        self._rows = rows
        self.shape = (len(rows), side, side, 1)
        # pread, not a map: the pages of a map count as memory of the process.
        self._file = os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Reads the images at an int, a slice, or [k] int or bool: [..., side, side, 1] uint8."""
        rows = self._rows[index]
        size = self._side * self._side  # one byte a pixel
        squares = [os.pread(self._file, size, int(row) * size) for row in np.atleast_1d(rows)]
        return np.frombuffer(b"".join(squares), np.uint8).reshape(
            *np.shape(rows),
            *self.shape[1:],
        )

    def take(self, indices: np.ndarray) -> "DiskImages":
        """Selects the images at `indices` ([k] int); they stay on disk."""
        return DiskImages(self._path, self._side, self._rows[indices])


def write_disk_cache(builder: Any, split: str, side: int, feature: str = "image") -> DiskImages:
    """Opens the file of a split's images, and writes it first if needed.

    Args:
      builder: the prepared set.
      split: as TFDS names it.
      side: side length after resampling, in pixels.
      feature: image, or lungs for the masks.

    Returns:
      The images in the order of the records.

    Raises:
      OSError: the file cannot be written.
    """
    kind = "squares" if feature == "image" else feature
    path = Path(str(builder.data_path)) / f"{kind}_{split}_{side}.u8"
    count = builder.info.splits[split].num_examples
    if not path.exists() or path.stat().st_size != count * side * side:
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with open(partial, "wb") as file:
                for chunk in read_images(builder, split, side, feature):
                    file.write(chunk.tobytes())
            os.replace(partial, path)  # a reader never meets half a file
        finally:
            partial.unlink(missing_ok=True)
    return DiskImages(path, side, np.arange(count))


def choose_cache(count: int, side: int, folder: Path) -> tuple[str, str]:
    """Chooses where images lie: memory, disk or none.

    Memory if they take a fifth of the free memory or less; else disk if they take half of the free
    disk or less; else none.

    Args:
      count: number of images.
      side: of the images, in pixels.
      folder: for the file on disk.

    Returns:
      The choice, and a line for the user that explains it.
    """
    size = count * side * side  # bytes
    memory = _free_memory()
    disk = shutil.disk_usage(folder).free
    images = f"{count} images of {side} pixels take {size / 1e9:.2f} GB"
    if size <= _MEMORY_SHARE * memory:
        return "memory", f"{images} and are kept in memory"
    if size <= _DISK_SHARE * disk and hasattr(os, "pread"):
        return "disk", (
            f"{images}, of {memory / 1e9:.1f} GB of memory that are free, and are kept in a file "
            f"in {folder}"
        )
    return "none", (
        f"{images}, too much for memory ({memory / 1e9:.1f} GB free) and disk "
        f"({disk / 1e9:.1f} GB free in {folder}), and are read from their records each time"
    )


def resolve_cache(
    workdir: Workdir, requested: str, count: int, side: int, folder: Path
) -> tuple[str, str]:
    """Chooses a run's cache, and records the first choice in cache.json.

    Memory and disk give the same batches, records another order, so a run stays with one of the two
    orders.

    Args:
      workdir: of the run.
      requested: auto, memory, disk or none.
      count: number of images.
      side: of the images, in pixels.
      folder: for the file on disk.

    Returns:
      memory, disk or none, and a line for the user that explains it.

    Raises:
      UserError: the run was started with the other order.
    """
    cache = requested
    reason = f"images are kept: {requested}, as asked"
    if requested == "auto":
        cache, reason = choose_cache(count, side, folder)
    record = workdir.path / "cache.json"
    recorded = read_json(record)["cache"] if record.exists() else cache
    # Memory and disk give one order, so only a change from or to none matters.
    if (recorded == "none") != (cache == "none"):
        if requested != "auto":
            raise UserError(
                f"{workdir.path} was started with --cache={recorded}, whose order differs; give "
                "the same, or another --workdir."
            )
        cache = "none" if recorded == "none" else "disk"
        reason = f"images are kept as the run was started: {recorded}"
    if workdir.writes and not record.exists():
        write_json(record, {"cache": cache})
    return cache, reason


def _free_memory() -> float:
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            kilobytes = next(line.split()[1] for line in file if line.startswith("MemAvailable"))
        return 1024.0 * int(kilobytes)
    except (OSError, StopIteration, ValueError):
        return 4e9  # not Linux: small enough for any machine this runs on


def _read(
    builder: Any, split: str, features: tuple[str, ...], batch_size: int, description: str
) -> Iterator[dict[str, np.ndarray]]:
    # Yields batches of some features of a split, one shard after another.
    records = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding(dict.fromkeys(features, True)),
        shuffle_files=False,
        read_config=tfds.ReadConfig(
            interleave_cycle_length=1,
            add_tfds_id=False,
            # By itself tf.data begins with one core, and a small set is read before it takes more.
            num_parallel_calls_for_decode=os.cpu_count(),
        ),
    )
    with (
        prepared.convert_read_errors(builder, split),
        tqdm(
            total=builder.info.splits[split].num_examples,
            desc=description,
            unit=" images",
            leave=False,
            delay=2,
            disable=None,  # shown on terminals only
        ) as bar,
    ):
        for batch in records.batch(batch_size).as_numpy_iterator():
            yield batch
            bar.update(len(batch[features[0]]))
