"""Tests of patients: cells that stand for none, and patients that make a score doubtful."""

import numpy as np
import pytest

from tests.conftest import write_set
from tests.data.dicom_files import gradient, make_dicom
from tests.data.sets import fault
from trainer.config import TrainConfig
from trainer.data import any_source, dicom, image_folder, patients, radiograph_set, tables
from trainer.data.columns import Named

COUNTS = {("Train", "covid"): 6, ("Train", "non_covid"): 6, ("Test", "covid"): 6}
MISSING = ["", "nan", "NaN", "NA", "N/A", "n/a", "None", "null", "NULL", "-", "<NA>", "#N/A", "—"]


def readers(folder):
    """Groups and remarks of one set, as each layout's reader gives them."""
    fixed = image_folder.find(folder, ("Train", "Test"), ("non_covid", "covid"))
    entries = [entry for listed in fixed.splits.values() for entry in listed]
    yield {entry.filename: entry.group for entry in entries}, fixed.remarks
    free = radiograph_set.read(folder, Named())
    text = radiograph_set.describe(free)
    yield dict(zip(free.filenames, free.groups, strict=True)), text.splitlines()


@pytest.fixture
def folder(tmp_path):
    """A set of 24 images, without groups.csv."""
    return write_set(tmp_path / "set", {**COUNTS, ("Test", "non_covid"): 6})


@pytest.mark.parametrize("cell", [*MISSING, " nan "])
def test_cells_that_stand_for_no_patient_never_join_images(folder, cell):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f'{name},"{cell}","{cell}"' for name in names[:20]]
    rows += [f"{name},p1,A" for name in names[20:22]] + [f"{name},p2,B" for name in names[22:]]
    (folder / "groups.csv").write_text(
        "\n".join(["filename,patient,site", *rows]) + "\n", encoding="utf-8"
    )
    for groups, remarks in readers(folder):
        assert len(set(groups.values())) == 22
        assert any(line.startswith("20 images have no patient in groups.csv") for line in remarks)
        assert not any("WARNING" in line for line in remarks)
    fixed = image_folder.find(folder, ("Train", "Test"), ("non_covid", "covid"))
    sites = {entry.columns["site"] for listed in fixed.splits.values() for entry in listed}
    assert sites == {"", "A", "B"}


def test_patient_of_dicom_may_be_missing(tmp_path):
    for cell in filter(str.isascii, MISSING):
        path = tmp_path / "a.dcm"
        path.write_bytes(make_dicom(gradient(4095), bits=12, PatientID=cell))
        assert dicom.read_patient(path) == ""


@pytest.mark.parametrize("cell", ["0", "1", "nandini", "p-", "anna", "Nona", "12.0"])
def test_other_cells_are_patients(cell):
    assert not tables.is_missing(cell)


def test_patient_with_a_fifth_of_the_set_or_in_both_splits_is_warned_of(folder):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{name},{'unknown' if index % 2 else index}" for index, name in enumerate(names)]
    (folder / "groups.csv").write_text(
        "\n".join(["filename,patient", *rows]) + "\n", encoding="utf-8"
    )
    for _, remarks in readers(folder):
        text = "\n".join(remarks)
        assert "WARNING: one patient has 12 of 24 images" in text
        assert "WARNING: 1 patients have images in several splits" in text
        assert "1 of 13 patients have images of several classes" in text
    source = any_source.find(folder, folder.parent, TrainConfig())
    assert any("WARNING: one patient has 12 of 24 images" in line for line in source.remarks)


def test_patients_with_one_image_or_known_ones_are_no_doubt():
    groups = ["a", "b", "c"]
    assert patients.check(groups, groups, ["x", "y", "x"], ["train", "test", None]) == []
    many = [str(index // 2) for index in range(20)]
    assert patients.check(many, many, None, ["train"] * 20) == []


def test_doubts_agree_with_counting():
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(1, 40))
        groups = rng.integers(0, 12, count).astype(str).tolist()
        labels = rng.integers(0, 2, count).astype(str).tolist()
        splits = rng.choice(["train", "test"], count).tolist()
        lines = patients.check(groups, groups, labels, splits)
        owned = {group: [i for i in range(count) if groups[i] == group] for group in groups}
        large = sum(len(rows) > max(1, 0.2 * count) for rows in owned.values())
        leaked = sum(len({splits[i] for i in rows}) > 1 for rows in owned.values())
        mixed = sum(len({labels[i] for i in rows}) > 1 for rows in owned.values())
        assert sum("one patient has" in line for line in lines) == large
        assert any(line.startswith(f"WARNING: {leaked} patients have") for line in lines) == (
            leaked > 0
        )
        assert any(line.startswith(f"{mixed} of ") for line in lines) == (mixed > 0)


def test_fault_of_nan_patients_is_read_as_separate_images():
    for groups, remarks in readers(fault("t_nan/set")):
        assert len(set(groups.values())) == 90
        assert any("60 images have no patient" in line for line in remarks)
