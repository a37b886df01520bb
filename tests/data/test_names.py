"""Tests of names compared in one form, and of tables that are not of the images."""

import os
import sys
import tarfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import write_set
from tests.data.sets import COUNTS, fault, open_set
from trainer.config import TrainConfig
from trainer.data import annotations, any_source, file_names, image_folder, radiograph_set, tables
from trainer.data.columns import Named
from trainer.data.file_index import FileIndex
from trainer.errors import UserError

CLASSES = ("non_covid", "covid")
FORMS = ["NFC", "NFD"]
# Letters that have accents, and some of other scripts.
LETTERS = st.text("aeéüößñçÅ胸部가ğйй", min_size=1, max_size=8)


def groups_of(folder: Path) -> list[dict[str, str]]:
    """Filename → group, as each layout's reader gives them."""
    fixed = image_folder.find(folder, ("Train", "Test"), CLASSES)
    entries = [entry for listed in fixed.splits.values() for entry in listed]
    free = radiograph_set.read(folder, Named())
    return [
        {entry.filename: entry.group for entry in entries},
        dict(zip(free.filenames, free.groups, strict=True)),
    ]


def rename(folder: Path, form: str) -> list[str]:
    """Gives the images names with accents; returns their relative paths in NFC."""
    for path in sorted(folder.rglob("*.png")):
        path.rename(path.with_name(unicodedata.normalize(form, f"Müller_é_{path.name}")))
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    return [unicodedata.normalize("NFC", name) for name in names]


@pytest.mark.parametrize("on_disk", FORMS)
@pytest.mark.parametrize("in_table", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_accents_match_in_any_form(tmp_path, on_disk, in_table, encoding):
    if encoding == "cp1252" and in_table == "NFD":
        pytest.skip("Windows-1252 has no accents of their own")
    folder = write_set(tmp_path / "set", COUNTS)
    names = rename(folder, on_disk)
    lines = [f"{name},p{index // 2}" for index, name in enumerate(names)]
    text = unicodedata.normalize(in_table, "\n".join(["filename,patient", *lines]))
    (folder / "groups.csv").write_bytes(text.encode(encoding))
    excluded = unicodedata.normalize(in_table, names[0])
    (folder / "exclude.txt").write_bytes(excluded.encode(encoding))
    for groups in groups_of(folder):
        assert len(groups) == len(names) - 1
        assert set(groups.values()) == {f"p{index // 2}" for index in range(1, len(names))}


@given(st.lists(LETTERS, min_size=1, max_size=4), st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_any_name_is_found_in_any_form(levels, first, second):
    on_disk = unicodedata.normalize(first, "/".join(levels) + ".png")
    in_table = unicodedata.normalize(second, "x\\" + "\\".join(levels) + ".PNG")
    assert FileIndex(["other.png", on_disk]).find(in_table) == 1
    key = annotations.normalize_path(on_disk)
    assert key == annotations.normalize_path(in_table.removeprefix("x\\"))
    assert FileIndex([on_disk]).find("./" + on_disk) == 0


@given(st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"\0/")))
def test_escaped_names_are_read_back(name):
    text = file_names.to_text(os.fsdecode(name))
    text.encode()
    assert os.fsencode(file_names.from_text(text)) == name
    file_names.to_readable(text).encode()
    assert FileIndex([text]).find(text) in (0, None)


