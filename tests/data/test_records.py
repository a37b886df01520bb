"""Tests of records: equal from a folder and from a prepared set, with unreadable files listed."""

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.data.sets import open_set
from trainer.config import TrainConfig
from trainer.data import any_source, image_folder, records
from trainer.errors import UserError

CLASSES = ("non_covid", "covid")


@pytest.fixture(scope="module")
def from_files(tiny_folder) -> tuple[records.Records, list[str]]:
    source = image_folder.find(tiny_folder, ("Train", "Test"), CLASSES)
    return records.from_folder(source.splits["Test"], CLASSES, 500)


def test_folder_gives_the_records_of_the_prepared_set(from_files, tiny_data_dir):
    # The other path: TFRecord files, decoded by TFDS.
    expected = records.read(open_set(tiny_data_dir).builder, "test")
    test, unreadable = from_files
    assert unreadable == []
    for name in ("images", "labels", "groups", "filenames"):
        np.testing.assert_array_equal(getattr(test, name), getattr(expected, name))
    assert test.columns.keys() == expected.columns.keys() == {"view"}
    assert list(test.header) == list(expected.header) == list(records.HEADER)
    for name in records.HEADER:
        np.testing.assert_array_equal(test.header[name], expected.header[name])
        assert test.header[name].dtype == expected.header[name].dtype


def test_files_of_a_set_in_any_layout_have_its_labels(tmp_path):
    folder = ROOT / "datasets" / "radiographs" / "dummy_data"
    source = any_source.find(folder, tmp_path, TrainConfig())
    images, _ = records.from_folder(source.splits["test"], source.class_names, side=64)
    names = [source.class_names[label] for label in images.labels]
    assert names == ["normal", "pneumonia", "effusion"]


def test_unreadable_files_are_listed_and_the_others_read(tmp_path):
    folder = tmp_path / "x-rays"
    folder.mkdir()
    # The first bytes of a PNG and nothing more.
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    with pytest.raises(UserError, match="no image could be read"):
        records.from_folder(image_folder.find_loose(folder), ("",), 500)
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(folder / "fine.png")
    readable, unreadable = records.from_folder(image_folder.find_loose(folder), ("",), 500)
    assert len(readable) == 1
    assert len(unreadable) == 1
    assert "broken.png" in unreadable[0]


def test_subset_is_taken_from_every_field(from_files):
    test, _ = from_files
    subset = test.take(np.array([3, 1]))
    assert len(subset) == len(subset.images) == len(subset.columns["view"]) == 2
    assert list(subset.filenames) == [test.filenames[3], test.filenames[1]]
    np.testing.assert_array_equal(subset.images, test.images[[3, 1]])
    np.testing.assert_array_equal(subset.header["width"], test.header["width"][[3, 1]])
