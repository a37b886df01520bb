"""A split held in memory with all that is known of each image besides its pixels: what audits and evaluations work on."""

import concurrent.futures
import dataclasses
import functools
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from trainer.data import image_folder, prepared, radiograph
from trainer.errors import UserError

MOST = 8_000  # Images an audit looks at: 2 GB of squares of 500 pixels.
_READERS = 2
_MASKS = ("lung_mask", "lesion_mask")
HEADER = ("width", "height", "channels", "bit_depth", "byte_size", "format")


@dataclasses.dataclass(frozen=True)
class Records:
    """Images in one order, and what was recorded of their files.

    Attributes:
      images: [n, side, side, 1] uint8, as `radiograph.standardize` gives them.
      labels: [n] int32, indices into the set's class names.
      groups: [n] str, the patients; images of one group are never split apart.
      filenames: [n] str, as the data set names them.
      header: name → [n]: width, height (pixels), channels, bit_depth, byte_size of the original file as int64; format as str.
      columns: name → [n] str: the further columns of groups.csv, empty where a file has none.
      lung_masks, lesion_masks: [n, side, side] bool where the truth is known (phantom), else None.
      total: how many images the split has, of which these may be a sample; None where these were chosen otherwise.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    filenames: np.ndarray
    header: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    lung_masks: np.ndarray | None = None
    lesion_masks: np.ndarray | None = None
    total: int | None = None

    @property
    def remark(self) -> str:
        """That these are a sample, in words; empty where they are all."""
        return (
            ""
            if self.total in (None, len(self))
            else f"a sample of {len(self)} of {self.total} images was looked at"
        )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Records":
        """The records at `indices` ([m] int or [n] bool), in that order."""

        def part(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[indices]

        return Records(
            self.images[indices],
            self.labels[indices],
            self.groups[indices],
            self.filenames[indices],
            {name: values[indices] for name, values in self.header.items()},
            {name: values[indices] for name, values in self.columns.items()},
            part(self.lung_masks),
            part(self.lesion_masks),
        )


def read(builder: Any, split: str, most: int = MOST, masks: bool = True) -> Records:
    """Reads a split of a prepared set, sorted by filename; of a very large one a sample, which its filenames decide.

    Args:
      builder: a prepared tfds.core.DatasetBuilder of this project (`prepared.open_dataset(…).builder`).
      split: train or test.
      most: how many images at most.
      masks: whether to read known masks too; they take as much memory as the images do.

    Raises:
      UserError: a record is damaged.
    """
    import tensorflow_datasets as tfds

    total = builder.info.splits[split].num_examples
    wanted = {name: True for name in builder.info.features if masks or name not in _MASKS}
    with prepared.reading(builder, split):
        if total <= most:
            rows = builder.as_dataset(
                split=split, shuffle_files=False, decoders=tfds.decode.PartialDecoding(wanted)
            )
            rows = list(
                tqdm(
                    rows.as_numpy_iterator(),
                    f"reading {split}",
                    total,
                    unit=" images",
                    leave=False,
                    delay=2,
                    disable=None,
                )
            )
        else:
            rows = list(_sampled(builder, split, wanted, most, total))
    rows.sort(key=lambda row: row["filename"])
    return dataclasses.replace(from_rows(rows), total=total)


def _sampled(
    builder: Any, split: str, wanted: dict[str, bool], most: int, total: int
) -> Iterator[dict[str, Any]]:
    """The `most` examples whose names have the least checksums; only these are decoded."""
    import tensorflow_datasets as tfds

    named = builder.as_dataset(
        split=split, shuffle_files=False, decoders=tfds.decode.PartialDecoding({"filename": True})
    )
    sums = np.array([zlib.crc32(row["filename"]) for row in named.as_numpy_iterator()], np.uint32)
    limit = np.partition(sums, most - 1)[most - 1]
    pictures = [
        name for name in wanted if isinstance(builder.info.features[name], tfds.features.Image)
    ]
    encoded = tfds.decode.PartialDecoding(
        wanted, {name: tfds.decode.SkipDecoding() for name in pictures}
    )
    whole = builder.as_dataset(split=split, shuffle_files=False, decoders=encoded)
    shown = tqdm(
        whole.as_numpy_iterator(),
        f"reading {split}",
        total,
        unit=" images",
        leave=False,
        delay=2,
        disable=None,
    )
    for row in shown:
        if zlib.crc32(row["filename"]) <= limit:
            yield row | {name: _decoded(row[name]) for name in pictures}


def _decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))[..., None]


def from_folder(
    entries: Sequence[image_folder.Entry],
    class_names: Sequence[str],
    side: int = radiograph.STANDARD_SIDE,
) -> tuple[Records, list[str]]:
    """Reads files as they lie in a folder, without preparing a set.

    Args:
      entries: as `image_folder.find` gives them.
      class_names: in label order.
      side: of the squares, in pixels.

    Returns:
      The records of the files that can be read, and one line for each that cannot.

    Raises:
      UserError: none can be read.
    """
    with concurrent.futures.ThreadPoolExecutor(
        _READERS
    ) as readers:  # Pillow frees the interpreter while it decodes.
        read_one = functools.partial(_read_entry, side=side)
        found = tqdm(
            readers.map(read_one, entries),
            "reading files",
            len(entries),
            unit=" images",
            leave=False,
            delay=2,
            disable=None,
        )
        found = list(found)
    unreadable = [result for result in found if isinstance(result, str)]
    read_well = [
        (entry, *result)
        for entry, result in zip(entries, found, strict=True)
        if not isinstance(result, str)
    ]
    if not read_well:
        raise UserError(
            "no image could be read"
            + (f"; the first: {unreadable[0]}" if unreadable else "; the folder is empty.")
        )
    rows = [
        dataclasses.asdict(header)
        | {
            "image": square,
            "label": class_names.index(entry.label),
            "filename": entry.filename.encode(),
            "group": entry.group.encode(),
            "columns": json.dumps(dict(entry.columns)),
            "format": header.format.encode(),
        }
        for entry, square, header in read_well
    ]
    return from_rows(rows), unreadable


def _read_entry(entry: image_folder.Entry, side: int) -> tuple[np.ndarray, radiograph.Header] | str:
    try:
        found = radiograph.read(entry.path, name=str(entry.path))
    except radiograph.RadiographError as error:
        return str(error)
    return radiograph.standardize(found, side)[..., None], found.header


def from_rows(rows: list[dict[str, Any]]) -> Records:
    """Builds records from examples as the builders define them (one dict an image; text as bytes); takes their pictures out."""
    columns = [json.loads(row["columns"]) for row in rows]
    names = sorted({name for values in columns for name in values})
    return Records(
        images=_taken_out(rows, "image"),
        labels=np.array([row["label"] for row in rows], np.int32),
        groups=np.array([row["group"].decode() for row in rows]),
        filenames=np.array([row["filename"].decode() for row in rows]),
        header={
            name: np.array(
                [row[name].decode() if name == "format" else int(row[name]) for row in rows]
            )
            for name in HEADER
        },
        columns={name: np.array([values.get(name, "") for values in columns]) for name in names},
        lung_masks=_masks(rows, _MASKS[0]),
        lesion_masks=_masks(rows, _MASKS[1]),
    )


def _masks(rows: list[dict[str, Any]], name: str) -> np.ndarray | None:
    return _taken_out(rows, name)[..., 0] > 127 if name in rows[0] else None


def _taken_out(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """One array of the pictures of all rows, each freed once it is copied: so that a large set is not held twice."""
    found = np.empty((len(rows), *rows[0][name].shape), rows[0][name].dtype)
    for index, row in enumerate(rows):
        found[index] = row.pop(name)
    return found
