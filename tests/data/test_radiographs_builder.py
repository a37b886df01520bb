"""Tests of the builder of any set: TFDS's own checks, splits, names and several folders."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.conftest import ROOT, run_command
from tests.data.sets import open_set, read_rows
from trainer.config import TrainConfig
from trainer.data import phantom, prepared, records
from trainer.errors import UserError

MODULE = prepared.load_builder_module("radiographs")
DUMMY_DATA = ROOT / "datasets" / "radiographs" / "dummy_data"


class RadiographsTest(tfds.testing.DatasetBuilderTestCase):
    """Builds all configurations and checks registration, tags, shapes, types and counts."""

    DATASET_CLASS = MODULE.Builder
    SPLITS = {"train": 6, "validation": 3, "test": 3}


def write_folders(folder: Path, classes: tuple[str, ...], count: int = 8) -> Path:
    """Writes small phantoms into a folder for each class."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = phantom.draw(label, index, index % 2, 64).image
            Image.fromarray(image).save(folder / name / f"{index}.png")
    return folder


def test_a_table_gives_classes_splits_patients_and_columns(tmp_path):
    data = open_set(tmp_path, "radiographs", DUMMY_DATA)
    assert data.class_names == ("normal", "effusion", "pneumonia")
    assert data.positive_class is None
    assert data.fingerprint["images"] == {"train": 6, "validation": 3, "test": 3}
    row = read_rows(data.builder)["images/film01.png"]
    assert (row["label"], row["group"]) == (2, b"p1")
    assert json.loads(row["columns"]) == {"view": "AP"}


def write_findings(folder: Path, rows: list[dict]) -> Path:
    """Writes a small phantom for each row of a table of findings."""
    folder.mkdir(parents=True)
    for index, row in enumerate(rows):
        Image.fromarray(phantom.draw(0, index, 0, 64).image).save(folder / row["image"])
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.mark.parametrize(
    ("uncertain", "expected"), [(None, -1), ("ignore", -1), ("ones", 1), ("zeros", 0)]
)
def test_several_findings_are_kept_with_uncertain_and_blank_ones(tmp_path, uncertain, expected):
    cells = ("1", "0", "-1", "")  # Of effusion, which blank leaves absent.
    rows = [
        {"image": f"{index:02d}.png", "patient": f"p{index}", "effusion": cells[index % 4]}
        | {"nodule": index // 4 % 2, "fracture": 0, "split": "test" if index < 8 else "train"}
        for index in range(16)
    ]
    folder = write_findings(tmp_path / "films", rows)
    data = open_set(tmp_path / "data", "radiographs", folder, uncertain=uncertain)
    # No image has a fracture, so there is nothing to learn.
    assert data.class_names == ("effusion", "nodule")
    assert data.multi_label
    assert data.positive_class is None
    for index, row in enumerate(rows):
        record = read_rows(data.builder)[row["image"]]
        effusion = {"1": 1, "0": 0, "-1": expected, "": 0}[cells[index % 4]]
        assert record["label"] == -1
        assert record["findings"].tolist() == [effusion, index // 4 % 2]
    test = records.read(data.builder, "test")
    assert test.labels.shape == (8, 2)


def test_folders_share_a_data_dir_and_are_opened_by_their_files(tmp_path):
    folders = [
        write_folders(tmp_path / "one", ("normal", "covid")),
        write_folders(tmp_path / "two", ("a", "b", "c")),
    ]
    opened = [open_set(tmp_path / "data", "radiographs", folder) for folder in folders]
    assert [data.class_names for data in opened] == [("normal", "covid"), ("a", "b", "c")]
    assert [data.positive_class for data in opened] == ["covid", None]
    # The same files are not prepared again.
    again = open_set(tmp_path / "data", "radiographs", folders[0])
    assert again.fingerprint == opened[0].fingerprint
    # Without a folder, both could be meant.
    with pytest.raises(UserError, match="several sets are prepared"):
        open_set(tmp_path / "data", "radiographs")
    # A run knows which one it was trained on, even where the files are gone.
    config = TrainConfig(dataset="radiographs", data_dir=str(tmp_path / "data"))
    recorded = prepared.open_from_config(config, opened[1].fingerprint["config"])
    assert recorded.fingerprint == opened[1].fingerprint


def test_a_test_split_is_carved_out_by_patient_the_same_for_every_seed(tmp_path):
    folder = write_folders(tmp_path / "set", ("x", "y"), count=20)
    with open(folder / "groups.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "patient"])
        for name in ("x", "y"):
            writer.writerows([f"{name}/{index}.png", f"{name}{index // 2}"] for index in range(20))
    sources = [
        prepared.find_source(
            TrainConfig(dataset="radiographs", manual_dir=str(folder), seed=seed, test_fraction=0.3)
        )
        for seed in (0, 1)
    ]
    assert sources[0].splits == sources[1].splits
    groups = [{entry.group for entry in sources[0].splits[name]} for name in ("train", "test")]
    assert not groups[0] & groups[1]
    assert [len(sources[0].splits[name]) for name in ("train", "test")] == [28, 12]
    assert "NO TEST SPLIT" in sources[0].remarks[0]


def test_auto_reads_the_layout_of_the_kaggle_set_as_that_set(tmp_path, tiny_folder):
    names = {}
    for folder in (tiny_folder, write_folders(tmp_path / "other", ("x", "y"))):
        config = TrainConfig(manual_dir=str(folder), data_dir=str(tmp_path / "data"))
        names[folder.name] = prepared.open_from_config(config).name
    assert names == {tiny_folder.name: "covid_xray", "other": "radiographs"}
    # A setting on how to read the folder is not passed over.
    source = prepared.find_source(
        TrainConfig(manual_dir=str(tiny_folder), positive_class="non_covid")
    )
    assert source.positive_class == "non_covid"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positive_class": "z"}, "--positive_class=z: the classes are x, y"),
        ({"manual_dir": None}, "--manual_dir=FOLDER_OR_ZIP"),
        ({"manual_dir": str(DUMMY_DATA), "positive_class": "effusion"}, "goes with two classes"),
        ({"label_columns": "finding"}, "--label_columns"),
    ],
)
def test_wrong_settings_are_one_line_that_names_the_flag(tmp_path, settings, message):
    folder = write_folders(tmp_path / "set", ("x", "y"))
    settings = {"manual_dir": str(folder), "data_dir": str(tmp_path / "data")} | settings
    config = TrainConfig(dataset="radiographs", **settings)
    with pytest.raises(UserError) as caught:
        prepared.find_source(config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "covid_xray", "image_column": "file"}, "--image_column=file does not go with"),
        ({"dataset": "phantom", "hold_out_site": "B"}, "--hold_out_site=B does not go with"),
        ({"label_columns": "finding"}, "--label_columns=finding says how a folder is read"),
        ({"dataset": "radiographs", "uncertain": "ones"}, "--uncertain=ones says how files are"),
    ],
)
def test_settings_that_would_be_passed_over_are_refused(tmp_path, settings, message):
    config = TrainConfig(data_dir=str(tmp_path), **settings)
    with pytest.raises(UserError, match=message) as caught:
        prepared.open_from_config(config)
    assert "\n" not in str(caught.value)


