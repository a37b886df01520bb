"""Building and opening sets: from a folder, a parent of it or a zip; never silently another one."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, run_command, write_set
from trainer.data import prepared
from trainer.errors import UserError

COUNTS = {
    ("Train", "covid"): 3,
    ("Train", "non_covid"): 2,
    ("Test", "covid"): 2,
    ("Test", "non_covid"): 2,
}


def opened(data_dir, **options) -> prepared.Prepared:
    return prepared.open_dataset("covid_xray", data_dir=str(data_dir), **options)


def test_a_prepared_set_keeps_what_the_files_say_of_themselves(tiny_data_dir, tiny_folder):
    data = opened(tiny_data_dir)
    assert (
        data.class_names == ("non_covid", "covid")
        and data.positive_class == "covid"
        and not data.synthetic
    )
    assert data.fingerprint["images"] == {"train": 26, "test": 14}
    rows = {
        row["filename"].decode(): row
        for row in data.builder.as_dataset("train").as_numpy_iterator()
    }
    row = rows["Train/covid/covid_001.png"]
    assert (row["width"], row["height"], row["channels"], row["bit_depth"], row["format"]) == (
        49,
        48,
        1,
        8,
        b"PNG",
    )
    assert (
        row["byte_size"] == (tiny_folder / "Train/covid/covid_001.png").stat().st_size
        and row["label"] == 1
    )
    assert row["group"] == b"Train-covid-0" and json.loads(row["columns"]) == {"view": "AP"}
    assert row["image"].shape == (500, 500, 1) and row["image"].dtype == np.uint8


def test_a_zip_and_a_parent_folder_give_the_same_set(tmp_path):
    folder = write_set(tmp_path / "parent" / "deep" / "covid_update", COUNTS)
    file = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "parent")
    from_zip = opened(tmp_path / "one", manual_dir=file)
    from_parent = opened(tmp_path / "two", manual_dir=str(tmp_path / "parent"))
    assert from_zip.fingerprint == from_parent.fingerprint
    assert opened(tmp_path / "one", manual_dir=str(folder)).fingerprint == from_zip.fingerprint


def test_other_files_than_those_prepared_are_refused(tiny_data_dir, tmp_path):
    other = write_set(tmp_path / "other", COUNTS)
    with pytest.raises(UserError, match="prepared from other files") as caught:
        opened(tiny_data_dir, manual_dir=str(other))
    assert "--data_dir" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unreadable_file_stops_the_build_and_a_second_one_succeeds(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    (folder / "Train" / "covid" / "covid_001.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match=r"covid_001\.png.*exclude\.txt") as caught:
        opened(tmp_path / "data", manual_dir=str(folder))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data" / "covid_xray").rglob("*.tfrecord*"))
    (folder / "exclude.txt").write_text("Train/covid/covid_001.png\n")
    assert opened(tmp_path / "data", manual_dir=str(folder)).fingerprint["images"] == {
        "train": 4,
        "test": 4,
    }


def test_the_original_configuration_keeps_the_bytes(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(folder / "Train" / "covid" / "photo.JPG")
    data = opened(tmp_path / "data", manual_dir=str(folder), config_name="original")
    rows = {
        row["filename"].decode(): row
        for row in data.builder.as_dataset("train").as_numpy_iterator()
    }
    assert (
        rows["Train/covid/photo.JPG"]["file"]
        == (folder / "Train" / "covid" / "photo.JPG").read_bytes()
    )
    assert rows["Train/covid/photo.JPG"]["format"] == b"JPEG"


def test_the_original_configuration_never_keeps_the_tags_of_a_dicom(tmp_path):
    from pydicom.data import get_testdata_file

    folder = write_set(tmp_path / "set", COUNTS)
    shutil.copy(
        get_testdata_file("RG1_UNCR.dcm", download=False), folder / "Train" / "covid" / "IM0001"
    )
    data = opened(tmp_path / "data", manual_dir=str(folder), config_name="original")
    rows = {
        row["filename"].decode(): row
        for row in data.builder.as_dataset("train").as_numpy_iterator()
    }
    row = rows["Train/covid/IM0001"]
    assert (
        row["format"] == b"DICOM"
        and row["file"].startswith(b"\x89PNG")
        and b"DICM" not in row["file"]
    )


def test_pips_datasets_package_does_not_get_in_the_way(tiny_data_dir, tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("name = 'the installed one'\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import datasets\n"
        "from trainer.data import prepared; data = prepared.open_dataset('covid_xray', "
        f"data_dir={str(tiny_data_dir)!r})\n"
        "assert datasets.name == 'the installed one' and data.name == 'covid_xray'"
    )
    assert run_command("-c", code).returncode == 0


def test_phantoms_are_prepared_in_any_number_and_called_synthetic(tmp_path):
    data = prepared.open_dataset("phantom", data_dir=str(tmp_path), phantom_train=8, phantom_test=4)
    assert (
        data.synthetic
        and data.class_names == ("clear", "opacities")
        and data.positive_class == "opacities"
    )
    assert data.fingerprint["images"] == {"train": 8, "test": 4} and "SYNTHETIC" in data.reason
    rows = list(data.builder.as_dataset("test").as_numpy_iterator())
    assert sum(row["label"] for row in rows) == 2
    for row in rows:
        assert (
            bool(row["lesion_mask"].any()) == bool(row["label"])
            and 0.1 < (row["lung_mask"] > 0).mean() < 0.5
        )
    again = prepared.open_dataset(
        "phantom", data_dir=str(tmp_path), phantom_train=8, phantom_test=4
    )
    assert again.fingerprint == data.fingerprint


def test_a_set_given_by_hand_never_falls_back(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        prepared.open_dataset("auto", data_dir=str(tmp_path), manual_dir=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="goes with --dataset=covid_xray"):
        prepared.open_dataset("phantom", data_dir=str(tmp_path), manual_dir=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["covid_xray", "phantom"])
def test_tfds_build_works_from_the_root(name, tiny_folder, tmp_path):
    (tmp_path / "pip" / "datasets").mkdir(
        parents=True
    )  # Pip's package of that name stays out of the way.
    (tmp_path / "pip" / "datasets" / "__init__.py").write_text("raise ImportError('not this one')")
    file = shutil.make_archive(str(tmp_path / "archive"), "zip", tiny_folder)
    manual = ["--manual_dir", file] if name == "covid_xray" else []
    config = ["--config", "gray500"]
    done = run_command(
        "-m",
        "tensorflow_datasets.scripts.cli.main",
        "build",
        f"datasets/{name}",
        "--data_dir",
        str(tmp_path),
        *config,
        *manual,
        PYTHONPATH=os.pathsep.join([str(tmp_path / "pip"), str(ROOT)]),
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / name / "gray500").glob("*/*.tfrecord*")), sys.executable


@pytest.mark.slow
def test_the_sample_of_real_radiographs_is_built(sample_dir, tmp_path):
    data = opened(tmp_path, manual_dir=str(sample_dir))
    assert data.fingerprint["images"] == {"train": 421, "test": 219}
    counts = {}
    for split in ("train", "test"):
        rows = list(data.builder.as_dataset(split).as_numpy_iterator())
        for label in (0, 1):
            mine = [row for row in rows if row["label"] == label]
            counts[split, label] = len(mine), len({row["group"] for row in mine})
    assert counts == {
        ("train", 1): (218, 82),
        ("train", 0): (203, 148),
        ("test", 1): (100, 36),
        ("test", 0): (119, 89),
    }
