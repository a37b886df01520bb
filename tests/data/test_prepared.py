"""Tests of building and opening sets: from a folder, a parent of it or a zip; never another set."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from tests.conftest import ROOT, run_command, write_set
from tests.data.sets import COUNTS, build_originals, open_set, read_rows
from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.errors import UserError


def test_prepared_set_records_the_properties_of_the_files(tiny_data_dir, tiny_folder):
    data = open_set(tiny_data_dir)
    assert data.class_names == ("non_covid", "covid")
    assert data.positive_class == "covid"
    assert not data.synthetic
    assert data.side == 500
    assert data.fingerprint["images"] == {"train": 26, "test": 14}
    name = "Train/covid/covid_001.png"
    row = read_rows(data.builder, ("train",))[name]
    assert (row["width"], row["height"]) == (49, 48)
    assert (row["channels"], row["bit_depth"], row["format"]) == (1, 8, b"PNG")
    assert row["byte_size"] == (tiny_folder / name).stat().st_size
    assert row["label"] == 1
    assert row["group"] == b"Train-covid-0"
    assert json.loads(row["columns"]) == {"view": "AP"}
    assert row["image"].shape == (500, 500, 1)
    assert row["image"].dtype == np.uint8


def test_zip_and_parent_folder_give_the_same_set(tmp_path):
    parent = tmp_path / "parent"
    folder = write_set(parent / "deep" / "covid_update", COUNTS)
    file = shutil.make_archive(str(tmp_path / "archive"), "zip", parent)
    from_zip = open_set(tmp_path / "one", manual_dir=file)
    from_parent = open_set(tmp_path / "two", manual_dir=parent)
    assert from_zip.fingerprint == from_parent.fingerprint
    # The folder itself belongs to the set built from the zip.
    assert open_set(tmp_path / "one", manual_dir=folder).fingerprint == from_zip.fingerprint


def test_other_files_than_the_prepared_ones_are_rejected(tiny_data_dir, tmp_path):
    other = write_set(tmp_path / "other", COUNTS)
    with pytest.raises(UserError, match="prepared from other files") as caught:
        open_set(tiny_data_dir, manual_dir=other)
    assert "--data_dir" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_file_stops_the_build_and_a_second_build_succeeds(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    data_dir = tmp_path / "data"
    (folder / "Train" / "covid" / "covid_001.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match=r"covid_001\.png.*exclude\.txt") as caught:
        open_set(data_dir, manual_dir=folder)
    assert "\n" not in str(caught.value)
    # A failed build leaves no records.
    assert not list((data_dir / "covid_xray").rglob("*.tfrecord*"))
    # The fix that the message proposes.
    (folder / "exclude.txt").write_text("Train/covid/covid_001.png\n", encoding="utf-8")
    data = open_set(data_dir, manual_dir=folder)
    assert data.fingerprint["images"] == {"train": 4, "test": 4}


def test_unreadable_files_may_be_left_out_and_are_listed_in_the_metadata(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    broken = ["Train/covid/covid_001.png", "Test/covid/covid_000.png"]
    for name in broken:
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    with pytest.raises(UserError, match="--skip_unreadable"):
        open_set(tmp_path / "data", manual_dir=folder)
    data = open_set(tmp_path / "data", manual_dir=folder, skip_unreadable=True)
    assert data.fingerprint["images"] == {"train": 4, "test": 3}
    assert not set(broken) & set(read_rows(data.builder))
    assert sorted(line.partition(":")[0] for line in data.unreadable) == sorted(broken)
    assert "2 files that could not be read are left out" in data.reason
    # Whoever opens the set later is told, too.
    again = open_set(tmp_path / "data")
    assert again.unreadable == data.unreadable
    metadata = json.loads(
        (Path(data.builder.data_path) / "metadata.json").read_text(encoding="utf-8")
    )
    assert set(metadata["unreadable"]) == set(broken)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("Train/covid/*", "no image of class covid in train"),
        ("Test/*/*", "no images in test"),
    ],
)
def test_a_set_without_readable_images_of_a_class_is_not_prepared(tmp_path, pattern, words):
    folder = write_set(tmp_path / "set", COUNTS)
    for path in folder.glob(pattern):
        path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    for _ in range(2):  # A failed build leaves no set.
        with pytest.raises(UserError, match=words):
            open_set(tmp_path / "data", manual_dir=folder, skip_unreadable=True)


def test_original_configuration_stores_the_bytes_but_no_tags_of_a_dicom(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    photo = folder / "Train" / "covid" / "photo.JPG"
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(photo)
    dicom = get_testdata_file("RG1_UNCR.dcm", download=False)
    shutil.copy(dicom, folder / "Train" / "covid" / "IM0001")
    rows = read_rows(build_originals(folder, tmp_path / "data"), ("train",))
    row = rows["Train/covid/photo.JPG"]
    assert row["file"] == photo.read_bytes()
    assert row["format"] == b"JPEG"
    # Tags may name a patient, so only the pixels are stored.
    row = rows["Train/covid/IM0001"]
    assert row["format"] == b"DICOM"
    assert row["file"].startswith(b"\x89PNG")
    assert b"DICM" not in row["file"]


def test_pips_datasets_package_does_not_interfere(tiny_data_dir, tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text(
        "name = 'the installed one'\n", encoding="utf-8"
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import datasets
from trainer.config import TrainConfig
from trainer.data import prepared
config = TrainConfig(dataset="covid_xray", data_dir={str(tiny_data_dir)!r})
assert prepared.open_from_config(config).name == "covid_xray"
assert datasets.name == "the installed one"
"""
    process = run_command("-c", code)
    assert process.returncode == 0, process.stderr