def test_tfds_unpacks_a_zip_once(tmp_path):
    folder = write_folders(tmp_path / "set", ("x", "y"))
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", folder)
    downloads = tmp_path / "downloads"
    given = tfds.download.DownloadConfig(manual_dir=archive, try_download_gcs=False)
    for _ in range(2):
        builder = MODULE.Builder(data_dir=str(tmp_path / "data"), config="gray64")
        builder.download_and_prepare(
            download_config=given, download_dir=str(downloads), file_format="tfrecord"
        )
    unpacked = [path for path in tmp_path.rglob("set_*") if path.is_dir()]
    assert [path.parent for path in unpacked] == [downloads / "unpacked"]


def test_tfds_does_not_reuse_the_records_of_another_folder(tmp_path):
    settings = {"download_dir": str(tmp_path / "downloads"), "file_format": "tfrecord"}
    for name, classes in (("one", ("x", "y")), ("two", ("x", "z"))):
        write_folders(tmp_path / name, classes)
        builder = MODULE.Builder(data_dir=str(tmp_path / "data"), config="gray64")
        given = tfds.download.DownloadConfig(
            manual_dir=str(tmp_path / name), try_download_gcs=False
        )
        if name == "two":
            with pytest.raises(UserError, match="other files"):
                builder.download_and_prepare(download_config=given, **settings)
        else:
            builder.download_and_prepare(download_config=given, **settings)
            assert builder.info.features["label"].names == ["x", "y"]


@pytest.mark.slow
def test_three_classes_from_a_table_to_predictions(tmp_path):
    flags = [f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}"]
    folder = write_folders(tmp_path / "set", ("normal", "effusion", "pneumonia"), count=24)
    small = ["--model=compact", "--image_size=64", "--epochs=1", "--prepared_side=64"]
    trained = run_command("-m", "trainer.main", f"--manual_dir={folder}", *small, *flags)
    assert trained.returncode == 0, trained.stderr
    assert "3 classes by folder (normal, effusion, pneumonia)" in trained.stdout
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["dataset"]["class_names"] == ["normal", "effusion", "pneumonia"]
    assert sum(metrics["dataset"]["images"].values()) == 72
    # The folder may go: the run has what it was trained on.
    moved = folder.rename(tmp_path / "moved")
    evaluated = run_command("-m", "trainer.evaluate", "--split=validation", *flags)
    assert evaluated.returncode == 0, evaluated.stderr
    predicted = run_command("-m", "trainer.predict", flags[1], str(moved))
    rows = list(csv.DictReader(predicted.stdout.splitlines()))
    assert len(rows) == 72
    probabilities = np.array(
        [
            [float(row[f"probability_{name}"]) for name in metrics["dataset"]["class_names"]]
            for row in rows
            if row["verdict"] in ("answered", "unsure")
        ]
    )
    assert len(probabilities) > 36  # Phantoms of the training set are answered.
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-4)
