"""Tests of damaged pictures: always one clear message, never another exception."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.pictures import (
    check_damaged,
    encode,
    encode_deep_png,
    error_message,
    gradient,
    repair_checksums,
)

PNG = encode(gradient())
# One for each decoder and colour mode.
FILES = [
    PNG,
    encode(gradient().astype(np.uint16) * 257),
    encode_deep_png(np.dstack([gradient().astype(np.uint16)] * 4)),
    encode(gradient(), "JPEG"),
    encode(gradient(), "JPEG", progressive=True),
    encode(Image.fromarray(gradient()).convert("CMYK"), "JPEG"),
    encode(Image.fromarray(gradient()).convert("P")),
    *(encode(gradient(), format) for format in ("TIFF", "BMP", "WEBP", "JPEG2000")),
    encode(gradient().astype(np.uint16) * 257, "TIFF", compression="tiff_lzw"),
]


@settings(deadline=None, max_examples=400, derandomize=True)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4),
    st.one_of(st.none(), st.integers(0, 2**16)),
    st.booleans(),
)
def test_damage_raises_no_other_exception(data, changes, cut, repairs):
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    damaged = bytes(damaged if cut is None else damaged[: cut % len(damaged)])
    # Else the checksums stop most damage before the decoder.
    if repairs:
        damaged = repair_checksums(damaged)
    check_damaged(damaged)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_every_cut_of_a_jpeg_is_rejected(options):
    data = encode(gradient(40, 40), "JPEG", **options)
    end_marker = b"\xff\xd9"  # A file that lacks only the end marker is complete.
    for end in range(len(data) - len(end_marker)):
        error_message(data[:end])


def test_every_cut_of_a_png_is_rejected():
    for end in range(len(PNG)):
        error_message(PNG[:end])


@pytest.mark.parametrize("format", ["TIFF", "BMP", "WEBP", "JPEG2000"])
def test_cuts_of_other_formats_are_rejected(format):
    data = encode(gradient(40, 40), format)
    for end in range(0, len(data) - 2, max(len(data) // 100, 1)):
        error_message(data[:end])