def test_phantoms_are_prepared_in_any_number_and_named_synthetic(tmp_path):
    data = open_set(tmp_path, "phantom", phantom_train=8, phantom_test=4)
    assert data.synthetic
    assert data.class_names == ("clear", "opacities")
    assert data.positive_class == "opacities"
    assert data.fingerprint["images"] == {"train": 8, "test": 4}
    assert data.reason == "Data: phantom, SYNTHETIC radiographs, as asked."
    rows = read_rows(data.builder, ("test",)).values()
    # Pairs are balanced: two of four.
    assert sum(row["label"] for row in rows) == 2
    for row in rows:
        assert bool(row["lesion_mask"].any()) == bool(row["label"])
        assert 0.1 < (row["lung_mask"] > 0).mean() < 0.5
    again = open_set(tmp_path, "phantom", phantom_train=8, phantom_test=4)
    assert again.fingerprint == data.fingerprint


def test_manual_dir_is_never_replaced_by_another_set(tmp_path):
    # Not even auto falls back to the phantom.
    with pytest.raises(UserError, match="does not exist"):
        open_set(tmp_path, "auto", manual_dir=tmp_path / "nowhere")
    with pytest.raises(UserError, match="goes with --dataset=covid_xray"):
        open_set(tmp_path, "phantom", manual_dir=tmp_path)


def test_auto_without_real_data_is_the_phantom_and_says_why(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")  # No server listens there.
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    data = open_set(tmp_path, "auto", phantom_train=8, phantom_test=4)
    assert data.name == "phantom"
    assert "no real ones were found" in data.reason
    assert "does not answer" in data.reason
    assert "\n" not in data.reason
    assert "*** SYNTHETIC DATA ***" in capfd.readouterr().err


def test_new_folder_with_a_builder_is_opened_by_its_name(tmp_path, monkeypatch):
    # A copy of an existing builder under a new name.
    source = (ROOT / "datasets" / "phantom" / "phantom_dataset_builder.py").read_text("utf-8")
    folder = tmp_path / "datasets" / "third"
    folder.mkdir(parents=True)
    (folder / "third_dataset_builder.py").write_text(source, "utf-8")
    shutil.copy(ROOT / "datasets" / "phantom" / "TAGS.txt", folder)
    (folder / "README.md").write_text("A third set.", encoding="utf-8")
    (folder / "CITATIONS.bib").write_text("", encoding="utf-8")
    monkeypatch.setattr(prepared, "_FOLDER", tmp_path / "datasets")
    config = TrainConfig(data_dir=str(tmp_path), phantom_train=8, phantom_test=4)
    # The choices of --dataset come from the checkout, so the name is set without a check.
    object.__setattr__(config, "dataset", "third")
    data = prepared.open_from_config(config)
    monkeypatch.delitem(sys.modules, "third_dataset_builder")
    assert data.name == "third"
    assert data.reason.startswith("Data: third, ")
    assert data.fingerprint["images"] == {"train": 8, "test": 4}


def test_files_are_found_without_preparing_a_set(tiny_folder, tmp_path):
    config = TrainConfig(manual_dir=str(tiny_folder), data_dir=str(tmp_path / "data"))
    source = prepared.find_source(config)
    assert source.class_names == ("non_covid", "covid")
    assert {split: len(entries) for split, entries in source.splits.items()} == {
        "train": 26,
        "test": 14,
    }
    # Nothing is written.
    assert not (tmp_path / "data").exists()


def test_data_dir_follows_tfds(monkeypatch):
    assert prepared.data_folder("~/sets") == Path("~/sets").expanduser()
    monkeypatch.setenv("TFDS_DATA_DIR", "/sets")
    assert prepared.data_folder(None) == Path("/sets")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert prepared.data_folder(None) == Path("~/tensorflow_datasets").expanduser()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["covid_xray", "phantom"])
def test_tfds_build_works_from_the_root(name, tiny_folder, tmp_path):
    # Pip's package of the same name must not interfere.
    (tmp_path / "pip" / "datasets").mkdir(parents=True)
    (tmp_path / "pip" / "datasets" / "__init__.py").write_text(
        "raise ImportError('not this one')", encoding="utf-8"
    )
    arguments = [f"datasets/{name}", "--data_dir", str(tmp_path), "--config", "gray500"]
    if name == "covid_xray":
        file = shutil.make_archive(str(tmp_path / "archive"), "zip", tiny_folder)
        arguments += ["--manual_dir", file]
    process = run_command(
        "-m",
        "tensorflow_datasets.scripts.cli.main",
        "build",
        *arguments,
        PYTHONPATH=os.pathsep.join([str(tmp_path / "pip"), str(ROOT)]),
    )
    assert process.returncode == 0, process.stderr
    assert list((tmp_path / name / "gray500").glob("*/*.tfrecord*"))


@pytest.mark.slow
def test_sample_of_real_radiographs_is_built(sample_dir, tmp_path):
    data = open_set(tmp_path, manual_dir=sample_dir)
    assert data.fingerprint["images"] == {"train": 421, "test": 219}
    counts = {}  # (split, label) → (images, groups).
    for split in ("train", "test"):
        rows = list(read_rows(data.builder, (split,)).values())
        for label in (0, 1):
            groups = [row["group"] for row in rows if row["label"] == label]
            counts[split, label] = (len(groups), len(set(groups)))
    assert counts == {
        ("train", 1): (218, 82),
        ("train", 0): (203, 148),
        ("test", 1): (100, 36),
        ("test", 0): (119, 89),
    }
