"""Tests of DICOM pixels: as in a viewer, and equal to the same picture in other formats."""

import io
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.data.dicom_files import gradient, lookup_table, make_dicom, real_file
from tests.data.pictures import FEW, encode
from tests.data.sets import fault
from trainer.data import radiograph

SHAPES = st.tuples(st.integers(32, 50), st.integers(32, 50))


@FEW
@given(hnp.arrays(np.uint8, SHAPES))
def test_8_bits_without_a_window_are_read_exactly(pixels):
    image = radiograph.read(make_dicom(pixels, 8))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == np.uint8


@FEW
@given(hnp.arrays(np.uint16, SHAPES, elements=st.integers(0, 4095)))
def test_12_bits_without_a_window_are_read_exactly(pixels):
    image = radiograph.read(make_dicom(pixels, 12))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == np.uint16
    assert image.header.bit_depth == 12


@FEW
@given(hnp.arrays(np.uint16, SHAPES), st.sampled_from([8, 10, 12, 16]), st.booleans())
def test_monochrome1_of_the_inverse_equals_monochrome2(noise, bits, windowed):
    top = 2**bits - 1
    pixels = (noise & top).astype(np.uint8 if bits == 8 else np.uint16)
    # Both extremes occur, so that no range suggests a smaller bit depth.
    pixels[0, 0] = 0
    pixels[0, 1] = top
    window = {}
    inverse_window = {}
    if windowed:
        center = top * 0.4
        width = top * 0.7
        window = {"WindowCenter": center, "WindowWidth": width}
        inverse_window = {"WindowCenter": top - center + 1, "WindowWidth": width}
    plain = radiograph.read(make_dicom(pixels, bits, **window)).pixels
    inverse = make_dicom(
        top - pixels, bits, PhotometricInterpretation="MONOCHROME1", **inverse_window
    )
    other = radiograph.read(inverse).pixels
    np.testing.assert_allclose(plain.astype(int), other, atol=1 if windowed else 0)


@FEW
@given(hnp.arrays(np.uint8, SHAPES).filter(lambda pixels: pixels.max() >= 64))
def test_same_picture_gives_the_same_square_in_every_container(pixels):
    expected = radiograph.standardize(radiograph.read(encode(pixels)))
    # The same picture at the depth of detectors.
    twelve_bits = np.rint(pixels / 255 * 4095).astype(np.uint16)
    files = [
        make_dicom(pixels, 8),
        make_dicom(pixels.astype(np.uint16), 8),
        make_dicom(twelve_bits, 12),
        make_dicom(twelve_bits, 16),
        make_dicom(pixels.astype(np.uint16) * 257, 16),
        make_dicom(twelve_bits, 12, WindowCenter=2048, WindowWidth=4096),
    ]
    for data in files:
        square = radiograph.standardize(radiograph.read(data)).astype(int)
        np.testing.assert_allclose(square, expected, atol=1)


def test_signed_values_and_a_rescale_do_not_darken():
    stored = gradient(4095)
    # As CT and some CR devices store values.
    signed = make_dicom(stored.astype(np.int16) - 1024, 16)
    rescaled = make_dicom(stored, 12, RescaleSlope=1, RescaleIntercept=-1024)
    for data in (signed, rescaled):
        np.testing.assert_array_equal(radiograph.read(data).pixels, stored)
    # A negative slope means that low values are bright.
    inverted = make_dicom(stored, 12, RescaleSlope=-2, RescaleIntercept=9)
    np.testing.assert_array_equal(radiograph.read(inverted).pixels, 4095 - stored)


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 1000.5, "WindowWidth": 1001},
        # Of several windows the first counts.
        {"WindowCenter": [1000.5, 9], "WindowWidth": [1001, 9]},
        {"WindowCenter": -23.5, "WindowWidth": 1001, "RescaleSlope": 1, "RescaleIntercept": -1024},
        {"WindowCenter": -2001, "WindowWidth": 2001, "RescaleSlope": -2, "RescaleIntercept": 0},
    ],
)
def test_output_range_of_a_window_is_the_full_range(tags):
    stored = gradient(4095)
    # All windows above map 500 to black and 1500 to white.
    expected = np.clip((stored - 500.0) / 1000.0, 0, 1)
    if tags.get("RescaleSlope") == -2:
        expected = 1 - expected
    pixels = radiograph.read(make_dicom(stored, 12, **tags)).pixels
    np.testing.assert_allclose(pixels / 65535.0, expected, atol=2e-3)
    assert (pixels.min(), pixels.max()) == (0, 65535)


