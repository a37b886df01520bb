"""Records: from a folder as from a prepared set, with what cannot be read listed."""

from pathlib import Path

import numpy as np
import pytest

from trainer.data import image_folder, prepared, records
from trainer.errors import UserError


@pytest.fixture(scope="module")
def from_files(tiny_folder):
    found = image_folder.find(tiny_folder, ("Train", "Test"), ("non_covid", "covid"))
    return records.from_folder(found.splits["Test"], ("non_covid", "covid"))


def test_a_folder_read_as_it_lies_gives_what_the_prepared_set_holds(from_files, tiny_data_dir):
    data = prepared.open_dataset("covid_xray", data_dir=str(tiny_data_dir))
    expected, (found, unreadable) = records.read(data.builder, "test"), from_files
    assert unreadable == []
    for name in ("images", "labels", "groups", "filenames"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.columns.keys() == expected.columns.keys() == {"view"}
    for name in records.HEADER:
        np.testing.assert_array_equal(found.header[name], expected.header[name])


def test_files_that_cannot_be_read_are_listed_and_the_others_kept(tmp_path):
    folder = tmp_path / "x-rays"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    with pytest.raises(UserError, match="no image could be read"):
        records.from_folder(image_folder.find_loose(folder), ("",))
    from PIL import Image

    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(folder / "fine.png")
    found, unreadable = records.from_folder(image_folder.find_loose(folder), ("",))
    assert len(found) == 1 and len(unreadable) == 1 and "broken.png" in unreadable[0]


def test_a_part_is_taken_from_every_field(from_files):
    found = from_files[0].take(np.array([3, 1]))
    assert len(found) == 2 and found.images.shape[0] == 2 and len(found.columns["view"]) == 2
    assert list(found.filenames) == [from_files[0].filenames[3], from_files[0].filenames[1]]


def test_a_set_without_splits_is_found_by_its_classes(tiny_folder):
    found = image_folder.find_classes(tiny_folder / "Test", ("non_covid", "covid"))
    assert len(found.splits["all"]) == 14 and {entry.label for entry in found.splits["all"]} == {
        "non_covid",
        "covid",
    }


def test_a_folder_without_images_is_refused_in_one_line(tmp_path):
    for place in (tmp_path, tmp_path / "none", Path(__file__)):
        with pytest.raises(UserError, match="images"):
            image_folder.find_loose(place)
