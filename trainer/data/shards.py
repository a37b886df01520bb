"""Writes radiographs into the records of a set, shard by shard: here, or by Apache Beam on as many machines as it has.

A shard is all that is held at a time, so that memory does not grow with the set. TFDS keeps up to a gigabyte to shuffle it;
here the files are shuffled before they are read. Beam's workers need this package, and the files under the same path.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer, split_builder, splits, writer

from trainer.data import image_folder, radiograph
from trainer.errors import UserError

LENGTH = 512  # Files a shard: 80 MB of squares of 500 pixels.
_READERS = 2
_AHEAD = 16

Part = Sequence[image_folder.Entry]


def parts_of(entries: Part, count: int | None = None, length: int = LENGTH) -> list[Part]:
    """Deals files out to shards of about one size, in an order that their names decide and nothing else.

    Args:
      entries: of one split, in any order.
      count: of shards; by default as many as hold `length` files or fewer.
      length: of a shard.
    """
    shuffled = sorted(entries, key=lambda entry: hashlib.sha256(entry.filename.encode()).digest())
    count = min(count or -(-len(shuffled) // length), len(shuffled))
    bounds = [len(shuffled) * number // count for number in range(count + 1)]
    return [shuffled[start:end] for start, end in itertools.pairwise(bounds)]


def examples(part: Part, side: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (filename, example as the builder declares it) of each file; squares of a side, or at 0 the files' bytes.

    Raises:
      UserError: a file cannot be read; the message says how to leave it out.
    """
    encode = functools.partial(_squared, side=side) if side else _untouched
    with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
        for entry, (picture, header) in in_order(readers, encode, part):
            yield (
                entry.filename,
                {
                    **picture,
                    **dataclasses.asdict(header),
                    "label": entry.label,
                    "filename": entry.filename,
                    "group": entry.group,
                    "columns": json.dumps(dict(entry.columns), sort_keys=True),
                },
            )


def in_order(
    readers: concurrent.futures.Executor, encode: Callable, entries: Sequence
) -> Iterator[tuple]:
    """Encodes a few files ahead (Pillow frees the interpreter while it decodes), and yields (entry, result) in order."""
    waiting: collections.deque = collections.deque()
    for entry in itertools.chain(entries, [None] * _AHEAD):
        if entry is not None:
            waiting.append((entry, readers.submit(encode, entry)))
        if waiting and (entry is None or len(waiting) > _AHEAD):
            done, result = waiting.popleft()
            yield done, result.result()


def write_by_beam(
    builder: tfds.core.ShardBasedBuilder,
    parts: dict[str, list[Part]],
    side: int,
    config: tfds.download.DownloadConfig,
) -> list[splits.SplitInfo]:
    """Writes every shard of every split in one pipeline: each is an element of it, whatever their number.

    `ShardBasedBuilder` itself adds two transforms a shard to the graph, runs those of the first split again with the second's
    (TFDS 4.9.10), and takes no notice of Beam's options where no runner is given in code.
    """
    import apache_beam as beam  # Takes seconds, and only who asks for it waits.

    serializer = example_serializer.ExampleSerializer(builder.info.features.get_serialized_info())
    written = writer.ShardWriter(builder.info.features, serializer, builder._example_writer())
    templates = {split: builder._get_filename_template(split_name=split) for split in parts}
    paths = {
        split: [
            templates[split].sharded_filepath(shard_index=number, num_shards=len(dealt))
            for number in range(len(dealt))
        ]
        for split, dealt in parts.items()
    }
    # Packed: Beam's own way with lists of objects takes a minute and 240 MB for 100,000 files.
    jobs = [
        zlib.compress(pickle.dumps(job))
        for split, dealt in parts.items()
        for job in zip(paths[split], dealt, strict=True)
    ]

    def write(job: bytes) -> None:
        path, part = pickle.loads(zlib.decompress(job))
        written.write(examples(part, side), path)

    with beam.Pipeline(runner=config.beam_runner, options=config.beam_options) as pipeline:
        _ = pipeline | beam.Create(jobs) | beam.Reshuffle() | beam.Map(write)
    return [
        splits.SplitInfo(
            name=split,
            shard_lengths=[len(part) for part in dealt],
            filename_template=templates[split],
            num_bytes=sum(path.stat().length for path in paths[split]),
        )
        for split, dealt in parts.items()
    ]


def generators(
    parts: dict[str, list[Part]], side: int
) -> dict[str, list[split_builder.ExampleGeneratorFn]]:
    """What `ShardBasedBuilder` asks for: a function for each shard of each split that yields its examples."""
    return {
        split: [functools.partial(examples, part, side) for part in dealt]
        for split, dealt in parts.items()
    }


def _squared(entry: image_folder.Entry, side: int) -> tuple[dict[str, Any], radiograph.Header]:
    found = _read(entry)
    return {
        "image": io.BytesIO(radiograph.encode(radiograph.standardize(found, side)))
    }, found.header


def _untouched(entry: image_folder.Entry) -> tuple[dict[str, Any], radiograph.Header]:
    found = _read(entry)
    if found.header.format == "DICOM":
        return {"file": radiograph.encode(found.pixels)}, found.header
    return {"file": entry.path.read_bytes()}, found.header


def _read(entry: image_folder.Entry) -> radiograph.Radiograph:
    try:
        return radiograph.read(entry.path, name=str(entry.path))
    except radiograph.RadiographError as error:
        raise UserError(
            f"{error} To build without it, add the line {entry.filename} to exclude.txt beside "
            "Train/."
        ) from error
