"""Tests of the sets with a name of their own: TFDS's checks, classes, and folders of others."""

import pytest
import tensorflow_datasets as tfds

from tests.conftest import ROOT
from tests.data.sets import open_set
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
