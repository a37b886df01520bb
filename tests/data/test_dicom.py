"""DICOM: shown as a viewer shows it, the same as the picture in any other container, and silent about the patient."""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from trainer.data import radiograph
from trainer.data.radiograph import RadiographError

FEW = settings(deadline=None, max_examples=20, derandomize=True)
SHAPES = st.tuples(st.integers(32, 50), st.integers(32, 50))
SECRET = "Roentgen^Anna Bertha"


def _dicom(
    stored: np.ndarray,
    bits: int,
    syntax: UID = ExplicitVRLittleEndian,
    frame: bytes | None = None,
    **tags,
) -> bytes:
    """A single-frame file of these stored values; `frame` replaces their bytes in a compressed syntax."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientName = SECRET
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    for tag, value in tags.items():
        dataset.add(value) if isinstance(value, pydicom.DataElement) else setattr(
            dataset, tag, value
        )
    dataset.PixelData = encapsulate([frame]) if frame is not None else stored.tobytes()
    dataset["PixelData"].VR = "OB" if frame is not None or bits <= 8 else "OW"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _table(entries: np.ndarray, bits: int, first: int = 0) -> pydicom.Sequence:
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return pydicom.Sequence([item])


def _gradient(top: int, dtype: type = np.uint16) -> np.ndarray:
    return np.linspace(0, top, 60 * 50).reshape(60, 50).astype(dtype)


def _real(name: str) -> Path:
    """A file of the pydicom-data package; never downloaded."""
    found = get_testdata_file(name, download=False)
    assert found, f"{name} is missing: install pydicom-data, a dependency of the tests"
    return Path(found)


@FEW
@given(hnp.arrays(np.uint8, SHAPES))
def test_8_bits_without_a_window_come_back_exactly(image):
    found = radiograph.read(_dicom(image, 8))
    np.testing.assert_array_equal(found.pixels, image)
    assert found.pixels.dtype == np.uint8


@FEW
@given(hnp.arrays(np.uint16, SHAPES, elements=st.integers(0, 4095)))
def test_12_bits_without_a_window_come_back_exactly(image):
    found = radiograph.read(_dicom(image, 12))
    np.testing.assert_array_equal(found.pixels, image)
    assert found.pixels.dtype == np.uint16 and found.header.bit_depth == 12


@FEW
@given(hnp.arrays(np.uint16, SHAPES), st.sampled_from([8, 10, 12, 16]), st.booleans())
def test_monochrome1_of_the_inverse_is_monochrome2(noise, bits, windowed):
    top = 2**bits - 1
    image = (noise & top).astype(np.uint8 if bits == 8 else np.uint16)
    image[0, :2] = 0, top  # Both ends, so that no pixel range is mistaken for a shallower one.
    window = {"WindowCenter": top * 0.4, "WindowWidth": top * 0.7}
    mirrored = {
        "WindowCenter": top - window["WindowCenter"] + 1,
        "WindowWidth": window["WindowWidth"],
    }
    plain = radiograph.read(_dicom(image, bits, **(window if windowed else {})))
    other = radiograph.read(
        _dicom(
            top - image,
            bits,
            PhotometricInterpretation="MONOCHROME1",
            **(mirrored if windowed else {}),
        )
    )
    np.testing.assert_allclose(plain.pixels.astype(int), other.pixels, atol=1 if windowed else 0)


@FEW
@given(hnp.arrays(np.uint8, SHAPES).filter(lambda image: image.max() >= 64))
def test_the_same_picture_standardizes_alike_in_every_container(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    expected = radiograph.standardize(radiograph.read(buffer.getvalue()))
    scaled = np.rint(image / 255 * 4095).astype(np.uint16)
    for data in (
        _dicom(image, 8),
        _dicom(image.astype(np.uint16), 8),
        _dicom(scaled, 12),
        _dicom(scaled, 16),
        _dicom(image.astype(np.uint16) * 257, 16),
        _dicom(scaled, 12, WindowCenter=2048, WindowWidth=4096),
    ):
        found = radiograph.standardize(radiograph.read(data)).astype(int)
        np.testing.assert_allclose(found, expected, atol=1)


def test_signed_values_and_a_rescale_do_not_darken():
    image = _gradient(4095)
    shifted = image.astype(np.int16) - 1024
    for data in (_dicom(shifted, 16), _dicom(image, 12, RescaleSlope=1, RescaleIntercept=-1024)):
        np.testing.assert_array_equal(radiograph.read(data).pixels, image)
    np.testing.assert_array_equal(
        radiograph.read(_dicom(image, 12, RescaleSlope=-2, RescaleIntercept=9)).pixels, 4095 - image
    )


def test_the_windows_output_range_is_the_full_range():
    image = _gradient(4095)
    for tags in (
        {"WindowCenter": 1000.5, "WindowWidth": 1001},
        {"WindowCenter": [1000.5, 9], "WindowWidth": [1001, 9]},
        {"WindowCenter": -23.5, "WindowWidth": 1001, "RescaleSlope": 1, "RescaleIntercept": -1024},
        {"WindowCenter": -2001, "WindowWidth": 2001, "RescaleSlope": -2, "RescaleIntercept": 0},
    ):
        expected = np.clip((image - 500.0) / 1000.0, 0, 1)
        expected = 1 - expected if tags.get("RescaleSlope") == -2 else expected
        pixels = radiograph.read(_dicom(image, 12, **tags)).pixels
        np.testing.assert_allclose(pixels / 65535.0, expected, atol=2e-3)
        assert (pixels.min(), pixels.max()) == (0, 65535)


def test_a_sigmoid_window_is_a_sigmoid():
    image = _gradient(4095)
    pixels = radiograph.read(
        _dicom(image, 12, WindowCenter=2000, WindowWidth=800, VOILUTFunction="SIGMOID")
    ).pixels
    np.testing.assert_allclose(
        pixels / 65535.0, 1 / (1 + np.exp(-4 * (image - 2000.0) / 800)), atol=1e-4
    )


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 100},
        {"WindowCenter": 100, "WindowWidth": 0},
        {"RescaleSlope": None, "RescaleIntercept": None},
    ],
)
def test_empty_and_impossible_tags_count_as_absent(tags):
    np.testing.assert_array_equal(
        radiograph.read(_dicom(_gradient(4095), 12, **tags)).pixels, _gradient(4095)
    )


def test_look_up_tables_apply():
    image = _gradient(255)
    table = (np.arange(256) ** 2 // 16).astype(np.uint16)  # Up to 4064: 12 bits.
    share = table[image] / 4095.0
    voi = radiograph.read(
        _dicom(image, 12, VOILUTSequence=_table(table, 12), RescaleSlope=1, RescaleIntercept=0)
    )
    np.testing.assert_allclose(voi.pixels / 65535.0, share, atol=1e-4)
    modality = radiograph.read(_dicom(image, 16, ModalityLUTSequence=_table(table, 16)))
    np.testing.assert_array_equal(modality.pixels, table[image])
    assert modality.white == 4095


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 4096}])
@pytest.mark.parametrize(
    "padding", [-2000, pydicom.DataElement("PixelPaddingValue", "US", 65536 - 2000)]
)
def test_padding_is_black_and_does_not_count(kind, window, padding):
    image = _gradient(3000).astype(np.int16) + 500
    padded = image.copy()
    padded[:5] = -2000
    tags = {"PixelPaddingValue": padding, "PhotometricInterpretation": kind, **window}
    pixels = radiograph.read(_dicom(padded, 16, **tags)).pixels
    del tags["PixelPaddingValue"]
    assert not pixels[:5].any()
    np.testing.assert_array_equal(pixels[5:], radiograph.read(_dicom(image, 16, **tags)).pixels[5:])


def test_a_chest_radiograph_is_bright_where_bone_is():
    found = radiograph.read(_real("RG1_UNCR.dcm"))
    assert found.header.format == "DICOM"
    assert (
        found.header.width,
        found.header.height,
        found.header.channels,
        found.header.bit_depth,
    ) == (1841, 1955, 1, 15)
    square = radiograph.standardize(found).astype(float)
    spine, lungs = square[200:350, 235:265].mean(), square[100:180, 130:170].mean()
    shoulders, belly = square[:20].mean(), square[-60:].mean()
    assert spine > lungs + 40 and belly > lungs + 40 and shoulders > 0


@pytest.mark.parametrize("name", ["RG1_J2KR.dcm", "RG3_J2KR.dcm", "MR2_J2KR.dcm"])
def test_compressed_real_files_equal_their_uncompressed_twins(name):
    found, twin = radiograph.read(_real(name)), radiograph.read(_real(name.replace("J2KR", "UNCR")))
    assert (
        np.abs(radiograph.standardize(found).astype(int) - radiograph.standardize(twin)).mean() < 1
    )


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("MR_small_RLE.dcm", RLELossless),
        ("MR_small_jp2klossless.dcm", JPEG2000Lossless),
        ("MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless),
    ],
)
def test_lossless_compression_loses_nothing(name, syntax):
    path = _real(name)
    assert syntax == pydicom.dcmread(path).file_meta.TransferSyntaxUID
    np.testing.assert_array_equal(
        radiograph.read(path).pixels, radiograph.read(_real("MR_small.dcm")).pixels
    )


def test_jpeg_inside_dicom_is_read():
    buffer = io.BytesIO()
    Image.fromarray(_gradient(255, np.uint8)).save(buffer, "JPEG", quality=100)
    data = _dicom(_gradient(255, np.uint8), 8, JPEGBaseline8Bit, buffer.getvalue())
    np.testing.assert_allclose(
        radiograph.read(data).pixels.astype(int), _gradient(255, np.uint8), atol=2
    )
    lossless = _real("JPGLosslessP14SV1_1s_1f_8b.dcm")
    assert pydicom.dcmread(lossless).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert radiograph.read(lossless).pixels.std() > 10


def test_a_file_without_an_extension_is_found_by_its_bytes(tmp_path):
    (tmp_path / "IM000001").write_bytes(_dicom(_gradient(255, np.uint8), 8))
    assert radiograph.read(tmp_path / "IM000001").header.format == "DICOM"


def _refusal(data: bytes) -> str:
    with pytest.raises(RadiographError) as caught:
        radiograph.read(data, name="IM000001")
    message = str(caught.value)
    assert message.startswith("IM000001: ") and "\n" not in message and "Roentgen" not in message
    return message


def test_refused_in_one_line_that_says_what_to_do():
    image = _gradient(255, np.uint8)
    whole = _dicom(image, 8)
    small = _dicom(image[:31], 8)
    assert "50x31 is too small; give" in _refusal(small)
    assert "20000x20000 is over 64 megapixels; scale" in _refusal(
        _dicom(image, 8, Rows=20000, Columns=20000)
    )
    assert "several frames; export one frame" in _refusal(_dicom(image, 8, NumberOfFrames=2))
    assert "in colour; export it as MONOCHROME2" in _refusal(
        _dicom(image, 8, PhotometricInterpretation="RGB")
    )
    assert "over 16 bits; export" in _refusal(_dicom(image.astype(np.uint32), 32))
    assert "deflated DICOM file; export it uncompressed" in _refusal(
        _dicom(image, 8, DeflatedExplicitVRLittleEndian)
    )
    assert "without an image" in _refusal(whole[: whole.index(b"\xe0\x7f\x10\0")])
    assert "export it uncompressed" in _refusal(
        _dicom(image, 8, JPEG2000Lossless, b"no codestream")
    )


def test_a_compressed_stream_larger_than_the_tags_say_is_refused_before_decoding():
    buffer = io.BytesIO()
    Image.new("L", (9000, 9000)).save(buffer, "JPEG")
    image = _gradient(255, np.uint8)
    assert "9000x9000 is over 64 megapixels" in _refusal(
        _dicom(image, 8, JPEGBaseline8Bit, buffer.getvalue())
    )
    codestream = (
        b"\xff\x4f\xff\x51\0\x29\0\0" + (9001).to_bytes(4, "big") + (9002).to_bytes(4, "big")
    )
    assert "9001x9002 is over 64 megapixels" in _refusal(
        _dicom(image, 8, JPEG2000Lossless, codestream)
    )


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "JPGExtended.dcm"]
)
def test_every_cut_through_the_pixels_is_noticed(name):
    data = _real(name).read_bytes()
    start = data.index(b"\xe0\x7f\x10\0")
    end = (
        data.find(b"\xfc\xff\xfc\xff") if b"\xfc\xff\xfc\xff" in data else len(data)
    )  # Trailing padding may be lost.
    for cut in [*range(0, start, 97), *range(start, end - 8, 211), end - 9]:
        _refusal(data[:cut])


_NAMES = [
    "MR_small.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_bigendian.dcm",
    "examples_overlay.dcm",
    "mlut_18.dcm",
]


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    st.sampled_from(_NAMES),
    st.lists(st.tuples(st.integers(128, 2500), st.integers(0, 255)), max_size=6),
    st.one_of(st.none(), st.integers(128, 2**20)),
)
def test_no_other_exception_leaks_from_damaged_files(name, changes, cut):
    damaged = bytearray(_real(name).read_bytes())
    for position, value in changes:
        damaged[position % len(damaged)] = value
    try:
        found = radiograph.read(
            bytes(damaged[: cut % len(damaged)] if cut is not None else damaged)
        )
    except RadiographError as error:
        assert "\n" not in str(error)
    else:
        assert radiograph.standardize(found).shape == (500, 500)


def test_nothing_is_said_of_the_patient(caplog, capfd):
    image = _gradient(255, np.uint8)
    data = _dicom(
        image,
        8,
        PatientBirthDate="19190402",
        RescaleSlope="1.2345678",
        RescaleIntercept="0",
        WindowCenter="1.7654321",
        WindowWidth="400",
    )
    # A name where a number or a keyword belongs: pydicom's own texts quote it.
    misplaced = [
        data.replace(proper, b"Roentgen "[: len(proper)])
        for proper in (b"1.2345678", b"1.7654321", b"MONOCHROM", b"19190402")
    ]
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in (data, *misplaced, data.replace(b"PN", b"DS", 1), data[:-100], data + b"x" * 7):
            try:
                assert "Roentgen" not in repr(radiograph.read(each))
            except RadiographError as error:
                assert "Roentgen" not in str(error)
        logging.getLogger("pydicom").error("of Roentgen")  # As pydicom would about a tag.
    said = capfd.readouterr()
    assert "Roentgen" not in caplog.text + said.out + said.err
    with pytest.raises(ValueError, match="Roentgen"):
        float(pydicom.dcmread(io.BytesIO(misplaced[0])).RescaleSlope)