@pytest.mark.skipif(sys.platform != "linux", reason="names must be UTF-8 elsewhere")
@pytest.mark.parametrize("written", ["röntgen.png", r"r\xf6ntgen.png"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_of_other_bytes_match_tables(tmp_path, written, encoding):
    folder = write_set(tmp_path / "set", COUNTS)
    source = folder / "Train" / "covid" / "covid_000.png"
    os.rename(os.fsencode(source), os.fsencode(source.parent) + b"/r\xf6ntgen.png")
    rows = [f"Train/covid/{written},p1", *(f"Train/covid/covid_00{i}.png,p1" for i in (1, 2))]
    (folder / "groups.csv").write_bytes("\n".join(["filename,patient", *rows]).encode(encoding))
    for groups in groups_of(folder):
        assert list(groups.values()).count("p1") == 3


def test_classes_of_any_script_stay_apart(tmp_path):
    folder = write_set(tmp_path / "set", {("正常", "a"): 2, ("肺炎", "a"): 3})
    images = radiograph_set.read(folder, Named())
    assert set(images.labels.names) == {"正常", "肺炎"}
    assert annotations.normalize("Non-COVID 19") == "noncovid19"
    assert annotations.normalize("+") != annotations.normalize("-")


STRANGE = ["s/x_0.png", "s/x_1.png", "s/x_2.png", "s/x_3.png", "s/x_4.png"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("groups.csv", "filename,patient\n" + "".join(f"{name},p\n" for name in STRANGE)),
        ("exclude.txt", "\n".join(STRANGE)),
        ("labels.csv", "filename,label\n" + "".join(f"{name},covid\n" for name in STRANGE)),
        ("patients.csv", "image,patient\n" + "".join(f"{name},p\n" for name in STRANGE)),
    ],
)
def test_table_of_other_images_is_an_error_that_shows_both(tmp_path, file, content):
    folder = write_set(tmp_path / "set", COUNTS)
    (folder / file).write_text(content, encoding="utf-8")
    readers = [lambda: radiograph_set.read(folder, Named())]
    if file in annotations.FILES:
        readers.append(lambda: image_folder.find(folder, ("Train", "Test"), CLASSES))
    for read in readers:
        with pytest.raises(UserError) as caught:
            read()
        message = str(caught.value)
        assert "s/x_0.png" in message
        assert "s/x_1.png" in message
        assert message.count("covid_00") >= 2
        assert "\n" not in message
    if file in annotations.FILES:
        # A run must not go on in another layout, which would not see the table.
        with pytest.raises(UserError, match=r"s/x_0\.png"):
            open_set(tmp_path / "data", "auto", folder)
    else:
        fixed = image_folder.find(folder, ("Train", "Test"), CLASSES)
        assert any(file in line for line in fixed.remarks)


def test_lists_of_other_images_are_an_error(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    for name in ("train_val_list.txt", "test_list.txt"):
        (folder / name).write_text("\n".join(STRANGE), encoding="utf-8")
    with pytest.raises(tables.TableError, match=r"s/x_0\.png and s/x_1\.png"):
        radiograph_set.read(folder, Named())


def test_tables_of_a_part_or_of_more_than_the_set_are_read(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    few = [f"{name},p" for name in names[:2]]
    more = [f"{name},{index}" for index, name in enumerate(names)] + [f"{n},q" for n in STRANGE * 9]
    for rows in (few, more):
        (folder / "groups.csv").write_text("\n".join(["filename,patient", *rows]), encoding="utf-8")
        for groups in groups_of(folder):
            assert len(set(groups.values())) == len(names) - (rows is few)


def test_patients_beside_joined_tables_are_read(tmp_path):
    folder = tmp_path / "set"
    names = write_set(folder, COUNTS) and sorted(folder.rglob("*.png"))
    for split, chosen in (("train", names[::2]), ("test", names[1::2])):
        rows = [f"{path.name},{path.parent.name}/{path.parent.parent.name}" for path in chosen]
        lines = [
            f"{path.relative_to(folder).as_posix()},{row[-5:]}"
            for path, row in zip(chosen, rows, strict=True)
        ]
        (folder / f"{split}.csv").write_text(
            "\n".join(["filename,label", *lines]), encoding="utf-8"
        )
    patients = [f"{path.relative_to(folder).as_posix()},p{i // 3}" for i, path in enumerate(names)]
    (folder / "groups.csv").write_text("\n".join(["filename,patient", *patients]), encoding="utf-8")
    assert set(radiograph_set.read(folder, Named()).groups) == {"p0", "p1", "p2"}


def test_tables_that_name_no_images_are_named(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    (folder / "scanners.csv").write_text("scanner,room\nA,1\nB,2\n", encoding="utf-8")
    images = radiograph_set.read(folder, Named())
    assert any("scanners.csv" in line for line in images.remarks)


@pytest.mark.parametrize("content", [b"", b"\n", b" , \n", b"filename,patient\n"])
def test_empty_groups_are_an_error(tmp_path, content):
    folder = write_set(tmp_path / "set", COUNTS)
    (folder / "groups.csv").write_bytes(content)
    for read in (
        lambda: image_folder.find(folder, ("Train", "Test"), CLASSES),
        lambda: radiograph_set.read(folder, Named()),
    ):
        with pytest.raises(UserError, match=r"groups\.csv (is empty|has a header and no rows)"):
            read()


@pytest.mark.skipif(sys.platform != "linux", reason="names must be UTF-8 elsewhere")
@pytest.mark.parametrize(("name", "patients"), [("set_nfd", 8), ("set_latin1", 16)])
def test_faults_of_names_are_read(tmp_path, name, patients):
    with tarfile.open(fault("names.tar")) as archive:
        archive.extractall(tmp_path, filter="data")
    for groups in groups_of(tmp_path / name / "set"):
        assert len(groups) == 16
        assert len(set(groups.values())) == patients


@pytest.mark.skipif(sys.platform == "win32", reason="names of files have no line breaks there")
def test_names_with_line_breaks_stay_in_one_line(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    for path in sorted(folder.rglob("*.png")):
        path.rename(path.with_name(f"a\n{path.name}"))
    (folder / "Train" / "covid" / "b\nc").write_text("no image", encoding="utf-8")
    for line in image_folder.find(folder, ("Train", "Test"), CLASSES).remarks:
        assert "\n" not in line
    (folder / "groups.csv").write_text(
        'filename,patient\n"x\ny.png",p\nz.png,p\n', encoding="utf-8"
    )
    for read in (
        lambda: image_folder.find(folder, ("Train", "Test"), CLASSES),
        lambda: radiograph_set.read(folder, Named()),
    ):
        with pytest.raises(UserError) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_set_of_validation_alone_is_an_error(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{name},validation" for name in names]
    (folder / "table.csv").write_text("\n".join(["filename,split", *rows]), encoding="utf-8")
    with pytest.raises(UserError, match="validation alone"):
        any_source.find(folder, tmp_path, TrainConfig())
