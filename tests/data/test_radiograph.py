"""The reader: what goes in comes out, whatever the container, and what cannot be read is refused in one line."""

import hashlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin

from trainer.data import radiograph
from trainer.data.radiograph import RadiographError

FEW = settings(deadline=None, max_examples=20, derandomize=True)
SHAPES = st.tuples(st.integers(32, 70), st.integers(32, 70))
GREYS = hnp.arrays(np.uint8, SHAPES)
DEEP_GREYS = hnp.arrays(np.uint16, SHAPES)
EXIF_ORIENTATION = 0x0112
# What a viewer undoes: the stored image for each orientation, made from the upright one.
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: np.rot90,
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, -1),
}


def _encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def _deep_png(values: np.ndarray) -> bytes:
    """[height, width, channels] uint16, in the order red, green, blue, alpha; OpenCV writes it with blue first."""
    order = [2, 1, 0, 3][: values.shape[2]]
    return cv2.imencode(".png", np.ascontiguousarray(values[..., order]))[1].tobytes()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _grey_alpha_png(values: np.ndarray) -> bytes:
    """[height, width, 2] uint16; neither Pillow nor OpenCV writes these."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _gradient(height: int = 90, width: int = 70) -> np.ndarray:
    return np.add.outer(np.arange(height), np.arange(width) * 2).astype(np.uint8)


@FEW
@given(GREYS)
def test_grey_png_of_8_bits_comes_back_exactly(image):
    found = radiograph.read(_encoded(image))
    np.testing.assert_array_equal(found.pixels, image)
    assert found.pixels.dtype == np.uint8


@FEW
@given(DEEP_GREYS)
def test_grey_png_of_16_bits_comes_back_exactly(image):
    found = radiograph.read(_encoded(image))
    np.testing.assert_array_equal(found.pixels, image)
    assert found.pixels.dtype == np.uint16 and found.header.bit_depth == 16


@FEW
@given(hnp.arrays(np.bool_, SHAPES))
def test_png_of_1_bit_is_black_and_white(image):
    found = radiograph.read(_encoded(image))
    np.testing.assert_array_equal(found.pixels, image * np.uint8(255))
    assert (found.header.channels, found.header.bit_depth) == (1, 1)


@FEW
@given(GREYS)
def test_equal_channels_read_as_the_grey(image):
    for mode in ("RGB", "RGBA", "LA"):
        found = radiograph.read(_encoded(Image.fromarray(image).convert(mode)))
        np.testing.assert_array_equal(found.pixels, image, mode)
        assert found.header.channels == len(mode)


@FEW
@given(DEEP_GREYS)
def test_equal_channels_of_16_bits_read_as_the_grey(image):
    opaque = np.full_like(image, 65535)
    for data, channels in (
        (_deep_png(np.dstack([image] * 3)), 3),
        (_deep_png(np.dstack([image] * 3 + [opaque])), 4),
        (_grey_alpha_png(np.dstack([image, opaque])), 2),
    ):
        found = radiograph.read(data)
        np.testing.assert_array_equal(found.pixels, image)
        assert (found.header.channels, found.header.bit_depth) == (channels, 16)


@FEW
@given(hnp.arrays(np.uint8, st.tuples(st.integers(32, 50), st.integers(32, 50), st.just(3))))
def test_colour_becomes_luma_with_8_and_16_bits_alike(image):
    luma = image @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(radiograph.read(_encoded(image)).pixels, luma, atol=0.51)
    deep = radiograph.read(_deep_png(image.astype(np.uint16) * 257)).pixels
    np.testing.assert_allclose(deep, luma * 257, atol=0.51)


@FEW
@given(GREYS, st.integers(0, 2**32 - 1))
def test_a_palette_reads_as_its_colours(indices, seed):
    palette = np.random.default_rng(seed).integers(0, 256, (256, 3), np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    found = radiograph.read(_encoded(image))
    np.testing.assert_array_equal(found.pixels, radiograph.read(_encoded(palette[indices])).pixels)
    assert found.header.channels == 1


@pytest.mark.parametrize("scale", [1, 257])
def test_what_is_transparent_is_laid_on_black(scale):
    image = _gradient().astype(np.uint8 if scale == 1 else np.uint16) * scale
    alpha = np.where(np.arange(70) < 35, 0, 255 * scale).astype(image.dtype) * np.ones_like(image)
    rgba = np.dstack([image, image, image, alpha])
    data = (
        [_encoded(rgba)]
        if scale == 1
        else [_deep_png(rgba), _grey_alpha_png(np.dstack([image, alpha]))]
    )
    for each in data:
        pixels = radiograph.read(each).pixels
        assert not pixels[:, :35].any()
        np.testing.assert_array_equal(pixels[:, 35:], image[:, 35:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_transparent_grey_level_becomes_black(dtype):
    image = _gradient().astype(dtype)
    pixels = radiograph.read(_encoded(image, transparency=100)).pixels
    np.testing.assert_array_equal(pixels, np.where(image == 100, 0, image))


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_undone(orientation):
    upright = _gradient()
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    for kind, dtype, options in (
        ("JPEG", np.uint8, {"quality": 100}),
        ("PNG", np.uint8, {}),
        ("PNG", np.uint16, {}),
    ):
        stored = np.ascontiguousarray(STORED[orientation](upright)).astype(dtype)
        found = radiograph.read(_encoded(stored, kind, exif=exif, **options))
        np.testing.assert_allclose(found.pixels.astype(int), upright, atol=3)
        assert (found.header.height, found.header.width) == stored.shape


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_16_bit_colour_is_undone(orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](_gradient())).astype(np.uint16)
    plain, after_head = _deep_png(np.dstack([stored] * 3)), 8 + 25
    data = (
        plain[:after_head]
        + _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        + plain[after_head:]
    )
    np.testing.assert_array_equal(radiograph.read(data).pixels, _gradient())


def test_metadata_in_disorder_does_not_hide_the_picture():
    assert radiograph.read(
        _encoded(_gradient(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    ).pixels.shape == (90, 70)
    for profile in ("\nexif\n 10\nno hexadecimals", "\nexif\n 4\n45786966"):
        text = PngImagePlugin.PngInfo()
        text.add_text("Raw profile type exif", profile)
        np.testing.assert_array_equal(
            radiograph.read(_encoded(_gradient(), pnginfo=text)).pixels, _gradient()
        )


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_in_any_colours_reads_as_the_grey(mode):
    found = radiograph.read(
        _encoded(Image.fromarray(_gradient()).convert("RGB").convert(mode), "JPEG", quality=100)
    )
    np.testing.assert_allclose(found.pixels.astype(int), _gradient(), atol=4)
    assert (found.header.format, found.header.channels) == ("JPEG", len(mode))


def test_cmyk_without_adobes_marker_is_not_inverted():
    data = _encoded(
        Image.fromarray(_gradient()).convert("RGB").convert("CMYK"), "JPEG", quality=100
    )
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    plain = radiograph.read(data[:start] + data[start + 2 + length :]).pixels
    # The same numbers read the other way round: ink 255 - c on top of full black.
    assert data[start + 4 : start + 9] == b"Adobe" and plain.max() == 0


def test_a_jpeg_that_carries_further_pictures_is_its_first():
    first, second = Image.fromarray(_gradient()), Image.fromarray(255 - _gradient())
    found = radiograph.read(
        _encoded(first, "MPO", save_all=True, append_images=[second], quality=100)
    )
    np.testing.assert_allclose(found.pixels.astype(int), _gradient(), atol=3)
    assert found.header.format == "JPEG"


def test_bytes_decide_and_the_header_is_the_files(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(data := _encoded(_gradient()))
    assert radiograph.read(path).header == radiograph.Header(
        width=70,
        height=90,
        channels=1,
        bit_depth=8,
        byte_size=len(data),
        format="PNG",
        sha256=hashlib.sha256(data).hexdigest(),
    )
    assert radiograph.read(str(path)).header == radiograph.read(data).header


@FEW
@given(hnp.arrays(np.uint8, st.integers(32, 64).map(lambda side: (side, side))))
def test_standardize_at_native_size_is_identity(image):
    found = radiograph.standardize(image, side=len(image))
    np.testing.assert_array_equal(found, image)
    assert not np.shares_memory(found, image) and found.flags.writeable


@FEW
@given(GREYS.filter(lambda image: image.max() >= 64))
def test_16_bits_standardize_as_8_do(image):
    for scaled in (image.astype(np.uint16) * 257, np.rint(image / 255 * 4095).astype(np.uint16)):
        expected = radiograph.standardize(radiograph.read(_encoded(image)))
        np.testing.assert_array_equal(
            radiograph.standardize(radiograph.read(_encoded(scaled))), expected
        )


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_fewer_bits_in_a_16_bit_file_are_not_black(bits):
    image = np.linspace(0, 2**bits - 1, 64 * 64).reshape(64, 64).astype(np.uint16)
    found = radiograph.standardize(radiograph.read(_encoded(image)), side=64)
    assert (found.min(), found.max()) == (0, 255)
    assert (np.diff(found.ravel().astype(int)) >= 0).all()


def test_standardize_stretches_without_padding_and_without_aliasing():
    stripes = np.tile(np.array([0, 255], np.uint8), (2000, 750))
    found = radiograph.standardize(stripes)
    assert found.shape == (500, 500) and found.dtype == np.uint8
    assert np.ptp(found) < 40 and abs(found.mean() - 127.5) < 2
    assert (radiograph.standardize(np.full((40, 300), 7, np.uint8)) == 7).all()


def test_standardize_takes_pixels_only():
    with pytest.raises(ValueError, match="uint8 or uint16"):
        radiograph.standardize(np.zeros((40, 40)))


def _refusal(source, **options) -> str:
    with pytest.raises(RadiographError) as caught:
        radiograph.read(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


_WHOLE = _encoded(_gradient())
_FRAMES = [Image.fromarray(_gradient()), Image.fromarray(255 - _gradient())]
REFUSED = {
    "text": (b"hello " * 100, "not an image", "give a PNG, JPEG or DICOM"),
    "empty": (b"", "is empty", "get the file again"),
    "cut PNG": (_WHOLE[: len(_WHOLE) // 2], "cut off", "get the file again"),
    "PNG without its end": (_WHOLE[:-12], "cut off", "get the file again"),
    "PNG with a damaged head": (
        _WHOLE[:20] + b"\xff" + _WHOLE[21:],
        "damaged",
        "get the file again",
    ),
    "PNG with other pixels": (
        _WHOLE.replace(_WHOLE[60:64], b"\0\1\2\3"),
        "damaged",
        "get the file again",
    ),
    "cut JPEG": (_encoded(_gradient(), "JPEG")[:-200], "cut off", "get the file again"),
    "JPEG's first bytes": (b"\xff\xd8\xff\xe0", "damaged", "get the file again"),
    "cut DICOM": (bytes(128) + b"DICM", "cut off", "get"),
    "small": (_encoded(_gradient(31, 400)), "400x31 is too small", "give at least 32 pixels"),
    "large": (_encoded(Image.new("1", (8001, 8000))), "over 64 megapixels", "scale it down"),
    "animated": (
        _encoded(_FRAMES[0], save_all=True, append_images=_FRAMES[1:]),
        "animated",
        "give a single image",
    ),
    "GIF": (_encoded(_gradient(), "GIF"), "a GIF", "give a PNG"),
    "WebP": (_encoded(_gradient(), "WEBP"), "a WebP", "give a PNG"),
    "TIFF": (_encoded(_gradient(), "TIFF"), "a TIFF", "give a PNG"),
    "BMP": (_encoded(_gradient(), "BMP"), "a BMP", "give a PNG"),
    "SVG": (
        b"\xef\xbb\xbf\n<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
        "an SVG",
        "give a PNG",
    ),
    "XML": (b"<?xml version='1.0'?><!-- x --><svg/>", "an SVG", "give a PNG"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_in_one_line_that_says_what_to_do(kind, tmp_path):
    data, reason, action = REFUSED[kind]
    path = tmp_path / "chest 7.png"
    path.write_bytes(data)
    for message in (_refusal(path), _refusal(data, name="chest 7.png")):
        assert "chest 7.png: " in message and reason in message and action in message


def test_a_huge_png_is_refused_before_anything_is_decoded(monkeypatch):
    data = _encoded(Image.new("L", (12000, 10000)))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(radiograph, "_check_chunks", lambda data: pytest.fail("read through"))
    assert "12000x10000 is over 64 megapixels" in _refusal(data)
    assert "over 64 megapixels" in _refusal(
        _mended(_WHOLE[:16] + b"\x7f\xff\xff\xff" * 2 + _WHOLE[24:])
    )


def test_paths_that_cannot_be_read_are_refused(tmp_path, monkeypatch):
    assert "missing.png: does not exist; check the path" in _refusal(tmp_path / "missing.png")
    assert f"{tmp_path.name}: is a folder; give the files in it" in _refusal(tmp_path)
    assert "not a path" in _refusal("a\0b.png")
    assert "line?break.png: does not exist" in _refusal(tmp_path / "line\nbreak.png")
    locked = tmp_path / "locked.png"
    locked.write_bytes(_WHOLE)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(
        Path, "read_bytes", denied
    )  # The superuser, as tests in containers are, may read anything.
    assert "locked.png: cannot be opened (Permission denied); check" in _refusal(locked)


def test_devices_and_giant_files_are_refused_unread(tmp_path):
    giant = tmp_path / "giant.png"
    with giant.open("wb") as file:
        file.truncate(radiograph.MOST_BYTES + 1)
    assert "over 1 GB; give the file of a single image" in _refusal(giant)
    if Path("/dev/zero").exists():
        assert "is a device or pipe; give a file" in _refusal("/dev/zero")


_FUZZED = [
    _WHOLE,
    _encoded(_gradient().astype(np.uint16) * 257),
    _deep_png(np.dstack([_gradient().astype(np.uint16)] * 4)),
    _encoded(_gradient(), "JPEG"),
    _encoded(_gradient(), "JPEG", progressive=True),
    _encoded(Image.fromarray(_gradient()).convert("CMYK"), "JPEG"),
    _encoded(Image.fromarray(_gradient()).convert("P")),
]


@settings(deadline=None, max_examples=250, derandomize=True)
@given(
    st.sampled_from(_FUZZED),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4),
    st.one_of(st.none(), st.integers(0, 2**16)),
    st.booleans(),
)
def test_no_other_exception_leaks_from_damaged_files(data, changes, cut, mends):
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    damaged = bytes(damaged[: cut % len(damaged)] if cut is not None else damaged)
    try:
        found = radiograph.read(_mended(damaged) if mends else damaged)
    except RadiographError as error:
        assert "\n" not in str(error)
    else:
        assert radiograph.standardize(found).shape == (500, 500)


def _mended(png: bytes) -> bytes:
    """The file with its chunks' checksums made right, so that damage gets past them to the decoder."""
    start, parts = 8, [png[:8]]
    while png.startswith(b"\x89PNG") and start + 12 <= len(png):
        length = int.from_bytes(png[start : start + 4], "big")
        parts.append(_chunk(png[start + 4 : start + 8], png[start + 8 : start + 8 + length]))
        start += 12 + length
    return b"".join(parts) if len(parts) > 1 else png


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_every_cut_of_a_jpeg_is_noticed(options):
    data = _encoded(_gradient(40, 40), "JPEG", **options)
    for end in range(len(data) - len(b"\xff\xd9")):  # Without its end marker alone it is whole.
        _refusal(data[:end])


def test_every_cut_of_a_png_is_noticed():
    for end in range(len(_WHOLE)):
        _refusal(_WHOLE[:end])


def test_real_files_of_every_kind_are_read(sample_dir):
    paths = sorted(
        path for path in sample_dir.rglob("*") if path.suffix.lower() in radiograph.EXTENSIONS
    )[::64]
    assert len(paths) >= 8
    for path in paths:
        found = radiograph.read(path)
        square = radiograph.standardize(found)
        assert found.header.byte_size == path.stat().st_size
        assert square.shape == (500, 500) and square.std() > 15


def test_importing_the_reader_imports_nothing_heavy():
    command = (
        "import sys, trainer.data.radiograph;sys.exit(' '.join({'tensorflow', 'pydicom', 'cv2', "
        "'keras'} & set(sys.modules)) or 0)"
    )
    root = Path(radiograph.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_what_is_encoded_is_read_back_pixel_for_pixel(kind):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (40, 57), kind, endpoint=True)
    np.testing.assert_array_equal(radiograph.read(radiograph.encode(pixels)).pixels, pixels)
