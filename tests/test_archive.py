"""Unpacking: all or nothing, and nothing outside the folder."""

import stat
import zipfile

import pytest

from trainer import archive
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


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png"])
def test_entries_that_reach_outside_are_refused_and_nothing_is_left(tmp_path, name):
    file = zipped(tmp_path / "set.zip", {"fine.png": b"x", name: b"x"})
    with pytest.raises(UserError, match="reaches outside"):
        archive.unpack(file, tmp_path / "below")
    assert not list((tmp_path / "below").iterdir()) and not (tmp_path / "out.png").exists()


def test_links_bombs_and_damaged_archives_are_refused(tmp_path, monkeypatch):
    link = zipped(tmp_path / "link.zip", {"link": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    damaged = zipped(tmp_path / "damaged.zip", {"a": bytes(range(256)) * 500})
    data = bytearray(damaged.read_bytes())
    data[200:260] = bytes(60)
    damaged.write_bytes(data)
    (tmp_path / "text.zip").write_text("no zip")
    bomb = zipped(tmp_path / "bomb.zip", {"zeros": bytes(2_000_000)})
    monkeypatch.setattr(archive, "_RATIO_FROM", 1_000_000)
    for file, words in ((link, "holds a link"), (damaged, "download it again"), (tmp_path / "text.zip", "download it again"),
                        (bomb, "would unpack to")):
        with pytest.raises(UserError, match=words):
            archive.unpack(file, tmp_path / "below")
    assert not list((tmp_path / "below").iterdir())
