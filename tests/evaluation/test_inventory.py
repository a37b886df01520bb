"""The inventory of a set: what is counted, and which families of names belong to one class."""

import json

import numpy as np
import pytest

from trainer.data import image_folder, records
from trainer.evaluation import inventory


@pytest.fixture(scope="module")
def parts(tiny_folder):
    found = image_folder.find(tiny_folder, ("Train", "Test"), ("non_covid", "covid"))
    return {
        name: records.from_folder(found.splits[split], ("non_covid", "covid"))[0]
        for name, split in (("train", "Train"), ("test", "Test"))
    }


@pytest.mark.parametrize(
    "name, family",
    [
        ("Train/covid/covid_012.png", "covid_#.png"),
        ("a/IM 7 (3).jpg", "IM # (#).jpg"),
        ("x/00870a9c.png", "@.png"),
        ("x/3f2504e0-4f89-11d3-9a0c-0305e82c3301.dcm", "@.dcm"),
        ("facade.png", "facade.png"),
        ("1.2.840.10008.dcm", "#.#.#.#.dcm"),
    ],
)
def test_names_are_reduced_to_their_family(name, family):
    assert inventory.family_of(name) == family


def test_everything_is_counted_and_can_be_written_down(parts):
    found = inventory.take(parts, ("non_covid", "covid"), ["x.png is truncated"])
    assert (
        found["classes"]["train"]["covid"]["images"] == 14
        and found["classes"]["train"]["covid"]["groups"] == 7
    )
    assert found["classes"]["test"]["non_covid"]["formats"] == {"PNG": 8}
    assert {row["family"]: (row["class"], row["images"]) for row in found["families"]} == {
        "covid_#.png": ("covid", 20),
        "non_covid_#.png": ("non_covid", 20),
    }
    assert json.loads(json.dumps(found)) == found
    assert any("x.png is truncated" in line for line in inventory.lines(found))


def test_families_of_both_classes_and_small_ones_are_not_named(parts):
    train = parts["train"]
    same = records.Records(
        **{**vars(train), "filenames": np.array([f"img{i}.png" for i in range(len(train))])}
    )
    assert inventory.families({"train": same}, ("non_covid", "covid")) == []
    assert inventory.families({"train": train.take(np.arange(3))}, ("non_covid", "covid")) == []


def test_an_empty_class_is_said_to_be_empty(parts):
    only = parts["train"].take(parts["train"].labels == 1)
    assert "train/non_covid: no image" in inventory.lines(
        inventory.take({"train": only}, ("non_covid", "covid"))
    )
