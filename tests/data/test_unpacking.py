"""Tests of unpacking: all or nothing, and nothing outside the folder."""

import contextlib
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import unpacking
from trainer.errors import UserError


def write_zip(path: Path, entries: dict[str, bytes], **attributes: Any) -> Path:
    """Writes a zip; the attributes are set on the information of each entry."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zip_file:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(info, key, value)
            zip_file.writestr(info, data)
    return path


def error_message(file: Path, parent: Path) -> str:
    with pytest.raises(UserError) as caught:
        unpacking.unpack(file, parent)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_zip_is_unpacked_once_and_reused(tmp_path):
    file = write_zip(tmp_path / "set.zip", {"a/b.png": b"image", "c.png": b"other"})
    folder = unpacking.unpack(file, tmp_path / "parent")
    assert (folder / "a" / "b.png").read_bytes() == b"image"
    # A second unpacking would restore the file.
    (folder / "c.png").write_bytes(b"changed")
    again = unpacking.unpack(file, tmp_path / "parent")
    assert (again / "c.png").read_bytes() == b"changed"


@pytest.mark.parametrize(
    "name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png"]
)
def test_entries_that_reach_outside_are_rejected_and_nothing_remains(tmp_path, name):
    file = write_zip(tmp_path / "set.zip", {"fine.png": b"x", name: b"x"})
    parent = tmp_path / "parent"
    assert "reaches outside" in error_message(file, parent)
    assert not list(parent.iterdir())
    assert not (tmp_path / "out.png").exists()


def test_links_bombs_and_damaged_archives_are_rejected(tmp_path, monkeypatch):
    # The upper half holds the Unix mode.
    link_mode = (stat.S_IFLNK | 0o777) << 16
    link = write_zip(tmp_path / "link.zip", {"link": b"/etc/passwd"}, external_attr=link_mode)
    damaged = write_zip(tmp_path / "damaged.zip", {"a": bytes(range(256)) * 500})
    data = bytearray(damaged.read_bytes())
    # Within the compressed data.
    data[200:260] = bytes(60)
    damaged.write_bytes(data)
    text = tmp_path / "text.zip"
    text.write_text("no zip", encoding="utf-8")
    # Packs at about 1000 to 1; the limit is 200.
    bomb = write_zip(tmp_path / "bomb.zip", {"zeros": bytes(2_000_000)})
    # Small archives are exempt from the ratio.
    monkeypatch.setattr(unpacking, "_MIN_RATIO_BYTES", 1_000_000)
    parent = tmp_path / "parent"
    assert "holds a link" in error_message(link, parent)
    assert "get it again" in error_message(damaged, parent)
    assert "neither a folder nor" in error_message(text, parent)
    assert "would unpack to" in error_message(bomb, parent)
    assert not list(parent.iterdir())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        # A name that is a file and a folder; one too long; the folder itself.
        ({"a": b"x", "a/b": b"x"}, "cannot be unpacked below"),
        ({"a" * 300: b"x"}, "cannot be unpacked below"),
        ({".": b"x"}, "reaches outside"),
    ],
)
def test_entries_that_no_disk_can_hold_get_one_line(tmp_path, entries, words):
    parent = tmp_path / "parent"
    file = write_zip(tmp_path / "set.zip", entries)
    assert words in error_message(file, parent)
    assert not list(parent.iterdir())


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("a file, not a folder", encoding="utf-8")
    file = write_zip(tmp_path / "set.zip", {"a": b"x"})
    assert "--data_dir" in error_message(file, tmp_path / "file" / "parent")


@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20)
)
def test_any_damage_is_rejected_or_harmless(tmp_path_factory, flips):
    folder = tmp_path_factory.mktemp("damaged")
    entries = {"a/b.png": bytes(range(200)) * 9, "c/d.png": b"other" * 50}
    file = write_zip(folder / "set.zip", entries)
    data = bytearray(file.read_bytes())
    for position, value in flips:
        data[position % len(data)] = value
    file.write_bytes(data)
    with contextlib.suppress(UserError):
        unpacking.unpack(file, folder / "parent")
    # Neither files outside nor partial folders remain.
    assert {path.name for path in folder.iterdir()} <= {"set.zip", "parent"}
    assert not list(folder.glob("parent/unpacking_*"))
