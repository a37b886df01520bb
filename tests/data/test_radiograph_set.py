"""Tests of reading a set: forty layouts and tables without a flag, and those that are refused."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.data.dicom_files import gradient, make_dicom
from trainer.config import TrainConfig
from trainer.data import any_source, radiograph_set, table_labels
from trainer.data.columns import Named
from trainer.errors import UserError


def write(folder: Path, images: str, **files: str | bytes) -> None:
    """Writes images (names separated by spaces, empty files) and other files."""
    for name in images.split():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_csv", ".csv").replace("_tsv", ".tsv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def describe(images: radiograph_set.RadiographSet) -> dict[str, str]:
    """Filename without folders → split:label, the label a class, findings, or findings?."""
    shown = {}
    for filename, split, value in zip(
        images.filenames, images.splits, images.labels.values, strict=True
    ):
        if images.labels.multi:
            pairs = list(zip(images.labels.names, value, strict=True))
            marks = [name for name, code in pairs if code == 1]
            marks += [name + "?" for name, code in pairs if code == table_labels.UNCERTAIN]
            label = "+".join(marks)
        else:
            label = images.labels.names[value]
        shown[Path(filename).name] = f"{split or ''}:{label}"
    return shown


# Name → (images, other files, filename → split:label).
FOLDERS = {
    "classes side by side": ("pos/a.png neg/b.png", {}, "a.png=:pos b.png=:neg"),
    "three classes": ("x/a.png y/b.png z/c.png", {}, "a.png=:x b.png=:y c.png=:z"),
    "split, then class": (
        "train/pos/a.png train/neg/b.png test/pos/c.png test/neg/d.png",
        {},
        "a.png=train:pos b.png=train:neg c.png=test:pos d.png=test:neg",
    ),
    "class, then split": (
        "pos/train/a.png neg/train/b.png pos/test/c.png neg/test/d.png",
        {},
        "a.png=train:pos b.png=train:neg c.png=test:pos d.png=test:neg",
    ),
    "three splits": (
        "Training/pos/a.png Valid/neg/b.png Testing/pos/c.png",
        {},
        "a.png=train:pos b.png=validation:neg c.png=test:pos",
    ),
    "dev and eval": (
        "train/pos/a.png dev/neg/b.png eval/pos/c.png",
        {},
        "a.png=train:pos b.png=validation:neg c.png=test:pos",
    ),
    "other case in each split": (
        "TRAIN/Pos/a.png TRAIN/NEG/b.png test/pos/c.png test/neg/d.png",
        {},
        "a.png=train:Pos b.png=train:NEG c.png=test:Pos d.png=test:NEG",
    ),
    "spaces and underscores": (
        "train/non_covid/a.png train/covid/b.png test/non-covid/c.png test/Covid/d.png",
        {},
        "a.png=train:non_covid b.png=train:covid c.png=test:non_covid d.png=test:covid",
    ),
    "below other folders": ("x/y/z/pos/a.png x/y/z/neg/b.png", {}, "a.png=:pos b.png=:neg"),
    "folders of patients in classes": (
        "pos/patient1/a.png neg/patient2/b.png",
        {},
        "a.png=:pos b.png=:neg",
    ),
    "images folder in each class": (
        "pos/images/a.png neg/images/b.png",
        {},
        "a.png=:pos b.png=:neg",
    ),
    "masks beside images": (
        "pos/images/a.png pos/masks/a.png neg/images/b.png neg/masks/b.png",
        {},
        "a.png=:pos b.png=:neg",
    ),
    "one split alone": ("train/pos/a.png train/neg/b.png", {}, "a.png=:pos b.png=:neg"),
    "files of macOS": (
        "pos/a.png neg/b.png __MACOSX/pos/._a.png pos/.DS_Store",
        {},
        "a.png=:pos b.png=:neg",
    ),
    "a picture beside the classes": (
        "pos/a.png neg/b.png preview.png",
        {},
        "a.png=:pos b.png=:neg",
    ),
    "a folder beside the splits": (
        "train/pos/a.png test/neg/b.png docs/c.png",
        {},
        "a.png=train:pos b.png=test:neg",
    ),
    "other extensions": ("pos/a.JPG neg/b.jpeg neg/c.dcm", {}, "a.JPG=:pos b.jpeg=:neg c.dcm=:neg"),
    "prose beside it": (
        "pos/a.png neg/b.png",
        {"README.txt": "Two folders, as you see."},
        "a.png=:pos b.png=:neg",
    ),
    "patients beside it": (
        "pos/a.png neg/b.png",
        {"groups_csv": "filename,patient\na.png,p\nb.png,q\n"},
        "a.png=:pos b.png=:neg",
    ),
}

TABLES = {
    "file and label": ("a.png b.png", "file,label\na.png,pos\nb.png,neg", "a.png=:pos b.png=:neg"),
    "tabs": ("a.png b.png", "file\tlabel\na.png\tpos\nb.png\tneg", "a.png=:pos b.png=:neg"),
    "semicolons": ("a.png b.png", "file;label\na.png;pos\nb.png;neg", "a.png=:pos b.png=:neg"),
    "byte order mark": (
        "a.png b.png",
        "\ufefffile,label\na.png,pos\nb.png,neg",
        "a.png=:pos b.png=:neg",
    ),
    "UTF-16": (
        "a.png b.png",
        "file,label\na.png,pos\nb.png,neg".encode("utf-16"),
        "a.png=:pos b.png=:neg",
    ),
    "Windows-1252": (
        "a.png b.png",
        "file,label\na.png,Lungenentzündung\nb.png,neg".encode("cp1252"),
        "a.png=:Lungenentzündung b.png=:neg",
    ),
    "no extensions": ("a.png b.png", "id,class\na,pos\nb,neg", "a.png=:pos b.png=:neg"),
    "other folders in front": (
        "images/a.png images/b.png",
        "Path,label\nset/images/a.png,pos\nset/images/b.png,neg",
        "a.png=:pos b.png=:neg",
    ),
    "same names in folders": (
        "p1/v.png p2/v.png p3/w.png",
        "Path,label\nset/p1/v.png,pos\nset/p2/v.png,pos\nset/p3/w.png,neg",
        "v.png=:pos w.png=:neg",
    ),
    "a split column": (
        "a.png b.png c.png",
        "file,label,split\na.png,pos,Train\nb.png,neg,valid\nc.png,neg,TEST",
        "a.png=train:pos b.png=validation:neg c.png=test:neg",
    ),
    "is_valid, as fastai has it": (
        "a.png b.png",
        "name,label,is_valid\na.png,pos,False\nb.png,neg,True",
        "a.png=train:pos b.png=validation:neg",
    ),
    "NIH ChestX-ray14": (
        "images_001/images/a.png images_001/images/b.png images_002/images/c.png",
        (
            "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,View Position\n"
            "a.png,Mass|Edema,0,1,50,PA\nb.png,No Finding,1,1,51,AP\nc.png,Edema,0,2,70,PA"
        ),
        "a.png=:Edema+Mass b.png=: c.png=:Edema",
    ),
    "CheXpert": (
        "train/patient00001/study1/view1.jpg train/patient00002/study1/view2.jpg",
        (
            "Path,Sex,Age,No Finding,Edema,Fracture\n"
            "CheXpert-v1.0/train/patient00001/study1/view1.jpg,Male,50,,1.0,-1.0\n"
            "CheXpert-v1.0/train/patient00002/study1/view2.jpg,Female,51,1.0,0.0,"
        ),
        "view1.jpg=:Edema+Fracture? view2.jpg=:",
    ),
    "PadChest": (
        "0/a.png 1/b.png",
        (
            "ImageID,ImageDir,PatientID,Labels\n"
            "a.png,0,1,\"['nodule', 'effusion']\"\nb.png,1,2,['normal']"
        ),
        "a.png=:effusion+nodule b.png=:",
    ),
    "VinDr, a row a reader and finding": (
        "a.dicom b.dicom",
        (
            "image_id,class_name,class_id,rad_id,x_min\na,Mass,1,R1,5\na,Mass,1,R2,6\n"
            "a,Edema,2,R3,6\nb,No finding,14,R1,\nb,No finding,14,R2,\nb,No finding,14,R3,"
        ),
        "a.dicom=:Mass b.dicom=:",
    ),
    "yes and no": (
        "a.png b.png",
        "file,Edema,Mass\na.png,YES,NO\nb.png,no,yes",
        "a.png=:Edema b.png=:Mass",
    ),
    "true and false": (
        "a.png b.png",
        "file,Edema,Mass\na.png,True,False\nb.png,FALSE,true",
        "a.png=:Edema b.png=:Mass",
    ),
    "quotes and commas": (
        "a.png b.png",
        'file,note,label\na.png,"left, base",pos\nb.png,"a ""clear"" film",neg',
        "a.png=:pos b.png=:neg",
    ),
    "RSNA, a row a box": (
        "a.dcm b.dcm",
        "patientId,x,y,Target\na,1,2,1\na,3,4,1\nb,,,0",
        "a.dcm=:1 b.dcm=:0",
    ),
    "rows without images": (
        "a.png b.png",
        "file,label\na.png,pos\nb.png,neg\nc.png,neg",
        "a.png=:pos b.png=:neg",
    ),
    "images without rows": (
        "a.png b.png c.png",
        "file,label\na.png,pos\nb.png,neg",
        "a.png=:pos b.png=:neg",
    ),
    "a table above folders": (
        "x/a.png y/b.png",
        "file,label\na.png,pos\nb.png,neg",
        "a.png=:pos b.png=:neg",
    ),
    "backslashes": (
        "x/a.png y/b.png",
        "file,label\nx\\a.png,pos\ny\\b.png,neg",
        "a.png=:pos b.png=:neg",
    ),
    "an index column": (
        "a.png b.png",
        ",file,label\n0,a.png,pos\n1,b.png,neg",
        "a.png=:pos b.png=:neg",
    ),
}


def pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_are_read_without_a_flag(tmp_path, name):
    images, files, expected = FOLDERS[name]
    write(tmp_path, images, **files)
    result = radiograph_set.read(tmp_path, Named())
    assert describe(result) == pairs(expected)
    assert str(len(result.labels.names)) in result.sentence


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_without_a_flag(tmp_path, name):
    images, table, expected = TABLES[name]
    write(tmp_path, images, labels_csv=table)
    result = radiograph_set.read(tmp_path, Named())
    assert describe(result) == pairs(expected)
    assert "column" in result.sentence
    assert "\n" not in result.sentence


def test_a_table_a_split_is_read(tmp_path):
    write(
        tmp_path,
        "a.png b.png",
        train_csv="file,Edema,Mass\na.png,1,0\n",
        valid_csv="file,Edema,Mass\nb.png,0,1\n",
    )
    result = radiograph_set.read(tmp_path, Named())
    assert describe(result) == {"a.png": "train:Edema", "b.png": "validation:Mass"}


def test_the_official_lists_of_nih_decide_the_split(tmp_path):
    write(tmp_path, "images/a.png images/b.png", labels_csv=TABLES["NIH ChestX-ray14"][1])
    (tmp_path / "train_val_list.txt").write_text("a.png\n", encoding="utf-8")
    (tmp_path / "test_list.txt").write_text("b.png\n", encoding="utf-8")
    result = radiograph_set.read(tmp_path, Named())
    assert result.splits == ["train", "test"]
    assert result.groups == ["1", "1"]


def test_classes_that_stand_for_none_come_first(tmp_path):
    write(tmp_path, "covid/a.png normal/b.png")
    assert radiograph_set.read(tmp_path, Named()).labels.names == ("normal", "covid")


def test_patients_come_from_a_column_or_from_folders(tmp_path):
    write(tmp_path, "pos/Patient0001/a.png neg/patient0002/b.png")
    assert set(radiograph_set.read(tmp_path, Named()).groups) == {"patient0001", "patient0002"}
    write(tmp_path, "", groups_csv="filename,patient,site\na.png,p,x\nb.png,NA,y\n")
    result = radiograph_set.read(tmp_path, Named())
    # A missing patient leaves the file a group of its own.
    assert set(result.groups) == {"p", "neg/patient0002/b.png"}
    assert sorted(result.columns["site"]) == ["x", "y"]


def test_patients_may_be_in_a_table_of_their_own(tmp_path):
    write(
        tmp_path,
        "a.png b.png",
        labels_csv="file,label,age\na.png,pos,50\nb.png,neg,51\n",
        groups_csv="filename,patient,site\na.png,p,x\nb.png,p,y\n",
    )
    result = radiograph_set.read(tmp_path, Named())
    assert result.groups == ["p", "p"]
    assert result.columns == {"site": ["x", "y"], "age": ["50", "51"]}


def test_patients_of_dicom_files_come_from_their_tag_as_hashes(tmp_path, capfd):
    patients = {"pos/a.dcm": "Roentgen 4711", "neg/b": "Roentgen 4711 ", "neg/c.dcm": " "}
    for name, patient in patients.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make_dicom(gradient(4095), bits=12, PatientID=patient))
    (tmp_path / "neg" / "d.dcm").write_bytes(b"damaged")
    images = radiograph_set.read(tmp_path, Named())
    groups = dict(zip(images.filenames, images.groups, strict=True))
    assert groups["pos/a.dcm"] == groups["neg/b"]
    assert re.fullmatch("[0-9a-f]{12}", groups["neg/b"])
    # Without a patient, an image is a group of its own.
    assert (groups["neg/c.dcm"], groups["neg/d.dcm"]) == ("neg/c.dcm", "neg/d.dcm")
    text = radiograph_set.describe(images)
    assert "patients by DICOM tag, hashed" in text
    assert "4 images of 3 patients" in text
    assert "Roentgen" not in repr(images) + text + "".join(capfd.readouterr())
    # Beside other files, or with a column of patients, no tag is read.
    write(tmp_path, "", groups_csv="filename,patient\na.dcm,p\n")
    assert "p" in radiograph_set.read(tmp_path, Named()).groups
    (tmp_path / "groups.csv").unlink()
    write(tmp_path, "pos/e.png")
    assert "patients unknown" in radiograph_set.read(tmp_path, Named()).sentence


@pytest.mark.parametrize(
    ("header", "cells", "used"),
    [
        ("fold", "012", False),
        ("Subset", ("train", "test", "holdout"), False),
        ("dataset", ("NIH", "NIH", "RSNA"), False),
        ("dataset", ("Train", "Train", "Test"), True),
        ("fold", ("", "", ""), None),
    ],
)
def test_a_column_called_like_a_split_is_used_or_remarked_on(tmp_path, header, cells, used):
    lines = [f"{name}.png,{cell},{name}" for name, cell in zip("abc", cells, strict=True)]
    write(tmp_path, "a.png b.png c.png", x_csv="\n".join([f"file,{header},label", *lines]))
    images = radiograph_set.read(tmp_path, Named())
    assert any(images.splits) == bool(used)
    remarks = [remark for remark in images.remarks if "--split_column" in remark]
    assert bool(remarks) == (used is False)
    for remark in remarks:
        assert remark.startswith(f"column {header} of x.csv ({min(cells)}, ")


def test_excluded_images_are_left_out_and_must_exist(tmp_path):
    write(tmp_path, "pos/a.png pos/b.png neg/b.png", **{"exclude.txt": "# blurred\npos/b.png\n"})
    result = radiograph_set.read(tmp_path, Named())
    assert describe(result) == {"a.png": ":pos", "b.png": ":neg"}
    assert "exclude.txt" in result.remarks[0]
    for line in ("c.png", "b.png"):  # None of that name, and two.
        (tmp_path / "exclude.txt").write_text(line, encoding="utf-8")
        with pytest.raises(UserError, match=line):
            radiograph_set.read(tmp_path, Named())


# Name → (images, table or further files, settings, flag or file that the message names).
LABELS = "file,label\na.png,pos\nb.png,neg\nc.png,pos\nd.png,neg"
REFUSED = {
    "nothing": ("", "", {}, "no PNG"),
    "images in one folder": ("a.png b.png", "", {}, "--label_columns"),
    "one class": ("pos/a.png pos/b.png x.png", "", {}, "--label_columns"),
    "one class in a table": ("a.png b.png", "file,label\na.png,x\nb.png,x", {}, "--label_columns"),
    "one image": ("pos/a.png", "", {}, "--label_columns"),
    "one image in a table": ("a.png", "file,label\na.png,x", {}, "--label_columns"),
    "patients, no table": ("p1/a.png p2/b.png p3/c.png", "", {}, "--label_columns"),
    "no labels": ("a.png b.png", "file,age\na.png,50\nb.png,51", {}, "--label_columns"),
    "too many classes": (
        " ".join(f"{index}.png" for index in range(300)),
        "file,label\n" + "\n".join(f"{index}.png,x{index}" for index in range(300)),
        {},
        "--label_columns",
    ),
    "labels twice": (
        "a.png b.png",
        "file,label,Edema,Mass\na.png,pos,1,0\nb.png,neg,0,1",
        {},
        "--label_columns",
    ),
    "names of other files": (
        "a.png b.png",
        "file,label\nx.png,pos\ny.png,neg",
        {},
        "--image_column",
    ),
    "no names of files": (
        "a.png b.png",
        "x,label\n1,pos\n2,neg",
        {},
        "labels.csv .*--image_column",
    ),
    "two columns of files": (
        "a.png b.png c.png d.png",
        "image,path,label\na.png,c.png,pos\nb.png,d.png,neg",
        {},
        "--image_column",
    ),
    "two tables": (
        "a.png b.png",
        {"one.csv": "file,label\na.png,pos\nb.png,neg", "two.csv": "file,label\na.png,x\nb.png,y"},
        {},
        r"one\.csv and two\.csv",
    ),
    "tables of other columns": (
        "a.png b.png",
        {"train.csv": "file,label\na.png,pos", "valid.csv": "file,class\nb.png,neg"},
        {},
        r"train\.csv and valid\.csv",
    ),
    "a class and none": (
        "a.png b.png",
        "file,label\na.png,normal\na.png,covid\nb.png,normal",
        {},
        r"labels\.csv has normal .* for a\.png",
    ),
    "a finding and none": (
        "a.png b.png",
        "file,Edema,Mass\na.png,1,0\na.png,0,0\nb.png,0,1",
        {},
        r"labels\.csv has two values in Edema for a\.png",
    ),
    "two patients of an image": (
        "a.png b.png",
        "file,label,patient\na.png,pos,p\na.png,pos,q\nb.png,neg,r",
        {},
        r"labels\.csv has p and q in patient",
    ),
    "an empty table": ("a.png b.png", " ", {}, "labels.csv"),
    "a header alone": (
        "a.png b.png",
        "file,Edema,Mass\n",
        {},
        "labels.csv has a header and no rows",
    ),
    "two columns of one name": ("a.png b.png", "file,label,label\na.png,x,y", {}, "labels.csv"),
    "no text": ("a.png b.png", b"\x7fELF\x00\x01,\x00\n\x00,\x00\n", {}, "labels.csv is no text"),
    "no encoding": (
        "a.png b.png",
        b"file,label\na.png,\x81\x8d\n",
        {},
        "labels.csv cannot be read",
    ),
    "UTF-16 without its mark": (
        "a.png b.png",
        LABELS.encode("utf-16-le"),
        {},
        "labels.csv .* UTF-16 without its mark",
    ),
    "no such column of labels": (
        "a.png b.png",
        LABELS,
        {"label_columns": "finding"},
        "--label_columns=finding: .* has the columns file, label",
    ),
    "no such column of splits": (
        "a.png b.png",
        LABELS,
        {"split_column": "phase"},
        "--split_column=phase: .* has the columns file, label",
    ),
    "a column, and no table": (
        "pos/a.png neg/b.png",
        "",
        {"patient_column": "mrn"},
        "--patient_column=mrn: .* has no table",
    ),
    "other words in the splits": (
        "a.png b.png",
        "file,label,phase\na.png,pos,one\nb.png,neg,two",
        {"split_column": "phase"},
        "labels.csv has one in phase.*--split_column",
    ),
    "other words in a finding": (
        "a.png b.png",
        "file,Edema,Mass\na.png,1,maybe\nb.png,0,1",
        {"label_columns": "Edema,Mass"},
        "labels.csv has maybe in Mass",
    ),
    "no such class": (
        "a.png b.png c.png d.png",
        LABELS,
        {"positive_class": "covid"},
        "--positive_class=covid: the classes are neg, pos",
    ),
    "one patient": (
        "a.png b.png c.png d.png",
        "file,label,patient\na.png,pos,p\nb.png,neg,p\nc.png,pos,p\nd.png,neg,p",
        {"test_fraction": 0.3},
        "--test_fraction=0.3 .*--split_column",
    ),
    "no column of sites": (
        "a.png b.png c.png d.png",
        LABELS,
        {"hold_out_site": "B"},
        "--hold_out_site=B needs a column called site",
    ),
    "no such site": (
        "a.png b.png",
        "file,label,site\na.png,pos,A\nb.png,neg,A",
        {"hold_out_site": "B"},
        "--hold_out_site=B: the sites in column site are A",
    ),
    "a damaged zip": (
        "",
        {"set.zip": b"PK\x03\x04 cut off"},
        {},
        r"set\.zip: the zip archive is damaged",
    ),
    "exclusion of no file": (
        "pos/a.png neg/b.png",
        {"exclude.txt": "c.png\n"},
        {},
        r"exclude\.txt names files that are not there, .*c\.png",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ambiguous_and_broken_sets_are_refused_in_one_line(tmp_path, name):
    images, files, settings, words = REFUSED[name]
    if not isinstance(files, dict):
        files = {"labels.csv": files} if files else {}
    write(tmp_path, images, **files)
    archive = tmp_path / "set.zip"
    given = archive if archive.exists() else tmp_path
    with pytest.raises(UserError, match=words) as caught:
        any_source.find(given, tmp_path / "downloads", TrainConfig(**settings))
    assert "\n" not in str(caught.value)


def test_named_columns_may_be_of_several_tables(tmp_path):
    write(
        tmp_path,
        "a.png b.png",
        labels_csv="file,dx\na.png,pos\nb.png,neg\n",
        groups_csv="file,mrn,class\na.png,p,x\nb.png,q,x\n",
    )
    named = Named(patient_column="mrn", label_columns=("dx",))
    images = radiograph_set.read(tmp_path, named)
    assert describe(images) == {"a.png": ":pos", "b.png": ":neg"}
    assert images.groups == ["p", "q"]


def test_no_finding_fills_the_blanks_of_its_row(tmp_path):
    table = "file,No Finding,Edema,Mass\na.png,1,,\nb.png,,1,\nc.png,,,\nd.png,,,0\n"
    write(tmp_path, "a.png b.png c.png d.png", labels_csv=table)
    images = radiograph_set.read(tmp_path, Named())
    blank = table_labels.BLANK
    np.testing.assert_array_equal(images.labels.values, [[0, 0], [1, blank], [blank, 0]])
    assert "1 images have no label in labels.csv and were left out (c.png …)" in images.remarks


def test_uncertain_and_blank_are_told_apart(tmp_path):
    write(tmp_path, "a.png b.png", labels_csv="file,Edema,Mass\na.png,-1,\nb.png,0,1\n")
    values = radiograph_set.read(tmp_path, Named()).labels.values
    np.testing.assert_array_equal(values, [[table_labels.UNCERTAIN, table_labels.BLANK], [0, 1]])


def test_a_dry_run_prints_counts_without_tensorflow(tmp_path):
    write(
        tmp_path,
        "train/pos/a.png train/neg/b.png test/pos/c.png x.png",
        groups_csv="filename,patient\na.png,p\nb.png,p\nc.png,q\n",
    )
    command = (
        "import runpy, sys\n"
        f"sys.argv = ['audit.py', '--dry_run', '--manual_dir={tmp_path}']\n"
        "try: runpy.run_module('trainer.audit', run_name='__main__')\n"
        "finally: assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1:4] == [["train", "test"], ["neg", "1", "0"], ["pos", "1", "1"]]
    assert "3 images of 2 patients" in done.stdout
    assert "x.png" in done.stdout


def test_a_zip_is_read_as_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("set/pos/a.png", "set/neg/b.png"):
            archive.writestr(name, b"")
    command = [sys.executable, "-m", "trainer.audit", "--dry_run", f"--data_dir={tmp_path}"]
    done = subprocess.run(
        [*command, f"--manual_dir={tmp_path / 'set.zip'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 classes by folder (neg, pos)" in done.stdout
