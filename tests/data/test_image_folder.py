"""Tests of finding a set: any depth, any case, patients, exclusions, and the fingerprint."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import write_set
from tests.data.sets import COUNTS
from trainer.data import image_folder
from trainer.errors import UserError

SPLITS = ("Train", "Test")
CLASSES = ("non_covid", "covid")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A set of nine images, two levels below tmp_path."""
    return write_set(tmp_path / "deep" / "covid_update", COUNTS)


def find(folder: Path) -> image_folder.ImageFolder:
    return image_folder.find(folder, SPLITS, CLASSES)


def error_message(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        find(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def filenames(source: image_folder.ImageFolder, split: str = "Train") -> list[str]:
    return [entry.filename for entry in source.splits[split]]


def test_set_is_found_from_any_parent_in_any_case(folder, tmp_path):
    expected = find(folder)
    assert len(expected.splits["Train"]) == 5
    assert len(expected.splits["Test"]) == 4
    assert find(tmp_path).fingerprint == expected.fingerprint
    # Copies of the set differ in case and hyphens.
    (folder / "Train").rename(folder / "TRAIN")
    (folder / "TRAIN" / "non_covid").rename(folder / "TRAIN" / "Non-COVID")
    assert filenames(find(folder)) == filenames(expected)


def test_patients_and_columns_come_from_groups_csv(folder):
    # Names must be unique, so those of Test change.
    for path in (folder / "Test" / "covid").iterdir():
        path.rename(path.with_name(f"test_{path.name}"))
    lines = [
        "filename,patient,view",
        "covid_000.png,p1,AP",
        "Covid/covid_001.png,p1,PA",
        "Train\\covid\\covid_002.png,p2,AP",
        "none.png,p9,PA",
    ]
    (folder / "groups.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = find(folder)
    covid = [entry for entry in source.splits["Train"] if entry.label == "covid"]
    assert [(entry.group, entry.columns["view"]) for entry in covid] == [
        ("p1", "AP"),
        ("p1", "PA"),
        ("p2", "AP"),
    ]
    without_row = [entry for entry in source.splits["Train"] if entry.label == "non_covid"]
    assert all(entry.group == entry.filename for entry in without_row)
    remarks = "\n".join(source.remarks)
    assert "1 rows of groups.csv name no image" in remarks
    assert "have no row" in remarks


def test_other_files_are_skipped_and_counted(folder):
    # Files of the system must not change the identity of a set.
    before = find(folder).fingerprint
    for name in (".DS_Store", "._covid_000.png", "Thumbs.db"):
        (folder / "Train" / "covid" / name).write_bytes(b"x")
    source = find(folder)
    assert len(source.splits["Train"]) == 5
    # Hidden files are nobody's own.
    assert "1 files are no PNG" in source.remarks[0]
    assert "Thumbs.db" in source.remarks[0]
    assert source.fingerprint == before


def test_fingerprint_depends_on_files_sizes_and_groups(folder):
    fingerprints = {find(folder).fingerprint}
    # A further file, a changed size, a row: three changes.
    copy = folder / "Train/covid/copy.png"
    shutil.copy(folder / "Train/covid/covid_000.png", copy)
    fingerprints.add(find(folder).fingerprint)
    with open(copy, "ab") as file:
        file.write(b"\0")
    fingerprints.add(find(folder).fingerprint)
    (folder / "groups.csv").write_text("filename,patient\ncopy.png,p\n", encoding="utf-8")
    fingerprints.add(find(folder).fingerprint)
    assert len(fingerprints) == 4


def test_exclusions_must_name_existing_files(folder):
    (folder / "exclude.txt").write_text(
        "# unreadable\nTrain/covid/covid_001.png\n", encoding="utf-8"
    )
    source = find(folder)
    assert len(source.splits["Train"]) == 4
    assert "exclude.txt" in "\n".join(source.remarks)
    # A typing error must not leave a file in.
    (folder / "exclude.txt").write_text("Train/covid/typo.png\n", encoding="utf-8")
    assert "typo.png" in error_message(folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: shutil.rmtree(root / "Test"), "Test"),
        (lambda root: shutil.rmtree(root / "Test" / "covid"), "no images of class covid"),
        (lambda root: shutil.rmtree(root), "is not a folder"),
        (
            lambda root: (root / "groups.csv").write_text("name,id\na,b\n", encoding="utf-8"),
            "needs the columns filename and patient",
        ),
    ],
    ids=["no split", "no class", "no folder", "other columns"],
)
def test_incomplete_tree_gets_one_line(folder, damage, words):
    damage(folder)
    assert words in error_message(folder)


def test_nearest_of_nested_sets_is_taken(folder):
    # The copy lies two levels deeper.
    shutil.copytree(folder, folder / "again" / "twice")
    assert find(folder).root == folder


def test_two_sets_side_by_side_are_rejected(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "deep" / "other")
    assert "several sets" in error_message(tmp_path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("covid_000.png,p1", "names covid_000.png, but 2 files are called that"),
        ("Train/covid/covid_000.png,p1\nTrain/covid/covid_000.png,p2", "two patients"),
    ],
)
def test_ambiguous_rows_are_rejected(folder, rows, words):
    (folder / "groups.csv").write_text(f"filename,patient\n{rows}\n", encoding="utf-8")
    assert words in error_message(folder)


def test_rows_may_be_short_and_may_use_the_folders_real_names(folder):
    (folder / "Train" / "non_covid").rename(folder / "Train" / "Non-COVID")
    # The first row is short, the second names the real folder.
    rows = "patient,filename\np1\np2,Train/Non-COVID/non_covid_000.png\n"
    (folder / "groups.csv").write_text(rows, encoding="utf-8")
    groups = {entry.filename: entry.group for entry in find(folder).splits["Train"]}
    assert groups["Train/non_covid/non_covid_000.png"] == "p2"
    assert groups["Train/non_covid/non_covid_001.png"] == "Train/non_covid/non_covid_001.png"


def test_two_folders_of_one_class_are_rejected_and_other_folders_reported(folder):
    # An unknown class is reported, not an error.
    (folder / "Train" / "pneumonia").mkdir()
    shutil.copy(folder / "Train/covid/covid_000.png", folder / "Train" / "pneumonia")
    assert "Train/pneumonia/covid_000.png" in "\n".join(find(folder).remarks)
    (folder / "Train" / "non-covid").mkdir()
    assert "two folders for non_covid" in error_message(folder)


def test_dicom_is_recognised_by_its_bytes_and_not_by_its_name(folder):
    for name in ("IM0001", "1.2.840.10008.1"):
        # The mark of a DICOM file after its preamble.
        (folder / "Train" / "covid" / name).write_bytes(bytes(128) + b"DICM")
    for name in ("README", "notes.txt"):
        (folder / "Train" / "covid" / name).write_bytes(b"x" * 200)
    source = find(folder)
    names = {Path(filename).name for filename in filenames(source)}
    assert names >= {"IM0001", "1.2.840.10008.1"}
    assert len(names) == 7
    assert "2 files" in "\n".join(source.remarks)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_circular_links_end(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("one", "two"):
        # Two links to a parent: paths of any length exist.
        (tmp_path / "a" / "b" / name).symlink_to(tmp_path)
    assert "holds no folder" in error_message(tmp_path)


def test_folder_without_images_is_rejected(tmp_path):
    for folder in (tmp_path, tmp_path / "none", Path(__file__)):
        with pytest.raises(UserError, match="images"):
            image_folder.find_loose(folder)
