"""Near-duplicates: copies of every kind are found, other films are not, and no order or thread changes the result."""

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.analysis import duplicates
from trainer.analysis.duplicates import Pair
from trainer.data import image_folder, phantom, records


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    """Twelve synthetic radiographs, [12, 500, 500, 1]."""
    return np.stack([phantom.draw(3, index, index % 2).image for index in range(12)])[..., None]


def square(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (500, 500), interpolation=cv2.INTER_AREA)[..., None]


def sizes(images) -> tuple[list[int], list[int]]:
    return [500] * len(images), [500] * len(images)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


COPIES = {
    "compressed": lambda film: compressed(film, 30),
    "scaled": lambda film: cv2.resize(film, (270, 270), interpolation=cv2.INTER_AREA),
    "cropped": lambda film: film[40:470, 30:460],
    "brighter": lambda film: np.clip(film * 0.8 + 40, 0, 255).astype(np.uint8),
    "mirrored": lambda film: np.ascontiguousarray(film[:, ::-1]),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_and_nothing_else(films, kind):
    copies = [square(COPIES[kind](films[index, ..., 0])) for index in (2, 7)]
    found = duplicates.find([*films, *copies], *sizes([*films, *copies]))
    assert {(pair.first, pair.second) for pair in found} == {(2, 12), (7, 13)}
    assert all(pair.mirrored == (kind == "mirrored") for pair in found)


def test_the_original_sizes_undo_the_stretching(films):
    """A crop that is no square comes back stretched otherwise than its original."""
    crop = films[4, 50:450, :, 0]
    found = duplicates.find([*films, square(crop)], [500] * 13, [500] * 12 + [400])
    assert [(pair.first, pair.second) for pair in found] == [(4, 12)]


def test_the_order_of_the_images_changes_nothing_but_the_places(films):
    images = [
        *films,
        square(COPIES["cropped"](films[0, ..., 0])),
        square(COPIES["mirrored"](films[5, ..., 0])),
    ]
    order = np.random.default_rng(0).permutation(len(images))
    straight = duplicates.find(images, *sizes(images))
    shuffled = duplicates.find([images[index] for index in order], *sizes(images))
    assert straight == duplicates.find(images, *sizes(images))
    assert {frozenset((pair.first, pair.second)) for pair in straight} == {
        frozenset((int(order[pair.first]), int(order[pair.second]))) for pair in shuffled
    }


def test_blank_images_and_few_images_are_no_copies_of_anything():
    blank = np.full((500, 500, 1), 90, np.uint8)
    assert duplicates.find([], [], []) == []
    assert duplicates.find([blank], [500], [500]) == []
    assert duplicates.find([blank, blank, blank], [500] * 3, [500] * 3) == []


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=10), st.data())
@settings(max_examples=60)
def test_joining_is_transitive_and_named_after_the_first(groups, data):
    places = st.integers(0, len(groups) - 1)
    pairs = [
        Pair(*sorted(edge), 99, False)
        for edge in data.draw(st.lists(st.tuples(places, places), max_size=6))
    ]
    found = duplicates.join_groups(np.array(groups), pairs)
    for pair in pairs:
        assert found[pair.first] == found[pair.second]
    for index, group in enumerate(groups):
        assert found[index] <= group and found[index] in groups
        assert {found[other] for other, name in enumerate(groups) if name == group} == {
            found[index]
        }
    if not pairs:
        assert list(found) == groups


def test_the_sheet_is_drawn(films, tmp_path):
    path = tmp_path / "sheet.png"
    pairs = [Pair(0, 1, 99, False), Pair(2, 3, 60, True)]
    duplicates.contact_sheet(
        films, np.array([f"film {i}" for i in range(12)]), pairs, path, "2 pairs"
    )
    assert Image.open(path).width > 300


@pytest.mark.slow
def test_all_copies_of_real_radiographs_are_found_and_no_pair_between_hospitals(sample_dir):
    folder = sample_dir.parent / "near_duplicates"
    if not folder.is_dir():
        pytest.skip(f"the copies of real radiographs are not at {folder}")
    found = image_folder.find(sample_dir, ("Train", "Test"), ("non_covid", "covid"))
    parts = [
        records.from_folder(found.splits[split], ("non_covid", "covid"))[0]
        for split in ("Train", "Test")
    ]
    parts.append(records.from_folder(image_folder.find_loose(folder), ("",))[0])
    names, groups = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("filenames", "groups")
    )
    width, height = (
        np.concatenate([part.header[name] for part in parts]) for name in ("width", "height")
    )
    pairs = duplicates.find(np.concatenate([part.images for part in parts]), width, height)
    with open(folder / "pairs.csv", newline="") as file:
        listed = {
            frozenset((row["original"], f"near_duplicates/{row['copy']}"))
            for row in csv.DictReader(file)
        }
    assert listed <= {frozenset((names[pair.first], names[pair.second])) for pair in pairs}
    original = {
        Path(copy).name: groups[list(names).index(name)]
        for name, copy in map(sorted, map(tuple, listed))
    }
    hospital = [
        original.get(Path(name).name, group).split(":")[0]
        for name, group in zip(names, groups, strict=True)
    ]
    assert all(hospital[pair.first] == hospital[pair.second] for pair in pairs)
