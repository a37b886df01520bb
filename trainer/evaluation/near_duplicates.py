"""The search for near-duplicates in a prepared set, stored beside it.

near_duplicates = find_in_dataset(data)
groups = near_duplicates.merge_groups(filenames, groups)
"""

import contextlib
import csv
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trainer.analysis import duplicate_search
from trainer.analysis.duplicates import NearDuplicates, Pair
from trainer.data import records
from trainer.data.prepared import PreparedDataset
from trainer.data.records import Records

_FILE = "near_duplicates.csv"
# trainer.audit searches larger sets; a training run should not wait for an hour.
_MAX_IMAGES = 20_000


def find_in_dataset(
    data: PreparedDataset, search: bool = True, thorough: bool = False
) -> NearDuplicates:
    """Finds the near-duplicates of a prepared set, once.

    Args:
      data: the set.
      search: False skips the search.
      thorough: searches synthetic and very large sets too.
    """
    total = sum(data.fingerprint["images"].values())
    path = Path(str(data.builder.data_path)) / _FILE
    if not search:
        return _skipped("near-duplicates were not searched (--nogroup_copies)")
    # The search depends on the images alone, so every run on this set shares it.
    if path.exists():
        return _searched(_read(path))
    if data.synthetic and not thorough:
        return _skipped("near-duplicates were not searched: each synthetic image is drawn alone")
    if total > _MAX_IMAGES and not thorough:
        return _skipped(
            f"near-duplicates were not searched among {total} images; trainer.audit does so, once"
        )
    splits = sorted(data.fingerprint["images"])
    near_duplicates = find_in_records(
        records.read(data.builder, split, masks=False).whole_radiographs() for split in splits
    )
    # A read-only data_dir is no error: the next run searches again.
    with contextlib.suppress(OSError):
        _write(path, near_duplicates.pairs)
    return near_duplicates


def find_in_records(splits: Iterable[Records]) -> NearDuplicates:
    """Searches within and across splits, by pixels alone."""
    splits = list(splits)
    pairs = duplicate_search.find_pairs(
        np.concatenate([split.filenames for split in splits]).tolist(),
        # One image at a time: joined they would be in memory twice.
        itertools.chain.from_iterable(split.images for split in splits),
        np.concatenate([split.header["width"] for split in splits]),
        np.concatenate([split.header["height"] for split in splits]),
    )
    return _searched(pairs)


def _searched(pairs: list[Pair]) -> NearDuplicates:
    message = f"{len(pairs)} pairs of near-duplicates; each cluster counts as one group"
    return NearDuplicates(tuple(pairs), True, message)


def _skipped(message: str) -> NearDuplicates:
    return NearDuplicates((), False, message)


def _write(path: Path, pairs: Iterable[Pair]) -> None:
    # Written beside and renamed: a run that is killed leaves no half file.
    partial = path.with_suffix(".part")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "inliers", "mirrored"])
        for pair in pairs:
            writer.writerow([pair.first, pair.second, pair.inliers, int(pair.mirrored)])
    partial.replace(path)


def _read(path: Path) -> list[Pair]:
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Pair(row["first"], row["second"], int(row["inliers"]), row["mirrored"] == "1")
            for row in csv.DictReader(file)
        ]
