"""Tests of the sets with a name of their own: TFDS's checks, classes, and folders of others."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.conftest import ROOT
from tests.data.sets import open_set, read_rows
from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.errors import UserError


class Covid19RadiographyTest(tfds.testing.DatasetBuilderTestCase):
    """Checks the four classes; a fifth of the images is test."""

    DATASET_CLASS = prepared.load_builder_module("covid19_radiography").Builder
    SPLITS = {"train": 16, "test": 4}


class ChestXrayPneumoniaTest(tfds.testing.DatasetBuilderTestCase):
    """Checks that the validation split is used as it is given."""

    DATASET_CLASS = prepared.load_builder_module("chest_xray_pneumonia").Builder
    SPLITS = {"train": 6, "validation": 2, "test": 4}


class NihChestXray14Test(tfds.testing.DatasetBuilderTestCase):
    """Checks that the official lists are the splits."""

    DATASET_CLASS = prepared.load_builder_module("nih_chest_xray14").Builder
    SPLITS = {"train": 8, "test": 4}


@pytest.mark.parametrize(
    ("name", "classes", "positive"),
    [
        ("covid19_radiography", ("Normal", "COVID", "Lung_Opacity", "Viral Pneumonia"), None),
        ("chest_xray_pneumonia", ("NORMAL", "PNEUMONIA"), "PNEUMONIA"),
    ],
)
def test_classes_have_the_names_and_the_order_of_the_set(tmp_path, name, classes, positive):
    folder = ROOT / "datasets" / name / "dummy_data"
    data = open_set(tmp_path, name, folder)
    assert (data.class_names, data.positive_class) == (classes, positive)
    # Without the files: there is one set of this name.
    assert open_set(tmp_path, name).fingerprint == data.fingerprint


def test_another_set_is_refused_with_both_lists_of_classes():
    folder = ROOT / "datasets" / "chest_xray_pneumonia" / "dummy_data"
    config = TrainConfig(dataset="covid19_radiography", manual_dir=str(folder))
    with pytest.raises(UserError, match=r"NORMAL, PNEUMONIA, and not Normal, COVID"):
        prepared.find_source(config)


def test_the_findings_of_nih_are_in_the_order_of_the_paper(tmp_path):
    folder = ROOT / "datasets" / "nih_chest_xray14" / "dummy_data"
    data = open_set(tmp_path, "nih_chest_xray14", folder)
    assert data.multi_label
    assert data.fingerprint["config"] == "gray500"
    assert len(data.class_names) == 14
    assert (data.class_names[0], data.class_names[-1]) == ("Atelectasis", "Hernia")
    row = read_rows(data.builder)["images_001/images/00000002_000.png"]
    marked = [data.class_names[index] for index in np.flatnonzero(row["findings"])]
    assert marked == ["Infiltration", "Mass", "Nodule"]
    assert row["group"] == b"2"
    healthy = read_rows(data.builder)["images_002/images/00000008_000.png"]
    assert not healthy["findings"].any()


def test_a_part_of_nih_may_lie_in_one_folder_with_one_finding_an_image(tmp_path):
    rows = [("1.png", "Edema"), ("2.png", "No Finding"), ("3.png", "Hernia"), ("4.png", "Edema")]
    for name, _ in rows:
        (tmp_path / name).write_bytes(b"")
    lines = [f"{name},{finding},{index}" for index, (name, finding) in enumerate(rows)]
    table = "\n".join(["Image Index,Finding Labels,Patient ID", *lines])
    (tmp_path / "Data_Entry_2017.csv").write_text(table, encoding="utf-8")
    (tmp_path / "train_val_list.txt").write_text("1.png\n2.png\n", encoding="utf-8")
    (tmp_path / "test_list.txt").write_text("3.png\n4.png\n", encoding="utf-8")
    config = TrainConfig(dataset="nih_chest_xray14", manual_dir=str(tmp_path))
    source = prepared.find_source(config)
    marked = {
        entry.filename: [source.class_names[index] for index in np.flatnonzero(entry.findings)]
        for entries in source.splits.values()
        for entry in entries
    }
    assert marked == {"1.png": ["Edema"], "2.png": [], "3.png": ["Hernia"], "4.png": ["Edema"]}
