"""Writing of radiographs into the records of a set: their features, and shard by shard.

    tfds.features.FeaturesDict({**shards.pictures(500, "whole"), **shards.describe_file(…)})
    splits = {"train": shards.split_into_shards(entries), …}
    for filename, example in shards.examples(splits["train"][0], 500, "whole"): ...

Records are written here, or by Apache Beam on several machines. Only one shard is in memory at a
time, so memory does not grow with the set. TFDS keeps up to a gigabyte to shuffle a set; here the
files are shuffled before they are read. Beam's workers need this package, and the files under the
same path.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import pickle
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer, splits, writer

from trainer.data import parallel, radiograph, views
from trainer.data.image_folder import Entry
from trainer.errors import UserError

SHARD_LENGTH = 512  # Files per shard: 80 MB of squares of 500 pixels.

Shard = Sequence[Entry]


def describe_file(class_names: Sequence[str] | None, several: bool = False) -> dict[str, Any]:
    """Returns the label, the file's header, the patient and the columns of groups.csv.

    Args:
      class_names: in label order; None where the builder sets them once it has read the files.
      several: whether an image may have several findings. Then they are in `findings`: 1, 0 or -1
        (unknown) each, in label order, and the label is -1. `findings` is empty where an image has
        one class.

    Returns:
      name → TFDS feature; `trainer.data.records` reads these names.
    """
    findings = {"findings": tfds.features.Tensor(shape=(None,), dtype=np.int8)}
    return {
        "label": tfds.features.ClassLabel(names=class_names and list(class_names)),
        **(findings if several else {}),
        "filename": tfds.features.Text(),
        "sha256": tfds.features.Text(),
        "format": tfds.features.Text(),
        "width": np.int32,
        "height": np.int32,
        "channels": np.int32,
        "bit_depth": np.int32,
        "byte_size": np.int64,
        "group": tfds.features.Text(),
        "columns": tfds.features.Text(),  # JSON: column → value.
    }


def pictures(side: int, view: str) -> dict[str, Any]:
    """Returns the features of a square: image; of the lungs also lungs, whole and has_lungs.

    Opacities are painted into `lungs`, a mask. Audits see the whole radiograph, whatever the
    network sees.

    Args:
      side: side length of the square, in pixels.
      view: whole or lungs.
    """
    if view == views.WHOLE:
        return {"image": grey_square(side)}
    return {
        "image": grey_square(side),
        "lungs": grey_square(side),
        "whole": grey_square(views.WHOLE_SIDE),
        "has_lungs": np.bool_,
    }


def encode_pictures(
    image: radiograph.Radiograph | np.ndarray, side: int, view: str
) -> tuple[dict[str, Any], views.Square]:
    """Encodes a radiograph as the features of `pictures`; returns its square too.

    Args:
      image: the result of `radiograph.read`, or its pixels.
      side: side length of the square, in pixels.
      view: whole or lungs.
    """
    square = views.make_square(image, side, view)
    squares = {"image": square.pixels}
    if square.lungs is not None:
        squares["lungs"] = square.lungs * np.uint8(255)
        squares["whole"] = radiograph.standardize(image, views.WHOLE_SIDE)
    encoded: dict[str, Any] = {
        name: io.BytesIO(radiograph.encode(pixels)) for name, pixels in squares.items()
    }
    if square.lungs is not None:
        encoded["has_lungs"] = square.has_lungs
    return encoded, square


def grey_square(side: int) -> tfds.features.Image:
    """Returns the feature of a [side, side, 1] uint8 picture, stored as PNG."""
    return tfds.features.Image(shape=(side, side, 1), dtype=np.uint8, encoding_format="png")


def split_into_shards(
    entries: Sequence[Entry], count: int | None = None, length: int = SHARD_LENGTH
) -> list[Shard]:
    """Distributes files over shards of similar size, shuffled by name.

    Args:
      entries: the files of one split, in any order.
      count: number of shards; by default the fewest with at most `length` files each.
      length: maximum files per shard.
    """
    # A hash of the name is a shuffle that every machine repeats.
    shuffled = sorted(entries, key=lambda entry: hashlib.sha256(entry.filename.encode()).digest())
    count = min(count or -(-len(shuffled) // length), len(shuffled))
    # Integer division spreads the remainder, so lengths differ by one at most.
    bounds = [len(shuffled) * number // count for number in range(count + 1)]
    return [shuffled[start:end] for start, end in itertools.pairwise(bounds)]


def examples(
    shard: Shard, side: int, view: str = views.WHOLE, unreadable: dict[str, str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (filename, example in the builder's format) for each file.

    Args:
      shard: the files.
      side: side length of the squares, in pixels; 0 for the files' bytes.
      view: whole or lungs.
      unreadable: gets filename → one line for the unreadable files, which are left out; None to
        raise.

    Raises:
      UserError: a file is unreadable; the message says how to leave it out.
    """
    encode = functools.partial(_encode, side=side, view=view)
    for entry, example in parallel.map_in_order(encode, shard):
        if isinstance(example, dict):
            yield entry.filename, example
        elif unreadable is None:
            raise UserError(
                f"{example} To prepare the set without such files, add "
                f"--skip_unreadable, or the line {entry.filename} to exclude.txt beside Train/."
            )
        else:
            unreadable[entry.filename] = example


