"""A split in memory, with the properties of each image: the input of audits and evaluations.

test = records.read(data.builder, "test")
folder, unreadable = records.from_folder(entries, class_names)
"""

import dataclasses
import functools
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from trainer.data import parallel, prepared, radiograph, views
from trainer.data.image_folder import Entry
from trainer.errors import UserError

MAX_IMAGES = 8_000  # Maximum images of an audit: 2 GB of squares of 500 pixels.
HEADER = ("width", "height", "channels", "bit_depth", "byte_size", "format")
_MASKS = ("lung_mask", "lesion_mask")  # The truth, where it is known.
_PICTURES = ("image", "whole", *_MASKS)


@dataclasses.dataclass(frozen=True)
class Records:
    """Images in one order, with labels, groups and the properties of their files.

    Attributes:
      images: [n, side, side, 1] uint8, squares of `views.make_square`.
      labels: [n] int32, indices into the set's class names; of several findings an image
        [n, findings] int8: 1, 0, or -1 for unknown.
      groups: [n] str, the patients; images of one group are never split apart.
      filenames: [n] str, as in the data set.
      header: name → [n]: width, height (pixels), channels, bit_depth, byte_size of the original
        file as int64; format as str.
      columns: name → [n] str: the further columns of groups.csv, empty where a file has none.
      lung_masks: [n, side, side] bool where the truth exists (phantom), else None.
      lesion_masks: [n, side, side] bool where the truth exists (phantom), else None; of several
        findings an image [n, side, side, findings].
      wholes: [n, 256, 256, 1] uint8, the whole radiographs where the images are of the lungs, else
        None.
      total: number of images of the split, of which these may be a sample; None for a subset.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    filenames: np.ndarray
    header: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    lung_masks: np.ndarray | None = None
    lesion_masks: np.ndarray | None = None
    wholes: np.ndarray | None = None
    total: int | None = None

    @property
    def sampling_note(self) -> str:
        """A note that these are a sample; empty where they are all."""
        if self.total in (None, len(self)):
            return ""
        return f"a sample of {len(self)} of {self.total} images was looked at"

    def __len__(self) -> int:
        return len(self.labels)

    def of_class(self, label: int) -> np.ndarray:
        """Masks the images of a class, or with a finding, [n] bool."""
        return self.labels == label if self.labels.ndim == 1 else self.labels[:, label] == 1

    def take(self, indices: np.ndarray) -> "Records":
        """Returns the records at some indices, in that order.

        Args:
          indices: [m] int or [n] bool.
        """
        taken = {
            name: None if values is None else values[indices]
            for name in ("lung_masks", "lesion_masks", "wholes")
            for values in [getattr(self, name)]
        }
        return Records(
            images=self.images[indices],
            labels=self.labels[indices],
            groups=self.groups[indices],
            filenames=self.filenames[indices],
            header={name: values[indices] for name, values in self.header.items()},
            columns={name: values[indices] for name, values in self.columns.items()},
            **taken,
        )

    def whole_radiographs(self) -> "Records":
        """Returns the same records with images of the whole radiographs."""
        if self.wholes is None:
            return self
        # The true masks are of the lungs' squares.
        return dataclasses.replace(
            self, images=self.wholes, wholes=None, lung_masks=None, lesion_masks=None
        )


def read(
    builder: Any,
    split: str,
    max_images: int = MAX_IMAGES,
    masks: bool = True,
    only: Collection[str] | None = None,
) -> Records:
    """Reads a split of a prepared set, sorted by filename.

    A very large number of images is sampled; the filenames decide the sample.

    Args:
      builder: a prepared tfds.core.DatasetBuilder of this project (`PreparedDataset.builder`).
      split: train or test.
      max_images: maximum number of images.
      masks: whether to read true masks too; they take as much memory as the images.
      only: filenames of the images to read; None for all.

    Raises:
      UserError: a record is damaged.
    """
    import tensorflow_datasets as tfds  # Imported lazily: slow.

    unread = ("lungs",) if masks else ("lungs", *_MASKS)
    names = [name for name in builder.info.features if name not in unread]
    encoded = []
    with prepared.convert_read_errors(builder, split):
        total = builder.info.splits[split].num_examples if only is None else len(only)
        chosen = None if only is None else {filename.encode() for filename in only}
        if total > max_images:
            if chosen is None:
                only_names = tfds.decode.PartialDecoding({"filename": True})
                examples = builder.as_dataset(split=split, shuffle_files=False, decoders=only_names)
                chosen = {row["filename"] for row in examples.as_numpy_iterator()}
            # The smallest checksums of filenames: equal on every machine, unlike the order.
            chosen = set(sorted(chosen, key=zlib.crc32)[:max_images])
        if chosen is not None:
            # Pictures stay encoded until the example is chosen: decoding is slow.
            encoded = [name for name in _PICTURES if name in names]
        decoders = tfds.decode.PartialDecoding(
            dict.fromkeys(names, True), {name: tfds.decode.SkipDecoding() for name in encoded}
        )
        dataset = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)
        rows = [
            row | {name: _decode_png(row[name]) for name in encoded}
            for row in _progress(dataset.as_numpy_iterator(), f"reading {split}", total)
            if chosen is None or row["filename"] in chosen
        ]
    # Reading is parallel, so only names give a fixed order.
    rows.sort(key=lambda row: row["filename"])
    return dataclasses.replace(from_rows(rows), total=total)


def from_folder(
    entries: Sequence[Entry],
    class_names: Sequence[str],
    side: int,
    view: str = views.WHOLE,
) -> tuple[Records, list[str]]:
    """Reads files directly from a folder, without preparing a set.

    Args:
      entries: the result of `image_folder.find`.
      class_names: in label order.
      side: side length of the squares, in pixels: that of the model that sees them.
      view: whole or lungs; where no lungs are found, the square shows the whole radiograph.

    Returns:
      The records of the readable files, and one line for each unreadable file.

    Raises:
      UserError: no file is readable.
    """
    results = parallel.map_in_order(
        functools.partial(_read_row, class_names=class_names, side=side, view=view), entries
    )
    read_files = [result for _, result in _progress(results, "reading files", len(entries))]
    rows = [row for row in read_files if isinstance(row, dict)]
    unreadable = [message for message in read_files if isinstance(message, str)]
    if not rows:
        cause = f"; the first: {unreadable[0]}" if unreadable else "; the folder is empty."
        raise UserError(f"no image could be read{cause}")
    return from_rows(rows), unreadable


def from_rows(rows: list[dict[str, Any]]) -> Records:
    """Builds records from examples in the builders' format.

    Args:
      rows: one dict for each image, text as bytes. Their pictures are removed to save memory.
    """
    columns = [json.loads(row["columns"]) for row in rows]
    names = sorted({name for values in columns for name in values})
    numbers = {name: np.array([int(row[name]) for row in rows]) for name in HEADER[:-1]}
    findings = len(rows[0].get("findings", ()))
    masks: dict[str, Any] = {
        f"{name}s": _to_masks(_pop_arrays(rows, name), findings if name == "lesion_mask" else 0)
        for name in _MASKS
        if name in rows[0]
    }
    labels = np.array([row["label"] for row in rows], np.int32)
    if findings:
        labels = np.stack([row["findings"] for row in rows]).astype(np.int8)
    return Records(
        images=_pop_arrays(rows, "image"),
        labels=labels,
        groups=_decode_text(rows, "group"),
        filenames=_decode_text(rows, "filename"),
        header={**numbers, "format": _decode_text(rows, "format")},
        columns={name: np.array([values.get(name, "") for values in columns]) for name in names},
        wholes=_pop_arrays(rows, "whole") if "whole" in rows[0] else None,
        **masks,
    )


def _progress(items: Iterable[Any], text: str, total: int) -> Iterator[Any]:
    return tqdm(items, text, total, unit=" images", leave=False, delay=2, disable=None)


def _decode_png(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))[..., None]  # [side, side, 1]


def _read_row(
    entry: Entry, class_names: Sequence[str], side: int, view: str
) -> dict[str, Any] | str:
    # One example in the builders' format, or the error of the file.
    try:
        image = radiograph.read(entry.path, name=str(entry.path))
    except radiograph.RadiographError as error:
        return str(error)
    wholes = {}
    if view != views.WHOLE:
        wholes["whole"] = radiograph.standardize(image, views.WHOLE_SIDE)[..., None]
    return dataclasses.asdict(image.header) | {
        **wholes,
        "image": views.make_square(image, side, view).pixels[..., None],  # [side, side, 1]
        "label": class_names.index(entry.label) if not entry.findings else -1,
        "findings": entry.findings or (),
        "filename": entry.filename.encode(),
        "group": entry.group.encode(),
        "columns": json.dumps(dict(entry.columns)),
        "format": image.header.format.encode(),
    }


def _to_masks(pictures: np.ndarray, findings: int) -> np.ndarray:
    # From [n, side, side, 1] uint8, where bit i is the mask of finding i, or white is the only one.
    if findings:
        bits = np.unpackbits(pictures, axis=-1, count=findings, bitorder="little")
        return bits.view(bool)  # [n, side, side, findings]
    return pictures[..., 0] > 127  # [n, side, side]


def _decode_text(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name].decode() for row in rows])


def _pop_arrays(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """Moves the pictures of all rows into one array.

    Each picture is freed once it is copied, so that a large set is not in memory twice.
    """
    first = rows[0][name]
    stacked = np.empty((len(rows), *first.shape), first.dtype)
    for index, row in enumerate(rows):
        stacked[index] = row.pop(name)
    return stacked