def test_sigmoid_window_is_a_sigmoid():
    stored = gradient(4095)
    data = make_dicom(stored, 12, WindowCenter=2000, WindowWidth=800, VOILUTFunction="SIGMOID")
    # PS3.3 C.11.2.1.3.1.
    expected = 1 / (1 + np.exp(-4 * (stored - 2000.0) / 800))
    np.testing.assert_allclose(radiograph.read(data).pixels / 65535.0, expected, atol=1e-4)


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": None, "WindowWidth": None},
        # A window needs both values, and a width of 1 or more.
        {"WindowCenter": 100},
        {"WindowCenter": 100, "WindowWidth": 0},
        {"RescaleSlope": None, "RescaleIntercept": None},
    ],
)
def test_empty_and_impossible_tags_count_as_absent(tags):
    image = radiograph.read(make_dicom(gradient(4095), 12, **tags))
    np.testing.assert_array_equal(image.pixels, gradient(4095))


def test_voi_lookup_table_is_applied():
    stored = gradient(255)
    table = (np.arange(256) ** 2 // 16).astype(np.uint16)  # Up to 4064: 12 bits.
    data = make_dicom(
        stored, 12, VOILUTSequence=lookup_table(table, 12), RescaleSlope=1, RescaleIntercept=0
    )
    image = radiograph.read(data)
    np.testing.assert_allclose(image.pixels / 65535.0, table[stored] / 4095.0, atol=1e-4)


def test_modality_lookup_table_is_applied():
    stored = gradient(255)
    table = (np.arange(256) ** 2 // 16).astype(np.uint16)  # Up to 4064: 12 bits.
    data = make_dicom(stored, 16, ModalityLUTSequence=lookup_table(table, 16))
    image = radiograph.read(data)
    np.testing.assert_array_equal(image.pixels, table[stored])
    assert image.white == 4095


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 4096}])
@pytest.mark.parametrize(
    "padding", [-2000, pydicom.DataElement("PixelPaddingValue", "US", 65536 - 2000)]
)
def test_padding_is_black_and_does_not_count(kind, window, padding):
    stored = gradient(3000).astype(np.int16) + 500
    padded = stored.copy()
    # Five rows of filling.
    padded[:5] = -2000
    tags = {"PhotometricInterpretation": kind, **window}
    pixels = radiograph.read(make_dicom(padded, 16, PixelPaddingValue=padding, **tags)).pixels
    expected = radiograph.read(make_dicom(stored, 16, **tags)).pixels
    assert not pixels[:5].any()
    np.testing.assert_array_equal(pixels[5:], expected[5:])


def test_chest_radiograph_is_bright_where_bone_is():
    image = radiograph.read(real_file("RG1_UNCR.dcm"))
    header = image.header
    assert header.format == "DICOM"
    assert (header.width, header.height) == (1841, 1955)
    assert (header.channels, header.bit_depth) == (1, 15)
    square = radiograph.standardize(image).astype(float)
    # Regions of this one radiograph.
    spine = square[200:350, 235:265].mean()
    lungs = square[100:180, 130:170].mean()
    shoulders = square[:20].mean()
    belly = square[-60:].mean()
    assert spine > lungs + 40
    assert belly > lungs + 40
    assert shoulders > 0


