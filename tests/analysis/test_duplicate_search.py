"""The search for near-duplicates finds copies of every kind and no other films."""

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from trainer.analysis import duplicate_features, duplicate_search
from trainer.analysis.duplicates import Pair
from trainer.data import image_folder, phantom, records

SIDE = 500


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    """Draws twelve synthetic radiographs, [12, 500, 500, 1]."""
    return np.stack([phantom.draw(3, index, index % 2).image for index in range(12)])[..., None]


def square(image: np.ndarray) -> np.ndarray:
    """Stretches an image to [500, 500, 1]."""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., None]


def find_pairs(
    images: list[np.ndarray], heights: list[int] | None = None, searched: int = 0
) -> list[Pair]:
    """Searches images named by their index; their originals are squares without `heights`."""
    filenames = [str(index) for index in range(len(images))]
    sides = [SIDE] * len(images)
    features = duplicate_search.extract(images, sides, heights or sides)
    return duplicate_search.find_pairs(filenames, features, searched)


def indices(pairs: list[Pair]) -> list[tuple[int, int]]:
    return [(int(pair.first), int(pair.second)) for pair in pairs]


def compressed(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


COPIES = {
    "compressed": compressed,
    "scaled": lambda film: cv2.resize(film, (270, 270), interpolation=cv2.INTER_AREA),
    "cropped": lambda film: film[40:470, 30:460],
    "brighter": lambda film: np.clip(film * 0.8 + 40, 0, 255).astype(np.uint8),
    "mirrored": lambda film: np.ascontiguousarray(film[:, ::-1]),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_and_nothing_else(films, kind):
    copies = [square(COPIES[kind](films[index, ..., 0])) for index in (2, 7)]
    pairs = find_pairs([*films, *copies])
    assert indices(pairs) == [(2, 12), (7, 13)]
    assert all(pair.mirrored == (kind == "mirrored") for pair in pairs)


def test_the_sizes_of_the_originals_undo_the_stretching(films):
    """A crop that is no square is stretched otherwise than its original."""
    crop = films[4, 50:450, :, 0]
    pairs = find_pairs([*films, square(crop)], [SIDE] * 12 + [400])
    assert indices(pairs) == [(4, 12)]


def test_the_order_of_the_images_changes_nothing(films):
    cropped = square(COPIES["cropped"](films[0, ..., 0]))
    mirrored = square(COPIES["mirrored"](films[5, ..., 0]))
    images = [*films, cropped, mirrored]
    order = np.random.default_rng(0).permutation(len(images))  # New position to old.
    pairs = find_pairs(images)
    assert pairs == find_pairs(images)
    shuffled = indices(find_pairs([images[index] for index in order]))
    original = {frozenset((int(order[first]), int(order[second]))) for first, second in shuffled}
    assert {frozenset(pair) for pair in indices(pairs)} == original


def test_pairs_among_images_searched_before_are_left_out(films):
    copies = [square(COPIES["scaled"](films[index, ..., 0])) for index in (2, 7)]
    images = [films[2], *copies, *films[3:]]
    assert indices(find_pairs(images)) == [(0, 1), (2, 7)]
    assert indices(find_pairs(images, searched=2)) == [(2, 7)]
    assert find_pairs(images, searched=8) == []


def test_stored_features_are_those_that_were_saved(films, tmp_path):
    blank = np.full((SIDE, SIDE, 1), 90, np.uint8)
    images = [films[0], blank, films[1]]
    extracted = duplicate_search.extract(images, [SIDE] * 3, [SIDE] * 3)
    path = tmp_path / "features.npz"
    assert duplicate_features.load(path) is None
    duplicate_features.save(path, dict(zip("abc", extracted, strict=True)))
    loaded = duplicate_features.load(path)
    assert list(loaded) == ["a", "b", "c"]
    for before, after in zip(extracted, loaded.values(), strict=True):
        np.testing.assert_array_equal(before.points, after.points)
        np.testing.assert_array_equal(before.descriptors, after.descriptors)
    # Cut off, or of another version: they are extracted again.
    path.write_bytes(path.read_bytes()[:1000])
    assert duplicate_features.load(path) is None


@pytest.mark.parametrize("count", [0, 1, 3])
def test_blank_images_and_few_images_are_no_copies(count):
    assert find_pairs([np.full((SIDE, SIDE, 1), 90, np.uint8)] * count) == []


@pytest.mark.slow
def test_all_copies_of_real_radiographs_are_found_and_no_pair_between_hospitals(sample_dir):
    folder = sample_dir.parent / "near_duplicates"
    if not folder.is_dir():
        pytest.skip(f"the copies of real radiographs are not at {folder}")
    classes = ("non_covid", "covid")
    entries = image_folder.find(sample_dir, ("Train", "Test"), classes).splits
    splits = [records.from_folder(entries[split], classes, 500)[0] for split in ("Train", "Test")]
    splits.append(records.from_folder(image_folder.find_loose(folder), ("",), 500)[0])
    filenames = np.concatenate([split.filenames for split in splits])
    groups = np.concatenate([split.groups for split in splits])
    features = duplicate_search.extract(
        np.concatenate([split.images for split in splits]),
        np.concatenate([split.header["width"] for split in splits]),
        np.concatenate([split.header["height"] for split in splits]),
    )
    pairs = duplicate_search.find_pairs(filenames.tolist(), features)
    with open(folder / "pairs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = {frozenset((row["original"], f"near_duplicates/{row['copy']}")) for row in rows}
    assert expected <= {frozenset((pair.first, pair.second)) for pair in pairs}
    # A copy belongs to the hospital of its original; groups start with its name.
    group_of = dict(zip(filenames.tolist(), groups.tolist(), strict=True))
    original_group = {Path(row["copy"]).name: group_of[row["original"]] for row in rows}

    def hospital(filename: str) -> str:
        group = original_group.get(Path(filename).name, group_of[filename])
        return group.split(":")[0]

    assert all(hospital(pair.first) == hospital(pair.second) for pair in pairs)
