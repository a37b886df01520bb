"""Tests of the covid_xray builder: TFDS's own checks, the dummy data, and mistakes of the user."""

import signal
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from tests.conftest import KILL_AFTER_READS, ROOT, run_command, write_set
from tests.data.sets import COUNTS, build_originals, open_set, read_rows
from trainer.data import image_folder, prepared
from trainer.errors import UserError

MODULE = prepared.load_builder_module("covid_xray")
DUMMY_DATA = ROOT / "datasets" / "covid_xray" / "dummy_data"


class CovidXrayTest(tfds.testing.DatasetBuilderTestCase):
    """Builds all configurations and checks registration, tags, shapes, types and counts.

    It also checks that no image is in two splits.
    """

    DATASET_CLASS = MODULE.Builder
    SPLITS = {"train": 5, "test": 3}


def test_each_kind_of_file_has_its_own_header_and_patient(tmp_path):
    rows = read_rows(open_set(tmp_path, manual_dir=DUMMY_DATA).builder)
    # The order of the tuples below, between format and group.
    numbers = ("width", "height", "channels", "bit_depth", "label")
    properties = {
        name: (
            row["format"].decode(),
            *(row[number] for number in numbers),
            row["group"].decode(),
        )
        for name, row in rows.items()
    }
    assert properties == {
        "Train/covid/a.png": ("PNG", 36, 40, 1, 8, 1, "p1"),
        "Train/covid/b.jpg": ("JPEG", 40, 36, 3, 8, 1, "p1"),
        "Train/covid/c.png": ("PNG", 35, 33, 1, 16, 1, "p2"),
        "Train/non_covid/a.jpeg": ("JPEG", 40, 38, 1, 8, 0, "p3"),
        "Train/non_covid/b.jpeg": ("JPEG", 40, 34, 1, 8, 0, "Train/non_covid/b.jpeg"),
        "Test/covid/a.png": ("PNG", 36, 36, 4, 8, 1, "p4"),
        "Test/covid/IM0001": ("DICOM", 34, 32, 1, 12, 1, "p4"),
        "Test/non_covid/a.jpeg": ("JPEG", 33, 40, 1, 8, 0, "p5"),
    }
    for row in rows.values():
        assert row["image"].shape == (500, 500, 1)
        assert row["image"].std() > 20


def test_original_bytes_are_stored_but_no_name_of_a_patient(tmp_path):
    rows = read_rows(build_originals(DUMMY_DATA, tmp_path))
    folder = DUMMY_DATA / "covid_update"
    dicom = "Test/covid/IM0001"
    for name, row in rows.items():
        # Only a DICOM is converted, to lose its tags.
        unchanged = row["file"] == (folder / name).read_bytes()
        assert unchanged == (name != dicom)
    assert b"Nobody" in (folder / dicom).read_bytes()
    assert b"Nobody" not in rows[dicom]["file"]


@pytest.mark.parametrize("name", ["missing", "empty", "text.zip"])
def test_bad_manual_dir_is_an_error_and_starts_no_download(name, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE.kaggle, "download", lambda handle: pytest.fail("asked Kaggle"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("not a zip", encoding="utf-8")
    builder = MODULE.Builder(data_dir=str(tmp_path / "data"), config="gray500")
    settings = tfds.download.DownloadConfig(manual_dir=str(tmp_path / name), try_download_gcs=False)
    with pytest.raises(Exception, match=name) as caught:
        builder.download_and_prepare(
            download_config=settings, download_dir=str(tmp_path / "downloads")
        )
    # TFDS wraps the error of the builder.
    assert isinstance(prepared._find_user_error(caught.value), UserError)


def test_default_manual_folder_of_tfds_is_ignored(tmp_path, monkeypatch):
    # The downloads that were asked for.
    handles = []

    def download(handle: str) -> Path:
        handles.append(handle)
        return DUMMY_DATA

    monkeypatch.setattr(MODULE.kaggle, "download", download)
    (tmp_path / "downloads" / "manual" / "another_set").mkdir(parents=True)
    data = open_set(tmp_path)
    assert handles == [MODULE.KAGGLE_HANDLE]
    assert data.fingerprint["images"] == {"train": 5, "test": 3}


def test_missing_source_shows_the_expected_tree_and_the_next_step(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")  # No server listens there.
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as caught:
        open_set(tmp_path)
    # The only message with several lines: it draws a tree.
    first, *tree = str(caught.value).splitlines()
    assert "does not answer" in first
    assert "--manual_dir=FOLDER_OR_ZIP" in first
    assert "Train/covid" in "".join(tree)
    assert "Test/covid" in "".join(tree)


def test_numbers_of_the_kaggle_set_are_recognised():
    def splits_with(counts: dict[tuple[str, str], int]) -> dict[str, list[image_folder.Entry]]:
        splits = {"train": [], "test": []}
        for (split, label), count in counts.items():
            for number in range(count):
                name = f"{split}/{label}/{number}"
                entry = image_folder.Entry(name, Path(), label, "", {})
                splits[split.lower()].append(entry)
        return splits

    assert "the Kaggle set's numbers" in MODULE.counts_line(splits_with(MODULE.KAGGLE_COUNTS))
    # Other numbers are shown beside the Kaggle set's.
    other = MODULE.counts_line(splits_with(COUNTS))
    assert "another set" in other
    assert "250" in other


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_build_leaves_no_partial_set_and_the_next_one_succeeds_offline(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    data_dir = tmp_path / "data"
    code = f"""
import socket

def deny(*arguments, **options):
    raise AssertionError("used the network")

socket.getaddrinfo = socket.create_connection = deny
from trainer.config import TrainConfig
from trainer.data import prepared
{KILL_AFTER_READS}
config = TrainConfig(dataset="covid_xray", data_dir={str(data_dir)!r}, manual_dir={str(folder)!r})
print(prepared.open_from_config(config).fingerprint["images"])
"""
    # Killed after six of nine files.
    assert run_command("-c", code, READS="6").returncode == -signal.SIGKILL
    assert not (data_dir / "covid_xray" / "gray500" / "1.0.0").exists()
    process = run_command("-c", code, READS="1000")
    assert process.returncode == 0, process.stderr
    assert "{'test': 4, 'train': 5}" in process.stdout
