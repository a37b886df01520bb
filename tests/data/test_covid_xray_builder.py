"""The builder by TFDS's own checks, on the dummy data beside it, and what `tfds build` makes of mistakes."""

import signal
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from tests.conftest import ROOT, run_command, write_set
from trainer.data import image_folder, prepared
from trainer.errors import UserError

MODULE = prepared.load_builder_module("covid_xray")
DUMMY_DATA = ROOT / "datasets" / "covid_xray" / "dummy_data"
COUNTS = {
    ("Train", "covid"): 3,
    ("Train", "non_covid"): 2,
    ("Test", "covid"): 2,
    ("Test", "non_covid"): 2,
}


class CovidXrayTest(tfds.testing.DatasetBuilderTestCase):
    """Builds both configurations and checks registration, tags, shapes, types, counts and that no image is in two splits."""

    DATASET_CLASS = MODULE.Builder
    SPLITS = {"train": 5, "test": 3}


def built(folder: Path, data_dir: Path, config: str = "gray500") -> dict[str, dict]:
    data = prepared.open_dataset(
        "covid_xray", data_dir=str(data_dir), manual_dir=str(folder), config_name=config
    )
    return {
        row["filename"].decode(): row
        for split in ("train", "test")
        for row in data.builder.as_dataset(split).as_numpy_iterator()
    }


def test_each_kind_of_file_enters_with_its_own_header_and_patient(tmp_path):
    rows = built(DUMMY_DATA, tmp_path)
    header = {
        name: (
            row["format"].decode(),
            row["width"],
            row["height"],
            row["channels"],
            row["bit_depth"],
            row["label"],
            row["group"].decode(),
        )
        for name, row in rows.items()
    }
    assert header == {
        "Train/covid/a.png": ("PNG", 36, 40, 1, 8, 1, "p1"),
        "Train/covid/b.jpg": ("JPEG", 40, 36, 3, 8, 1, "p1"),
        "Train/covid/c.png": ("PNG", 35, 33, 1, 16, 1, "p2"),
        "Train/non_covid/a.jpeg": ("JPEG", 40, 38, 1, 8, 0, "p3"),
        "Train/non_covid/b.jpeg": ("JPEG", 40, 34, 1, 8, 0, "Train/non_covid/b.jpeg"),
        "Test/covid/a.png": ("PNG", 36, 36, 4, 8, 1, "p4"),
        "Test/covid/IM0001": ("DICOM", 34, 32, 1, 12, 1, "p4"),
        "Test/non_covid/a.jpeg": ("JPEG", 33, 40, 1, 8, 0, "p5"),
    }
    assert all(
        row["image"].shape == (500, 500, 1) and row["image"].std() > 20 for row in rows.values()
    )


def test_the_original_bytes_are_kept_but_no_name_of_a_patient(tmp_path):
    rows = built(DUMMY_DATA, tmp_path, "original")
    folder = DUMMY_DATA / "covid_update"
    for name, row in rows.items():
        assert (row["file"] == (folder / name).read_bytes()) == (name != "Test/covid/IM0001")
    assert b"Nobody" in (folder / "Test/covid/IM0001").read_bytes()
    assert b"Nobody" not in rows["Test/covid/IM0001"]["file"]


@pytest.mark.parametrize("given", ["missing", "empty", "text.zip"])
def test_tfds_is_told_what_is_wrong_with_what_was_given_rather_than_downloading(
    given, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        MODULE.kaggle,
        "download",
        lambda handle: pytest.fail("asked Kaggle, though data were given"),
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("not a zip")
    builder = MODULE.Builder(data_dir=str(tmp_path / "data"), config="gray500")
    settings = tfds.download.DownloadConfig(
        manual_dir=str(tmp_path / given), try_download_gcs=False
    )
    with pytest.raises(Exception) as caught:
        builder.download_and_prepare(
            download_config=settings, download_dir=str(tmp_path / "downloads")
        )
    assert isinstance(prepared._user_error_in(caught.value), UserError) and given in str(
        caught.value
    )


def test_what_lies_in_tfds_own_manual_folder_is_not_taken_for_the_set(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        MODULE.kaggle, "download", lambda handle: asked.append(handle) or DUMMY_DATA
    )
    (tmp_path / "data" / "downloads" / "manual" / "another_set").mkdir(parents=True)
    data = prepared.open_dataset("covid_xray", data_dir=str(tmp_path / "data"))
    assert asked == [MODULE.KAGGLE_HANDLE] and data.fingerprint["images"] == {"train": 5, "test": 3}


def test_where_there_is_no_source_the_tree_and_the_next_step_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")  # Nobody listens there.
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as caught:
        prepared.open_dataset("covid_xray", data_dir=str(tmp_path))
    first, *tree = str(caught.value).splitlines()
    assert "does not answer" in first and "--manual_dir=FOLDER_OR_ZIP" in first
    assert any("Train/covid" in line for line in tree) and any(
        "Test/covid" in line for line in tree
    )


def test_the_kaggle_numbers_are_recognised():
    def folder(counts):
        splits = {"Train": [], "Test": []}
        for (split, label), count in counts.items():
            splits[split] += [
                image_folder.Entry(f"{split}/{label}/{n}", Path(), label, "", {})
                for n in range(count)
            ]
        return image_folder.ImageFolder(Path(), splits, (), "")

    assert "the Kaggle set's numbers" in MODULE.counts_line(folder(MODULE.KAGGLE_COUNTS))
    assert "another set" in MODULE.counts_line(folder(COUNTS)) and "250" in MODULE.counts_line(
        folder(COUNTS)
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_build_leaves_no_half_made_set_and_the_next_one_succeeds_without_a_network(
    tmp_path,
):
    folder = write_set(tmp_path / "set", COUNTS)
    code = f"""
import os, signal, socket
def deny(*arguments, **options): raise AssertionError("asked the network for something")
socket.getaddrinfo = socket.create_connection = deny
from trainer import prepared, radiograph
reads, read = [], radiograph.read
def killing(*arguments, **options):
    reads.append(1)
    if len(reads) > int(os.environ["READS"]): os.kill(os.getpid(), signal.SIGKILL)
    return read(*arguments, **options)
radiograph.read = killing
data = prepared.open_dataset("covid_xray", data_dir={str(tmp_path / "data")!r}, manual_dir={str(folder)!r})
print(data.fingerprint["images"])
"""
    assert run_command("-c", code, READS="6").returncode == -signal.SIGKILL
    assert not (tmp_path / "data" / "covid_xray" / "gray500" / "1.0.0").exists()
    done = run_command("-c", code, READS="1000")
    assert done.returncode == 0 and "{'test': 4, 'train': 5}" in done.stdout, done.stderr
