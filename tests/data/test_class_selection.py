"""Tests of --classes: which images and findings stay, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest

from trainer.config import TrainConfig
from trainer.data import any_source
from trainer.errors import UserError

CLASSES = ("normal", "effusion", "nodule")


def write_table(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Writes empty images and their table."""
    for row in rows:
        (folder / str(row["image"])).write_bytes(b"")
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def of_classes(folder: Path) -> Path:
    rows = [{"image": f"{index}.png", "label": CLASSES[index % 3]} for index in range(12)]
    # Its image is not there.
    write_table(folder, [*rows, {"image": "lost.png", "label": "fracture"}])
    (folder / "lost.png").unlink()
    return folder


def read(folder: Path, **fields: str):
    return any_source.read(folder, folder, TrainConfig(manual_dir=str(folder), **fields))


def test_images_of_other_classes_are_left_out_and_counted(tmp_path):
    images = read(of_classes(tmp_path), classes="Nodule, normal")
    # In the order and the spelling of the flag.
    assert images.labels.names == ("Nodule", "normal")
    truth = {f"{index}.png": CLASSES[index % 3] for index in range(12)}
    for name, value in zip(images.filenames, images.labels.values, strict=True):
        assert images.labels.names[value].lower() == truth[name]
    assert len(images.filenames) == 8
    assert any("classes left out: effusion (4 images)" in remark for remark in images.remarks)


def test_a_class_whose_images_are_not_there_is_no_class(tmp_path):
    images = read(of_classes(tmp_path))
    assert set(images.labels.names) == set(CLASSES)
    assert "classes left out: fracture (0 images)" in images.remarks


@pytest.mark.parametrize(
    ("classes", "message"),
    [("normal,mass", "--classes=mass: there are"), ("normal", "give two or more")],
)
def test_unknown_classes_and_a_single_one_are_refused(tmp_path, classes, message):
    with pytest.raises(UserError, match=message) as caught:
        read(of_classes(tmp_path), classes=classes)
    assert "\n" not in str(caught.value)


def test_findings_are_selected_and_images_without_them_stay(tmp_path):
    rows = [
        {"image": f"{index}.png", "effusion": index % 2, "nodule": index // 2 % 2, "mass": 0}
        for index in range(8)
    ]
    images = read(write_table(tmp_path, rows), classes="nodule")
    assert images.labels.names == ("nodule",)
    assert len(images.filenames) == 8
    np.testing.assert_array_equal(
        images.labels.values[:, 0], [int(name[0]) // 2 % 2 for name in images.filenames]
    )
