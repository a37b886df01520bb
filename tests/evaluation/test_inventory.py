"""The inventory of a set: counts of images, and name families of one class."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from trainer.data import image_folder, records
from trainer.data.records import Records
from trainer.evaluation import inventory

CLASSES = ("non_covid", "covid")


@pytest.fixture(scope="module")
def splits(tiny_folder: Path) -> dict[str, Records]:
    """Both splits of the tiny set."""
    folder = image_folder.find(tiny_folder, ("Train", "Test"), CLASSES)
    return {
        name.lower(): records.from_folder(folder.splits[name], CLASSES, 500)[0]
        for name in ("Train", "Test")
    }


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Train/covid/covid_012.png", "covid_#.png"),
        ("a/IM 7 (3).jpg", "IM # (#).jpg"),
        # Hexadecimal words and UUIDs.
        ("x/00870a9c.png", "@.png"),
        ("x/3f2504e0-4f89-11d3-9a0c-0305e82c3301.dcm", "@.dcm"),
        # A word of hexadecimal letters only is a word.
        ("facade.png", "facade.png"),
        ("1.2.840.10008.dcm", "#.#.#.#.dcm"),
    ],
)
def test_names_are_reduced_to_their_family(name: str, family: str) -> None:
    assert inventory.family_of(name) == family


def test_all_images_are_counted_in_values_that_json_can_hold(splits: dict[str, Records]) -> None:
    counts = inventory.count_images(splits, CLASSES, ["x.png is truncated"])
    covid = counts["classes"]["train"]["covid"]
    assert covid["images"] == 14
    assert covid["groups"] == 7
    assert counts["classes"]["test"]["non_covid"]["formats"] == {"PNG": 8}
    families = {row["family"]: (row["class"], row["images"]) for row in counts["families"]}
    assert families == {"covid_#.png": ("covid", 20), "non_covid_#.png": ("non_covid", 20)}
    assert json.loads(json.dumps(counts)) == counts
    assert any("x.png is truncated" in line for line in inventory.lines(counts))


def test_families_of_both_classes_and_small_families_are_left_out(
    splits: dict[str, Records],
) -> None:
    train = splits["train"]
    # The same pattern for both classes.
    names = np.array([f"img{number}.png" for number in range(len(train))])
    renamed = dataclasses.replace(train, filenames=names)
    assert inventory.families({"train": renamed}, CLASSES) == []
    # Three images are too few for a family.
    assert inventory.families({"train": train.take(np.arange(3))}, CLASSES) == []


def test_an_empty_class_is_reported(splits: dict[str, Records]) -> None:
    train = splits["train"]
    covid = train.take(train.labels == 1)  # A split with one class.
    counts = inventory.count_images({"train": covid}, CLASSES)
    assert "train/non_covid: no image" in inventory.lines(counts)
