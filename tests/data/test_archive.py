"""Unpacking: all or nothing, and nothing outside the folder."""

import contextlib
import stat
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import archive
from trainer.errors import UserError


def zipped(path, entries: dict[str, bytes], **attributes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(info, key, value)
            file.writestr(info, data)
    return path


def test_a_zip_is_unpacked_once_and_found_again(tmp_path):
    file = zipped(tmp_path / "set.zip", {"a/b.png": b"image", "c.png": b"other"})
    folder = archive.unpack(file, tmp_path / "below")
    assert (folder / "a" / "b.png").read_bytes() == b"image"
    (folder / "c.png").write_bytes(b"seen")
    assert (archive.unpack(file, tmp_path / "below") / "c.png").read_bytes() == b"seen"


@pytest.mark.parametrize(
    "name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png"]
)
def test_entries_that_reach_outside_are_refused_and_nothing_is_left(tmp_path, name):
    file = zipped(tmp_path / "set.zip", {"fine.png": b"x", name: b"x"})
    with pytest.raises(UserError, match="reaches outside"):
        archive.unpack(file, tmp_path / "below")
    assert not list((tmp_path / "below").iterdir()) and not (tmp_path / "out.png").exists()


def test_links_bombs_and_damaged_archives_are_refused(tmp_path, monkeypatch):
    link = zipped(
        tmp_path / "link.zip", {"link": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16
    )
    damaged = zipped(tmp_path / "damaged.zip", {"a": bytes(range(256)) * 500})
    data = bytearray(damaged.read_bytes())
    data[200:260] = bytes(60)
    damaged.write_bytes(data)
    (tmp_path / "text.zip").write_text("no zip")
    bomb = zipped(tmp_path / "bomb.zip", {"zeros": bytes(2_000_000)})
    monkeypatch.setattr(archive, "_RATIO_FROM", 1_000_000)
    for file, words in (
        (link, "holds a link"),
        (damaged, "download it again"),
        (tmp_path / "text.zip", "download it again"),
        (bomb, "would unpack to"),
    ):
        with pytest.raises(UserError, match=words):
            archive.unpack(file, tmp_path / "below")
    assert not list((tmp_path / "below").iterdir())


@pytest.mark.parametrize(
    "entries, words",
    [
        ({"a": b"x", "a/b": b"x"}, "cannot be unpacked below"),
        ({"a" * 300: b"x"}, "cannot be unpacked below"),
        ({".": b"x"}, "reaches outside"),
    ],
)
def test_entries_that_no_disk_can_hold_are_answered_in_one_line(tmp_path, entries, words):
    with pytest.raises(UserError, match=words) as caught:
        archive.unpack(zipped(tmp_path / "set.zip", entries), tmp_path / "below")
    assert "\n" not in str(caught.value) and not list((tmp_path / "below").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="--data_dir"):
        archive.unpack(zipped(tmp_path / "set.zip", {"a": b"x"}), tmp_path / "file" / "below")


@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20)
)
def test_any_damage_is_answered_or_harmless(tmp_path_factory, flips):
    folder = tmp_path_factory.mktemp("damaged")
    file = zipped(folder / "set.zip", {"a/b.png": bytes(range(200)) * 9, "c/d.png": b"other" * 50})
    data = bytearray(file.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    file.write_bytes(data)
    with contextlib.suppress(UserError):
        archive.unpack(file, folder / "below")
    assert {path.name for path in folder.iterdir()} <= {"set.zip", "below"}
    assert not list(folder.glob("below/unpacking_*"))