def write_by_beam(
    builder: tfds.core.ShardBasedBuilder,
    shards_by_split: dict[str, list[Shard]],
    side: int,
    view: str,
    config: tfds.download.DownloadConfig,
) -> list[splits.SplitInfo]:
    """Writes all splits in one Beam pipeline, one element for each shard.

    `ShardBasedBuilder` itself adds two transforms a shard to the graph, runs those of the first
    split again with the second's (TFDS 4.9.10), and ignores Beam's options where no runner is given
    in code.

    Args:
      builder: the builder that is being prepared.
      shards_by_split: split → shards.
      side: side length of the squares, in pixels; 0 for the files' bytes.
      view: whole or lungs.
      config: with Beam's runner and options.

    Returns:
      The information on each split, for `DatasetInfo.set_splits`.
    """
    import apache_beam as beam  # Imported lazily: takes seconds.

    info = builder.info
    serializer = example_serializer.ExampleSerializer(info.features.get_serialized_info())
    shard_writer = writer.ShardWriter(
        info.features, serializer, writer.ExampleWriter(file_format=info.file_format)
    )

    def write(job: bytes) -> None:
        path, shard = pickle.loads(zlib.decompress(job))
        shard_writer.write(examples(shard, side, view), path)

    jobs = []
    templates = {split: _filename_template(builder, split) for split in shards_by_split}
    for split, split_shards in shards_by_split.items():
        paths = templates[split].sharded_filepaths(len(split_shards))
        # Packed: Beam's own coding of lists of objects takes a minute and 240 MB for 100,000 files.
        for job in zip(paths, split_shards, strict=True):
            jobs.append(zlib.compress(pickle.dumps(job)))
    # Reshuffle spreads the shards over the workers.
    with beam.Pipeline(runner=config.beam_runner, options=config.beam_options) as pipeline:
        _ = pipeline | beam.Create(jobs) | beam.Reshuffle() | beam.Map(write)
    return [
        splits.SplitInfo(
            name=split,
            shard_lengths=[len(shard) for shard in split_shards],
            filename_template=templates[split],
            num_bytes=sum(
                path.stat().length for path in templates[split].sharded_filepaths(len(split_shards))
            ),
        )
        for split, split_shards in shards_by_split.items()
    ]


def _filename_template(builder: tfds.core.DatasetBuilder, split: str) -> Any:
    return tfds.core.ShardedFileTemplate(
        split=split,
        dataset_name=builder.name,
        data_dir=builder.data_path,
        filetype_suffix=builder.info.file_format.file_suffix,
    )


def _encode(entry: Entry, side: int, view: str) -> dict[str, Any] | str:
    """Makes the example of a file, or one line with the error."""
    try:
        image = radiograph.read(entry.path, name=entry.filename)
    except radiograph.RadiographError as error:
        return str(error)
    if side:
        encoded, _ = encode_pictures(image, side, view)
    elif image.header.format == "DICOM":
        # As PNG: the tags of a DICOM may name the patient.
        encoded = {"file": radiograph.encode(image.pixels)}
    else:
        encoded = {"file": entry.path.read_bytes()}
    labels: dict[str, Any] = {"label": entry.label}
    if entry.findings is not None:
        labels = {"label": entry.label or -1, "findings": np.array(entry.findings, np.int8)}
    return {
        **encoded,
        **dataclasses.asdict(image.header),
        **labels,
        "filename": entry.filename,
        "group": entry.group,
        "columns": json.dumps(dict(entry.columns), sort_keys=True),
    }
