"""Tests of decoding pictures in every format, colour mode, depth and orientation."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin

from tests.data.pictures import (
    FEW,
    SHAPES,
    encode,
    encode_deep_png,
    encode_grey_alpha_png,
    gradient,
    png_chunk,
)
from tests.data.sets import fault
from trainer.data import radiograph

GREYS = hnp.arrays(np.uint8, SHAPES)
DEEP_GREYS = hnp.arrays(np.uint16, SHAPES)
EXIF_ORIENTATION = 0x0112
# Orientation → the stored image of an upright one; the reader must reverse it.
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: np.transpose,
    6: np.rot90,
    7: lambda upright: np.rot90(upright, 2).T,
    8: lambda upright: np.rot90(upright, -1),
}


@FEW
@given(GREYS)
def test_grey_png_of_8_bits_is_read_exactly(pixels):
    image = radiograph.read(encode(pixels))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == np.uint8


@FEW
@given(DEEP_GREYS)
def test_grey_png_of_16_bits_is_read_exactly(pixels):
    image = radiograph.read(encode(pixels))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == np.uint16
    assert image.header.bit_depth == 16


@FEW
@given(hnp.arrays(np.bool_, SHAPES))
def test_png_of_1_bit_is_black_and_white(pixels):
    image = radiograph.read(encode(pixels))
    np.testing.assert_array_equal(image.pixels, pixels * np.uint8(255))
    assert (image.header.channels, image.header.bit_depth) == (1, 1)


@FEW
@given(GREYS)
def test_equal_channels_are_read_as_grey(pixels):
    for mode in ("RGB", "RGBA", "LA"):
        image = radiograph.read(encode(Image.fromarray(pixels).convert(mode)))
        np.testing.assert_array_equal(image.pixels, pixels, mode)
        assert image.header.channels == len(mode)


@FEW
@given(DEEP_GREYS)
def test_equal_channels_of_16_bits_are_read_as_grey(pixels):
    opaque = np.full_like(pixels, 65535)
    files = {
        3: encode_deep_png(np.dstack([pixels] * 3)),
        4: encode_deep_png(np.dstack([pixels, pixels, pixels, opaque])),
        2: encode_grey_alpha_png(np.dstack([pixels, opaque])),
    }
    for channels, data in files.items():
        image = radiograph.read(data)
        np.testing.assert_array_equal(image.pixels, pixels)
        assert (image.header.channels, image.header.bit_depth) == (channels, 16)


@FEW
@given(hnp.arrays(np.uint8, st.tuples(st.integers(32, 50), st.integers(32, 50), st.just(3))))
def test_colour_becomes_luma_with_8_and_with_16_bits(colours):
    # ITU-R 601-2.
    luma = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(radiograph.read(encode(colours)).pixels, luma, atol=0.51)
    deep = radiograph.read(encode_deep_png(colours.astype(np.uint16) * 257)).pixels
    np.testing.assert_allclose(deep, luma * 257, atol=0.51)


@FEW
@given(GREYS, st.integers(0, 2**32 - 1))
def test_palette_is_read_as_its_colours(indices, seed):
    palette = np.random.default_rng(seed).integers(0, 256, (256, 3), np.uint8)  # [256, 3]
    picture = Image.fromarray(indices)
    picture.putpalette(palette.tobytes())
    image = radiograph.read(encode(picture))
    expected = radiograph.read(encode(palette[indices])).pixels
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.header.channels == 1


@pytest.mark.parametrize("scale", [1, 257])
def test_transparent_pixels_become_black(scale):
    dtype = np.uint8 if scale == 1 else np.uint16
    pixels = gradient().astype(dtype) * scale
    transparent = np.arange(70) < 35  # The left half.
    alpha = np.where(transparent, 0, 255 * scale).astype(pixels.dtype) * np.ones_like(pixels)
    rgba = np.dstack([pixels, pixels, pixels, alpha])
    if scale == 1:
        files = [encode(rgba)]
    else:
        files = [encode_deep_png(rgba), encode_grey_alpha_png(np.dstack([pixels, alpha]))]
    for data in files:
        image = radiograph.read(data)
        assert not image.pixels[:, :35].any()
        np.testing.assert_array_equal(image.pixels[:, 35:], pixels[:, 35:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_grey_level_becomes_black(dtype):
    pixels = gradient().astype(dtype)
    image = radiograph.read(encode(pixels, transparency=100))
    np.testing.assert_array_equal(image.pixels, np.where(pixels == 100, 0, pixels))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("format", "dtype", "options"),
    [("JPEG", np.uint8, {"quality": 100}), ("PNG", np.uint8, {}), ("PNG", np.uint16, {})],
)
def test_exif_orientation_is_applied(orientation, format, dtype, options):
    upright = gradient()
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright)).astype(dtype)
    image = radiograph.read(encode(stored, format, exif=exif, **options))
    # JPEG is lossy, also at quality 100.
    np.testing.assert_allclose(image.pixels.astype(int), upright, atol=3)
    assert (image.header.height, image.header.width) == stored.shape


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_16_bit_colour_is_applied(orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](gradient())).astype(np.uint16)
    png = encode_deep_png(np.dstack([stored] * 3))
    chunk = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    after_header = 8 + 25  # The signature and IHDR.
    image = radiograph.read(png[:after_header] + chunk + png[after_header:])
    np.testing.assert_array_equal(image.pixels, gradient())


def test_broken_metadata_does_not_hide_the_picture():
    # An EXIF block with an impossible offset.
    jpeg = encode(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert radiograph.read(jpeg).pixels.shape == (90, 70)
    # ImageMagick stores EXIF in such text.
    for profile in ("\nexif\n 10\nno hexadecimals", "\nexif\n 4\n45786966"):
        text = PngImagePlugin.PngInfo()
        text.add_text("Raw profile type exif", profile)
        image = radiograph.read(encode(gradient(), pnginfo=text))
        np.testing.assert_array_equal(image.pixels, gradient())


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_in_any_colour_mode_is_read_as_grey(mode):
    picture = Image.fromarray(gradient()).convert("RGB").convert(mode)
    image = radiograph.read(encode(picture, "JPEG", quality=100))
    np.testing.assert_allclose(image.pixels.astype(int), gradient(), atol=4)
    assert (image.header.format, image.header.channels) == ("JPEG", len(mode))


def test_cmyk_without_adobes_marker_is_not_inverted():
    picture = Image.fromarray(gradient()).convert("RGB").convert("CMYK")
    data = encode(picture, "JPEG", quality=100)
    # The APP14 segment.
    start = data.index(b"\xff\xee")
    assert data[start + 4 : start + 9] == b"Adobe"
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    image = radiograph.read(data[:start] + data[start + 2 + length :])
    # The same numbers with the opposite meaning: ink 255 - c on top of full black.
    assert image.pixels.max() == 0


def test_first_picture_of_a_multi_picture_jpeg_is_read():
    first = Image.fromarray(gradient())
    # Phones store further views behind the first.
    second = Image.fromarray(255 - gradient())
    data = encode(first, "MPO", save_all=True, append_images=[second], quality=100)
    image = radiograph.read(data)
    np.testing.assert_allclose(image.pixels.astype(int), gradient(), atol=3)
    assert image.header.format == "JPEG"


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {"irreversible": False}),
        ("JPEG2000", {"irreversible": False, "no_jp2": True}),
    ],
)
def test_other_formats_give_the_pixels_of_a_png(format, options):
    image = radiograph.read(encode(gradient(), format, **options))
    np.testing.assert_array_equal(image.pixels, gradient())
    header = image.header
    assert (header.format, header.bit_depth, header.width, header.height) == (format, 8, 70, 90)
    # Colour becomes luma in each.
    colour = Image.merge("RGB", [Image.fromarray(gradient())] * 3)
    image = radiograph.read(encode(colour, format, **options))
    np.testing.assert_allclose(image.pixels, gradient(), atol=1)
    assert image.header.channels == 3


@pytest.mark.parametrize("format", ["TIFF", "JPEG2000"])
def test_16_bits_are_kept_in_each_format(format):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    image = radiograph.read(encode(values, format))
    np.testing.assert_array_equal(image.pixels, values)
    assert (image.header.bit_depth, image.white) == (16, 65535)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_white_is_zero_is_inverted(bits):
    values = (gradient().astype(np.uint16) << (bits - 8)).astype(f"uint{bits}")
    data = encode(values, "TIFF")
    # The tag 262 of one SHORT: 1, black is zero, becomes 0. Pillow would invert the pixels, too.
    tag = struct.pack("<HHI", 262, 3, 1)
    assert data.count(tag) == 1
    inverted = data.replace(tag + b"\1", tag + b"\0")
    image = radiograph.read(inverted)
    np.testing.assert_array_equal(image.pixels, 2**bits - 1 - values)


def test_a_rotated_tiff_is_set_upright_once():
    turned = np.rot90(gradient()).copy()  # Stored turned to the left; 6: turn it to the right.
    data = encode(turned, "TIFF", tiffinfo={EXIF_ORIENTATION: 6})
    image = radiograph.read(data)
    np.testing.assert_array_equal(image.pixels, gradient())
    assert (image.header.width, image.header.height) == (90, 70)


def test_a_colour_tiff_keeps_16_bits():
    values = np.random.default_rng(0).integers(0, 65536, (40, 40, 3)).astype(np.uint16)
    data = cv2.imencode(".tiff", values)[1].tobytes()
    image = radiograph.read(data)
    expected = np.rint(values @ np.array([0.114, 0.587, 0.299]))
    assert image.pixels.dtype == np.uint16
    np.testing.assert_allclose(image.pixels, expected, atol=1)


BIG = 3 * 2**20  # Bytes, over what Pillow decompresses by default.
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>' + b" " * BIG
TEXTS = {
    "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "compressed XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    "zTXt": (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(BIG))),
    "iTXt": (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * BIG)),
    "tEXt": (b"tEXt", b"Comment\0" + b"x" * 80 * 2**20),
    "ICC": (b"iCCP", b"profile\0\0" + zlib.compress(os.urandom(BIG))),
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("deep", [False, True])
def test_texts_and_profiles_of_any_size_do_not_matter(kind, at_the_end, deep):
    png = encode(gradient())
    if deep:
        png = encode_deep_png(np.dstack([gradient().astype(np.uint16) * 257] * 3))
    expected = radiograph.read(png).pixels
    # Before the pixels, right after IHDR, or behind them.
    position = len(png) - 12 if at_the_end else 33
    image = radiograph.read(png[:position] + png_chunk(*TEXTS[kind]) + png[position:])
    if "XMP" in kind:
        expected = np.rot90(expected, -1)
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.header.byte_size > len(png)


def test_real_file_with_large_xmp_is_read():
    assert radiograph.read(fault("big_text_chunk") / "xmp.png").pixels.std() > 10