@pytest.mark.parametrize("name", ["RG1_J2KR.dcm", "RG3_J2KR.dcm", "MR2_J2KR.dcm"])
def test_compressed_real_files_equal_their_uncompressed_twins(name):
    compressed = radiograph.read(real_file(name))
    uncompressed = radiograph.read(real_file(name.replace("J2KR", "UNCR")))
    square = radiograph.standardize(compressed).astype(int)
    # JPEG 2000 is lossy here.
    assert np.abs(square - radiograph.standardize(uncompressed)).mean() < 1


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("MR_small_RLE.dcm", RLELossless),
        ("MR_small_jp2klossless.dcm", JPEG2000Lossless),
        ("MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless),
    ],
)
def test_lossless_compression_loses_nothing(name, syntax):
    path = real_file(name)
    assert syntax == pydicom.dcmread(path).file_meta.TransferSyntaxUID
    # The twin of all three files.
    uncompressed = radiograph.read(real_file("MR_small.dcm"))
    np.testing.assert_array_equal(radiograph.read(path).pixels, uncompressed.pixels)


def test_jpeg_inside_dicom_is_read():
    pixels = gradient(255, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100)
    # The frame replaces the pixels.
    image = radiograph.read(make_dicom(pixels, 8, JPEGBaseline8Bit, buffer.getvalue()))
    np.testing.assert_allclose(image.pixels.astype(int), pixels, atol=2)


def test_lossless_jpeg_inside_dicom_is_read():
    path = real_file("JPGLosslessP14SV1_1s_1f_8b.dcm")
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert radiograph.read(path).pixels.std() > 10


def test_file_without_an_extension_is_recognised_by_its_bytes(tmp_path):
    path = tmp_path / "IM000001"
    path.write_bytes(make_dicom(gradient(255, np.uint8), 8))
    assert radiograph.read(path).header.format == "DICOM"


OVERLAY_SYNTAXES = {
    ExplicitVRLittleEndian: None,
    RLELossless: gdcm.TransferSyntax.RLELossless,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def compress(stored: np.ndarray, syntax: UID, folder: Path) -> bytes | None:
    """Compresses all 16 bits; None for no compression."""
    if OVERLAY_SYNTAXES[syntax] is None:
        return None
    path = folder / "frame.dcm"
    path.write_bytes(make_dicom(stored.view(np.uint16), 16))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(OVERLAY_SYNTAXES[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))


@pytest.mark.parametrize(
    ("syntax", "shifted"),
    # GDCM itself drops the high bits of lossless JPEG.
    [(syntax, False) for syntax in OVERLAY_SYNTAXES]
    + [(syntax, True) for syntax in OVERLAY_SYNTAXES if syntax != JPEGLosslessSV1],
    ids=lambda value: value.keyword if isinstance(value, UID) else ["low", "high"][value],
)
@pytest.mark.parametrize("bits", [10, 12, 15])
@pytest.mark.parametrize("low", [-2, 0])
def test_bits_around_the_stored_ones_do_not_count(syntax, bits, low, shifted, tmp_path):
    top = 2**bits - 1
    clean = np.linspace(low * 2 ** (bits - 2), top + low * 2 ** (bits - 2), 3000).reshape(60, 50)
    clean = np.rint(clean).astype(np.int16 if low else np.uint16)
    expected = radiograph.read(make_dicom(clean, bits)).pixels
    overlay = np.random.default_rng(0).integers(0, 2 ** (16 - bits), clean.shape, np.uint16)
    used = clean.view(np.uint16) & np.uint16(top)
    stored = (used << (16 - bits)) | overlay if shifted else used | (overlay << bits)
    tags = {"HighBit": 15 if shifted else bits - 1}
    stored = stored.view(clean.dtype)
    data = make_dicom(stored, bits, syntax, compress(stored, syntax, tmp_path), **tags)
    np.testing.assert_array_equal(radiograph.read(data).pixels, expected)


def test_wrong_high_bit_does_not_shift_values_that_need_no_clearing():
    stored = gradient(4095)
    image = radiograph.read(make_dicom(stored, 12, HighBit=15))
    np.testing.assert_array_equal(image.pixels, stored)


def test_overlay_in_a_real_compressed_file_is_cleared():
    folder = fault("overlay_bits")
    plain = radiograph.read(folder / "plain_j2k.dcm")
    overlaid = radiograph.read(folder / "with_overlay_j2k.dcm")
    np.testing.assert_array_equal(overlaid.pixels, plain.pixels)
    assert overlaid.white == plain.white
