"""Finding a set: any depth, any case, patients from groups.csv, and a fingerprint that sees every change."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import write_set
from trainer.data import image_folder
from trainer.errors import UserError

SPLITS, CLASSES = ("Train", "Test"), ("non_covid", "covid")
COUNTS = {
    ("Train", "covid"): 3,
    ("Train", "non_covid"): 2,
    ("Test", "covid"): 2,
    ("Test", "non_covid"): 2,
}


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_set(tmp_path / "deep" / "covid_update", COUNTS)


def find(folder: Path) -> image_folder.ImageFolder:
    return image_folder.find(folder, SPLITS, CLASSES)


def test_the_set_is_found_from_any_folder_above_it_in_any_case(folder, tmp_path):
    expected = find(folder)
    assert {split: len(entries) for split, entries in expected.splits.items()} == {
        "Train": 5,
        "Test": 4,
    }
    assert find(tmp_path).fingerprint == expected.fingerprint
    (folder / "Train").rename(folder / "TRAIN")
    (folder / "TRAIN" / "non_covid").rename(folder / "TRAIN" / "Non-COVID")
    assert [entry.filename for entry in find(folder).splits["Train"]] == [
        e.filename for e in expected.splits["Train"]
    ]


def test_patients_and_columns_come_from_groups_csv_however_files_are_named_there(folder):
    for path in (folder / "Test" / "covid").iterdir():
        path.rename(path.with_name(f"test_{path.name}"))
    (folder / "groups.csv").write_text(
        "filename,patient,view\ncovid_000.png,p1,AP\nCovid/covid_001.png,p1,PA\nTrain\\covid\\covid_002.png,p2,AP\nnone.png,p9,PA\n"
    )
    found = find(folder)
    covid = [entry for entry in found.splits["Train"] if entry.label == "covid"]
    assert [(entry.group, entry.columns["view"]) for entry in covid] == [
        ("p1", "AP"),
        ("p1", "PA"),
        ("p2", "AP"),
    ]
    without = [entry for entry in found.splits["Train"] if entry.label == "non_covid"]
    assert all(entry.group == entry.filename for entry in without)
    assert any("1 rows of groups.csv name no image" in remark for remark in found.remarks)
    assert any("have no row" in remark for remark in found.remarks)


def test_what_is_not_an_image_is_passed_over_and_counted(folder):
    before = find(folder).fingerprint
    for name in (".DS_Store", "._covid_000.png", "Thumbs.db"):
        (folder / "Train" / "covid" / name).write_bytes(b"x")
    found = find(folder)
    assert len(found.splits["Train"]) == 5 and any("3 files" in remark for remark in found.remarks)
    assert found.fingerprint == before


def test_the_fingerprint_sees_files_sizes_and_groups(folder):
    seen = {find(folder).fingerprint}
    shutil.copy(folder / "Train/covid/covid_000.png", folder / "Train/covid/copy.png")
    seen.add(find(folder).fingerprint)
    with open(folder / "Train/covid/copy.png", "ab") as file:
        file.write(b"\0")
    seen.add(find(folder).fingerprint)
    (folder / "groups.csv").write_text("filename,patient\ncopy.png,p\n")
    seen.add(find(folder).fingerprint)
    assert len(seen) == 4


def test_files_are_left_out_on_purpose_only_if_they_are_there(folder):
    (folder / "exclude.txt").write_text("# unreadable\nTrain/covid/covid_001.png\n")
    found = find(folder)
    assert len(found.splits["Train"]) == 4 and any(
        "exclude.txt" in remark for remark in found.remarks
    )
    (folder / "exclude.txt").write_text("Train/covid/typo.png\n")
    with pytest.raises(UserError, match=r"typo\.png"):
        find(folder)


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda f: shutil.rmtree(f / "Test"), "Test"),
        (lambda f: shutil.rmtree(f / "Test" / "covid"), "no images of class covid"),
        (lambda f: shutil.rmtree(f), "is not a folder"),
        (lambda f: shutil.copytree(f, f / "again" / "twice"), None),
        (
            lambda f: (f / "groups.csv").write_text("name,id\na,b\n"),
            "needs the columns filename and patient",
        ),
    ],
)
def test_a_damaged_tree_is_answered_in_one_line(folder, damage, words):
    damage(folder)
    if words is None:  # The tree nearest to the folder given is taken.
        assert find(folder).root == folder
        return
    with pytest.raises(UserError, match=words) as caught:
        find(folder)
    assert "\n" not in str(caught.value)


def test_two_sets_side_by_side_are_not_guessed_between(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "deep" / "other")
    with pytest.raises(UserError, match="several sets"):
        find(tmp_path)


@pytest.mark.parametrize(
    "rows, words",
    [
        ("covid_000.png,p1", "names covid_000.png, but 2 files are called that"),
        ("Train/covid/covid_000.png,p1\nTrain/covid/covid_000.png,p2", "two patients"),
    ],
)
def test_rows_that_leave_the_patient_open_are_refused(folder, rows, words):
    (folder / "groups.csv").write_text(f"filename,patient\n{rows}\n")
    with pytest.raises(UserError, match=words) as caught:
        find(folder)
    assert "\n" not in str(caught.value)


def test_rows_may_be_short_and_name_the_folders_as_they_are(folder):
    (folder / "Train" / "non_covid").rename(folder / "Train" / "Non-COVID")
    (folder / "groups.csv").write_text(
        "patient,filename\np1\np2,Train/Non-COVID/non_covid_000.png\n"
    )
    groups = {entry.filename: entry.group for entry in find(folder).splits["Train"]}
    assert groups["Train/non_covid/non_covid_000.png"] == "p2"
    assert groups["Train/non_covid/non_covid_001.png"] == "Train/non_covid/non_covid_001.png"


def test_two_folders_of_one_class_are_refused_and_other_folders_reported(folder):
    (folder / "Train" / "pneumonia").mkdir()
    assert any("Train/pneumonia" in remark for remark in find(folder).remarks)
    (folder / "Train" / "non-covid").mkdir()
    with pytest.raises(UserError, match="two folders for non_covid"):
        find(folder)


def test_a_dicom_is_known_by_its_mark_and_not_by_its_name(folder):
    for name in ("IM0001", "1.2.840.10008.1"):
        (folder / "Train" / "covid" / name).write_bytes(bytes(128) + b"DICM")
    for name in ("README", "notes.txt"):
        (folder / "Train" / "covid" / name).write_bytes(b"x" * 200)
    found = find(folder)
    assert {Path(entry.filename).name for entry in found.splits["Train"]} >= {
        "IM0001",
        "1.2.840.10008.1",
    }
    assert len(found.splits["Train"]) == 7 and any("2 files" in remark for remark in found.remarks)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_links_in_circles_end(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / "a" / "b" / name).symlink_to(tmp_path)
    with pytest.raises(UserError, match="holds no folder"):
        find(tmp_path)
