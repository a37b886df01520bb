"""Tests of the reader as a whole: file types, headers, squares, rejected files."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests.data.pictures import FEW, SHAPES, encode, error_message, gradient, repair_checksums
from trainer.data import radiograph, raster

PNG = encode(gradient())
FRAMES = [Image.fromarray(gradient()), Image.fromarray(255 - gradient())]
SVG = b"\xef\xbb\xbf\n<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"
# Case → (data, the reason, the fix).
REJECTED = {
    "text": (b"hello " * 100, "not an image", "give a PNG, JPEG, DICOM"),
    "empty": (b"", "is empty", "get the file again"),
    "cut PNG": (PNG[: len(PNG) // 2], "cut off", "get the file again"),
    "PNG without its end": (PNG[:-12], "cut off", "get the file again"),
    "PNG with a damaged head": (PNG[:20] + b"\xff" + PNG[21:], "damaged", "get the file again"),
    "PNG with other pixels": (
        PNG.replace(PNG[60:64], b"\0\1\2\3"),
        "damaged",
        "get the file again",
    ),
    "cut JPEG": (encode(gradient(), "JPEG")[:-200], "cut off", "get the file again"),
    "JPEG's first bytes": (b"\xff\xd8\xff\xe0", "damaged", "get the file again"),
    "cut DICOM": (bytes(128) + b"DICM", "cut off", "get"),
    "small": (encode(gradient(31, 400)), "400x31 is too small", "give at least 32 pixels"),
    "large": (encode(Image.new("1", (8001, 8000))), "over 64 megapixels", "scale it down"),
    "animated": (
        encode(FRAMES[0], save_all=True, append_images=FRAMES[1:]),
        "animated",
        "give a single image",
    ),
    "GIF": (encode(gradient(), "GIF"), "a GIF", "give a PNG"),
    "AVI": (b"RIFF\0\0\0\0AVI " + bytes(100), "an AVI", "give a PNG"),
    "animated WebP": (
        encode(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
        "animated",
        "give a single image",
    ),
    "TIFF of two pages": (
        encode(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]),
        "several pages",
        "give a single image",
    ),
    "TIFF of floats": (
        encode(Image.fromarray(gradient().astype(np.float32)), "TIFF"),
        "32 bits",
        "8 or 16 bits",
    ),
    "cut TIFF": (encode(gradient(), "TIFF")[:2000], "cut off", "get the file again"),
    "cut BMP": (encode(gradient(), "BMP")[:2000], "cut off", "get the file again"),
    "cut WebP": (encode(gradient(), "WEBP")[:60], "damaged", "get the file again"),
    "cut JPEG 2000": (encode(gradient(), "JPEG2000")[:200], "cut off", "get the file again"),
    "SVG": (SVG, "an SVG", "give a PNG"),
    "XML": (b"<?xml version='1.0'?><!-- x --><svg/>", "an SVG", "give a PNG"),
}


def test_bytes_decide_the_type_and_the_header_describes_the_file(tmp_path):
    # A PNG with the wrong ending.
    path = tmp_path / "picture.jpg"
    path.write_bytes(PNG)
    header = radiograph.read(path).header
    assert header == radiograph.Header(
        width=70,
        height=90,
        channels=1,
        bit_depth=8,
        byte_size=len(PNG),
        format="PNG",
        sha256=hashlib.sha256(PNG).hexdigest(),
    )
    assert radiograph.read(str(path)).header == header
    assert radiograph.read(PNG).header == header


@FEW
@given(hnp.arrays(np.uint8, st.integers(32, 64).map(lambda side: (side, side))))
def test_standardize_at_native_size_is_the_identity(pixels):
    square = radiograph.standardize(pixels, side=len(pixels))
    np.testing.assert_array_equal(square, pixels)
    assert not np.shares_memory(square, pixels)
    assert square.flags.writeable


@FEW
@given(hnp.arrays(np.uint8, SHAPES).filter(lambda pixels: pixels.max() >= 64))
def test_16_bits_give_the_same_square_as_8_bits(pixels):
    expected = radiograph.standardize(radiograph.read(encode(pixels)))
    # Two ways to store the same picture with 16 bits.
    full_range = pixels.astype(np.uint16) * 257
    twelve_bits = np.rint(pixels / 255 * 4095).astype(np.uint16)
    for scaled in (full_range, twelve_bits):
        square = radiograph.standardize(radiograph.read(encode(scaled)))
        np.testing.assert_array_equal(square, expected)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_fewer_bits_in_a_16_bit_file_are_not_black(bits):
    pixels = np.linspace(0, 2**bits - 1, 64 * 64).reshape(64, 64).astype(np.uint16)
    square = radiograph.standardize(radiograph.read(encode(pixels)), side=64)
    assert (square.min(), square.max()) == (0, 255)
    # Brightness keeps its order.
    assert (np.diff(square.ravel().astype(int)) >= 0).all()


def test_standardize_stretches_without_padding_and_without_aliasing():
    # Black and white columns, one pixel each: aliasing would show.
    stripes = np.tile(np.array([0, 255], np.uint8), (2000, 750))
    square = radiograph.standardize(stripes)
    assert square.shape == (500, 500)
    assert square.dtype == np.uint8
    assert np.ptp(square) < 40
    assert abs(square.mean() - 127.5) < 2
    uniform = np.full((40, 300), 7, np.uint8)
    assert (radiograph.standardize(uniform) == 7).all()


def test_standardize_rejects_floats():
    with pytest.raises(ValueError, match="uint8 or uint16"):
        radiograph.standardize(np.zeros((40, 40)))


@pytest.mark.parametrize("kind", REJECTED)
def test_rejected_files_get_one_line_with_the_fix(kind, tmp_path):
    data, reason, fix = REJECTED[kind]
    path = tmp_path / "chest 7.png"
    path.write_bytes(data)
    for message in (error_message(path), error_message(data, name="chest 7.png")):
        assert "chest 7.png: " in message
        assert reason in message
        assert fix in message


def test_huge_png_is_rejected_before_decoding(monkeypatch):
    data = encode(Image.new("L", (12000, 10000)))
    # Either call would read the whole file.
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(raster, "_check_chunks", lambda data: pytest.fail("read through"))
    assert "12000x10000 is over 64 megapixels" in error_message(data)
    # 2147483647 pixels a side, with an intact header.
    larger = repair_checksums(PNG[:16] + b"\x7f\xff\xff\xff" * 2 + PNG[24:])
    assert "over 64 megapixels" in error_message(larger)


def test_unreadable_paths_are_rejected(tmp_path, monkeypatch):
    missing = error_message(tmp_path / "missing.png")
    assert "missing.png: does not exist; check the path" in missing
    assert f"{tmp_path.name}: is a folder; give the files in it" in error_message(tmp_path)
    assert "not a path" in error_message("a\0b.png")
    line_break = error_message(tmp_path / "line\nbreak.png")
    assert "line?break.png: does not exist" in line_break
    locked = tmp_path / "locked.png"
    locked.write_bytes(PNG)

    def deny(path):
        raise PermissionError(13, "Permission denied", str(path))

    # Tests in containers often run as root, who may read any file.
    monkeypatch.setattr(Path, "read_bytes", deny)
    message = error_message(locked)
    assert "locked.png: cannot be opened (Permission denied); check" in message


def test_devices_and_giant_files_are_rejected_unread(tmp_path):
    giant = tmp_path / "giant.png"
    with giant.open("wb") as file:
        # A sparse file: it takes no room.
        file.truncate(radiograph.MAX_BYTES + 1)
    assert "over 1 GB; give the file of a single image" in error_message(giant)
    if Path("/dev/zero").exists():
        assert "is a device or pipe; give a file" in error_message("/dev/zero")


def test_real_files_of_every_kind_are_read(sample_dir):
    files = sorted(
        path for path in sample_dir.rglob("*") if path.suffix.lower() in radiograph.EXTENSIONS
    )
    # A few of each kind.
    paths = files[::64]
    assert len(paths) >= 8
    for path in paths:
        image = radiograph.read(path)
        square = radiograph.standardize(image)
        assert image.header.byte_size == path.stat().st_size
        assert square.shape == (500, 500)
        # A uniform square would mean a decoding error.
        assert square.std() > 15


def test_importing_the_reader_imports_nothing_heavy():
    code = (
        "import sys, trainer.data.radiograph\n"
        "heavy = {'tensorflow', 'pydicom', 'cv2', 'keras'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(radiograph.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_encoded_pixels_are_read_back_exactly(dtype):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, np.iinfo(dtype).max, (40, 57), dtype, endpoint=True)
    image = radiograph.read(radiograph.encode(pixels))
    np.testing.assert_array_equal(image.pixels, pixels)
