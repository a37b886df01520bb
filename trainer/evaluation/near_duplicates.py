"""The search for near-duplicates in a prepared set, and of other images in it.

near_duplicates = find_in_dataset(data)
groups = near_duplicates.merge_groups(filenames, groups)

The pairs and the local features of train are stored beside the set.
"""

import contextlib
import csv
from collections.abc import Iterable
from pathlib import Path

from trainer.analysis import duplicate_features, duplicate_search
from trainer.analysis.duplicate_features import ImageFeatures
from trainer.analysis.duplicate_search import Features
from trainer.analysis.duplicates import NearDuplicates, Pair
from trainer.data import records
from trainer.data.prepared import PreparedDataset
from trainer.data.records import Records

_FILE = "near_duplicates.csv"
_TRAIN_FEATURES = "near_duplicates_train.npz"
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
    path = _path(data)
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
    features = [
        _features_of_train(data) if split == "train" else _extract(_read_whole(data, split))
        for split in splits
    ]
    pairs = duplicate_search.find_pairs(*_join(features))
    # A read-only data_dir is no error: the next run searches again.
    with contextlib.suppress(OSError):
        _write(path, pairs)
    return _searched(pairs)


def find_in_records(splits: Iterable[Records]) -> NearDuplicates:
    """Searches within and across splits, by pixels alone."""
    return _searched(duplicate_search.find_pairs(*_join([_extract(split) for split in splits])))


def find_beside_train(data: PreparedDataset, external: Records) -> tuple[NearDuplicates, set[str]]:
    """Searches other images among themselves and for copies of training images.

    Args:
      data: the set of the training images.
      external: the other images, as whole radiographs.

    Returns:
      The near-duplicates, and the filenames of train.
    """
    train = _features_of_train(data)
    # Two copies may be linked by images of the set.
    path = _path(data)
    pairs = _read(path) if path.exists() else []
    names, features = _join([train, _extract(external)])
    pairs += duplicate_search.find_pairs(names, features, searched=len(train))
    return _searched(pairs), set(train)


def _path(data: PreparedDataset) -> Path:
    return Path(str(data.builder.data_path)) / _FILE


def _features_of_train(data: PreparedDataset) -> ImageFeatures:
    """Reads the stored features of train; extracts and stores them if there are none."""
    path = Path(str(data.builder.data_path)) / _TRAIN_FEATURES
    features = duplicate_features.load(path)
    if features is None:
        features = _extract(_read_whole(data, "train"))
        with contextlib.suppress(OSError):
            duplicate_features.save(path, features)
    return features


def _read_whole(data: PreparedDataset, split: str) -> Records:
    return records.read(data.builder, split, masks=False).whole_radiographs()


def _extract(images: Records) -> ImageFeatures:
    header = images.header
    extracted = duplicate_search.extract(images.images, header["width"], header["height"])
    return dict(zip(images.filenames.tolist(), extracted, strict=True))


def _join(splits: list[ImageFeatures]) -> tuple[list[str], list[Features]]:
    """Joins the filenames and the features of splits."""
    names = [name for split in splits for name in split]
    return names, [features for split in splits for features in split.values()]


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
