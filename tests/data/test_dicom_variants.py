"""Tests of DICOM files without some elements, in grey colour, and of recognizing their head."""

import io
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MediaStorageDirectoryStorage,
)

from tests.data.dicom_files import error_message, gradient, make_dicom, real_file
from tests.data.pictures import encode
from tests.data.sets import fault
from trainer.data import dicom, dicom_head, image_files, radiograph

STORED = gradient(4095)
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def rewrite(data: bytes, remove: tuple[str, ...] = (), **tags: object) -> pydicom.FileDataset:
    """Reads a file and removes and adds elements."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword in remove:
        del dataset[keyword]
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def save(dataset: pydicom.Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """Writes a data set without a preamble and without file meta information."""
    buffer = io.BytesIO()
    bare = pydicom.Dataset()
    bare.update(dataset)
    if syntax == ExplicitVRBigEndian:
        bare.PixelData = np.frombuffer(bare.PixelData, np.uint16).byteswap().tobytes()
    pydicom.dcmwrite(
        buffer,
        bare,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
    )
    return buffer.getvalue()


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("preamble", [b"", bytes(128) + b"DICM"], ids=["bare", "preamble"])
def test_files_without_meta_information_are_read(syntax, preamble, tmp_path):
    data = preamble + save(rewrite(make_dicom(STORED, 12, PatientID="4711")), syntax)
    assert radiograph.recognize(data[: radiograph.HEAD_BYTES]) == "DICOM"
    np.testing.assert_array_equal(radiograph.read(data).pixels, STORED)
    path = tmp_path / "IM1"
    path.write_bytes(data)
    assert image_files.list_files(tmp_path).images == ["IM1"]
    assert len(dicom.read_patient(path)) == 12


def test_meta_information_without_a_preamble_or_without_a_syntax_is_read():
    data = make_dicom(STORED, 12)
    np.testing.assert_array_equal(radiograph.read(data[132:]).pixels, STORED)
    dataset = rewrite(data)
    del dataset.file_meta.TransferSyntaxUID
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    np.testing.assert_array_equal(radiograph.read(buffer.getvalue()).pixels, STORED)


@pytest.mark.parametrize(
    ("remove", "tags", "missing"),
    [
        (("PhotometricInterpretation",), {}, "PhotometricInterpretation"),
        (("Rows", "Columns"), {}, "Rows and Columns"),
        (("BitsStored",), {}, "BitsStored"),
        (("PixelRepresentation",), {}, "PixelRepresentation"),
        ((), {"PhotometricInterpretation": ""}, "PhotometricInterpretation"),
    ],
)
def test_missing_elements_are_named(remove, tags, missing):
    message = error_message(save(rewrite(make_dicom(STORED, 12), remove, **tags)))
    assert f"without {missing}, which" in message
    assert "export it again" in message


def test_compressed_pixels_without_a_syntax_are_named():
    frame = encode(Image.fromarray(gradient(255, np.uint8)), "JPEG")
    dataset = rewrite(make_dicom(gradient(255, np.uint8), 8, JPEGBaseline8Bit, frame))
    assert "without TransferSyntaxUID" in error_message(save(dataset))


@pytest.mark.parametrize(("shape", "inverted"), [("IDENTITY", False), ("INVERSE", True)])
def test_presentation_shape_stands_for_a_missing_interpretation(shape, inverted):
    dataset = rewrite(
        make_dicom(STORED, 12),
        ("PhotometricInterpretation", "SamplesPerPixel", "HighBit"),
        PresentationLUTShape=shape,
    )
    expected = 4095 - STORED if inverted else STORED
    np.testing.assert_array_equal(radiograph.read(save(dataset)).pixels, expected)


def make_colour(pixels: np.ndarray, kind: str, planar: int = 0) -> bytes:
    """Builds a secondary capture of [height, width, 3] uint8."""
    order = pixels.transpose(2, 0, 1) if planar else pixels
    dataset = rewrite(
        make_dicom(pixels[..., 0], 8),
        SamplesPerPixel=3,
        PlanarConfiguration=planar,
        PhotometricInterpretation=kind,
        WindowCenter=1,
        WindowWidth=1,
        PixelData=np.ascontiguousarray(order).tobytes(),
    )
    return save(dataset)


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_without_colour_is_read_as_grey(planar):
    grey = gradient(255, np.uint8)
    image = radiograph.read(make_colour(np.dstack([grey] * 3), "RGB", planar))
    np.testing.assert_array_equal(image.pixels, grey)
    assert image.pixels.dtype == np.uint8
    assert image.header.channels == 3
    chroma = np.full_like(grey, 128)
    image = radiograph.read(make_colour(np.dstack([grey, chroma, chroma]), "YBR_FULL", planar))
    np.testing.assert_array_equal(image.pixels, grey)


@pytest.mark.parametrize(
    ("syntax", "kind", "format", "options"),
    [
        (JPEGBaseline8Bit, "YBR_FULL_422", "JPEG", {"quality": 95, "subsampling": 1}),
        (JPEGBaseline8Bit, "YBR_FULL", "JPEG", {"quality": 95, "subsampling": 0}),
        (JPEG2000Lossless, "YBR_RCT", "JPEG2000", {"no_jp2": True, "mct": 1}),
        (JPEG2000Lossless, "RGB", "JPEG2000", {"no_jp2": True, "mct": 0}),
    ],
)
def test_compressed_colour_without_colour_is_read_as_grey(syntax, kind, format, options):
    grey = gradient(255, np.uint8)
    frame = encode(Image.fromarray(np.dstack([grey] * 3)), format, **options)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": kind, "PlanarConfiguration": 0}
    image = radiograph.read(make_dicom(grey, 8, syntax, frame, **tags))
    np.testing.assert_allclose(image.pixels.astype(int), grey, atol=3)


@pytest.mark.parametrize("name", ["SC_rgb.dcm", "SC_ybr_full_uncompressed.dcm", "SC_rgb_rle.dcm"])
def test_true_colour_is_rejected(name):
    assert "in colour" in error_message(real_file(name).read_bytes())


def test_dicomdir_is_no_image(tmp_path):
    data = real_file("DICOMDIR").read_bytes()
    assert MediaStorageDirectoryStorage.encode() in data[:1024]
    for bare in (data, data[132:]):
        (tmp_path / "DICOMDIR").write_bytes(bare)
        listing = image_files.list_files(tmp_path)
        assert listing.others == ["DICOMDIR"]
        assert "directory of a DICOM disc" in error_message(bare)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\x08\0\x05\0 is not DICOM\n" * 90,
        b"\x08\0\x60\0CS\x02\0CR\n" * 90,  # The same element again.
        b"\x02\0\0\0UL\x04\0",
        bytes(1024),
        b"\x08\0" * 512,
        struct.pack("<HHIHHI", 8, 5, 1, 8, 8, 1) * 60,  # Odd lengths.
        struct.pack("<HHI", 8, 5, 2**31) * 120,
        encode(gradient(255, np.uint8), "TGA"),
        encode(gradient(255, np.uint8), "ICO"),
        encode(gradient(255, np.uint8), "PCX"),
    ],
)
def test_other_bytes_are_no_dicom(start):
    assert not dicom_head.recognize(start[:1024])


@given(st.one_of(st.binary(max_size=1024), st.text(max_size=300).map(str.encode)))
def test_random_bytes_and_texts_are_no_dicom(data):
    for head in (data, b"\x08\0" + data, b"\x08\0\x05\0" + data, b"\0\x08" + data):
        assert not dicom_head.recognize(head)


def test_files_of_this_machine_are_no_dicom():
    paths = [path for path in Path(np.__file__).parent.rglob("*") if path.is_file()]
    assert len(paths) > 500
    heads = (path.open("rb").read(1024) for path in paths)
    assert not any(map(dicom_head.recognize, heads))


def test_real_files_without_a_preamble_are_recognized():
    for name in ("ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "rtstruct.dcm"):
        assert dicom_head.recognize(real_file(name).read_bytes()[:1024])


def test_faults_without_preamble_and_interpretation():
    folder = fault("no_preamble")
    images = [radiograph.read(path) for path in sorted(folder.iterdir())]
    assert [image.pixels.shape for image in images] == [(256, 256)] * 2
    np.testing.assert_array_equal(images[0].pixels, images[1].pixels)
    film = fault("no_photometric") / "film.dcm"
    with pytest.raises(radiograph.RadiographError, match="without PhotometricInterpretation"):
        radiograph.read(film)
