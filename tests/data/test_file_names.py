"""Tests of names as text: any bytes there and back, and two names never become one."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trainer.data import file_listing, file_names

# Bytes of a name on Linux; more of those that matter here.
NAMES = st.lists(
    st.sampled_from([b"\\", b"\\x", b"f6", b"\xf6", b"\xc3\xb6", b"a", b"\n", b"x", b"\xff"])
    | st.binary(min_size=1, max_size=2).filter(lambda data: b"\0" not in data and b"/" not in data),
    min_size=1,
    max_size=8,
).map(b"".join)


@given(name=NAMES)
def test_any_name_is_valid_text_and_is_read_back(name):
    text = file_names.to_text(os.fsdecode(name))
    text.encode("utf-8")
    assert os.fsencode(file_names.from_text(text)) == name


def test_plain_names_stay_unchanged():
    for name in ("a/b.png", "röntgen 胸部.png", r"C:\films\a.png", "new\nline.png"):
        assert file_names.to_text(name) == name
    assert file_names.to_text(os.fsdecode(b"r\xf6ntgen.png")) == r"r\xf6ntgen.png"


def test_listed_names_locate_their_files(tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xe9t\xe9"
    os.mkdir(folder)
    for name in (b"r\xf6ntgen.png", b"r\\xf6ntgen.png", "röntgen.png".encode()):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(name)
    names = list(file_listing.walk(tmp_path))
    assert len(set(names)) == 3
    contents = {file_names.locate(tmp_path, name).read_bytes() for name in names}
    assert len(contents) == 3
