"""Tests of listing files to predict for: one source a file, whatever the file is."""

import contextlib
import shutil
import zipfile

import numpy as np
import pytest

from tests.data import random_trees
from tests.data.pictures import encode, gradient
from trainer.data import radiograph
from trainer.errors import UserError
from trainer.inference import sources


def test_each_file_of_a_thousand_random_trees_has_one_source(tmp_path):
    for seed in range(1000):
        tree = random_trees.write(np.random.default_rng(seed), tmp_path / "tree")
        listed = list(sources.list_sources([tree.folder]))
        assert len(listed) == tree.rows, seed
        assert len({source.name for source in listed}) == tree.rows, seed
        contents = list(sources.read(listed))
        assert [source for source, _ in contents] == listed, seed
        for source, content in contents:
            source.name.encode("utf-8")
            if not isinstance(content, UserError):
                check_reading(content)
        shutil.rmtree(tree.folder)


def check_reading(content):
    # Any other error fails the test.
    with contextlib.suppress(radiograph.RadiographError):
        radiograph.read(content, name="the file")


def test_the_first_bytes_decide_on_archives(tmp_path):
    film = encode(gradient())
    (tmp_path / "film.png").write_bytes(film + random_trees.END_OF_ZIP)
    with zipfile.ZipFile(tmp_path / "films.png", "w") as archive:
        archive.writestr("a/1.png", film)
    names = [source.name for source in sources.list_sources([tmp_path])]
    assert names == [f"{tmp_path}/film.png", f"{tmp_path}/films.png/a/1.png"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04 cut off", "damaged or cut off"),
        (b"PK\x05\x06" + bytes(18), "is empty"),
        (b"7z\xbc\xaf\x27\x1c", "unpack it yourself"),
        (b"\x1f\x8b cut off", "unpack it yourself"),
    ],
)
def test_archives_that_cannot_be_read_have_a_row_with_the_reason(tmp_path, data, words):
    (tmp_path / "a.zip").write_bytes(data)
    (tmp_path / "b.png").write_bytes(encode(gradient()))
    first, second = sources.read(sources.list_sources([tmp_path]))
    assert isinstance(first[1], UserError)
    assert words in str(first[1])
    assert str(tmp_path) not in str(first[1])
    assert second[1] == tmp_path / "b.png"


def test_an_archive_that_vanishes_leaves_an_error_a_member(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("1.png", "2.png"):
            archive.writestr(name, encode(gradient()))
    listed = list(sources.list_sources([path]))
    path.unlink()
    contents = [content for _, content in sources.read(listed)]
    assert len(contents) == 2
    assert all(isinstance(content, UserError) for content in contents)


def test_documents_are_files_and_no_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "report.docx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<w/>")
    assert [source.member for source in sources.list_sources([tmp_path])] == [None]


def test_wildcards_that_the_shell_left_are_expanded(tmp_path):
    for name in ("a.png", "b.png", "c.jpg", "[1].png"):
        (tmp_path / name).write_bytes(b"x")
    names = [source.path.name for source in sources.list_sources([tmp_path / "?.png"])]
    assert names == ["a.png", "b.png"]
    # A file of that very name comes first.
    names = [source.path.name for source in sources.list_sources([tmp_path / "[1].png"])]
    assert names == ["[1].png"]
    with pytest.raises(UserError, match="does not exist"):
        list(sources.list_sources([tmp_path / "*.tiff"]))
