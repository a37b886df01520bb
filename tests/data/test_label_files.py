"""Tests of label files of the size of CheXpert and NIH ChestX-ray14, without their images."""

import collections

import numpy as np

from tests.studies import label_files
from trainer.data import prepared, radiograph_set, table_labels
from trainer.data.columns import Named

NIH = prepared.load_builder_module("nih_chest_xray14").Builder.CLASSES


def test_chexpert_is_read_in_full(tmp_path):
    filenames = label_files.write_chexpert(tmp_path)
    images = radiograph_set.read_files(tmp_path, filenames, Named())
    assert images.labels.names == label_files.CHEXPERT[1:]
    assert set(np.unique(images.labels.values)) == {
        1,
        0,
        table_labels.UNCERTAIN,
        table_labels.BLANK,
    }
    left_out = len(filenames) - len(images.filenames)
    # Rows without any mark: 0.7 ** 14 of them all, less those that No Finding fills.
    assert 1_000 < left_out < 3_000
    counts = collections.Counter(images.splits)
    assert counts["train"] + counts["validation"] == 224_000 - left_out
    assert 225 <= counts["validation"] <= 234
    assert images.groups[0] == "patient00000"
    assert len(set(images.groups)) > 63_000
    assert images.columns.keys() == {"Sex", "Age", "Frontal/Lateral", "AP/PA"}


def test_nih_is_read_with_the_official_split(tmp_path):
    filenames = label_files.write_nih(tmp_path, NIH)
    images = radiograph_set.read_files(tmp_path, filenames, Named())
    assert sorted(images.labels.names) == sorted(NIH)
    assert collections.Counter(images.splits) == {"train": 86_524, "test": 25_596}
    assert len(set(images.groups)) == 30_805
    marks = images.labels.values.mean(axis=0)
    np.testing.assert_allclose(marks, 0.05, atol=0.005)
    assert not images.remarks
