"""Tests of rejected and damaged DICOM files, and of silence about the patient."""

import io
import logging
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from tests.data.dicom_files import error_message, gradient, make_dicom, real_file
from tests.data.pictures import check_damaged
from trainer.data import radiograph
from trainer.data.radiograph import RadiographError

PIXELS = gradient(255, np.uint8)
PIXEL_DATA_TAG = b"\xe0\x7f\x10\0"
SEQUENCE_END = b"\xfc\xff\xfc\xff"  # Whatever follows is trailing padding.
WHOLE = make_dicom(PIXELS, 8)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (make_dicom(PIXELS[:31], 8), "50x31 is too small; give"),
        (
            make_dicom(PIXELS, 8, Rows=20000, Columns=20000),
            "20000x20000 is over 64 megapixels; scale",
        ),
        (make_dicom(PIXELS, 8, NumberOfFrames=2), "several frames; export one frame"),
        (
            make_dicom(PIXELS, 8, PhotometricInterpretation="RGB"),
            "in colour; export it as MONOCHROME2",
        ),
        (make_dicom(PIXELS.astype(np.uint32), 32), "over 16 bits; export"),
        (
            make_dicom(PIXELS, 8, DeflatedExplicitVRLittleEndian),
            "deflated DICOM file; export it uncompressed",
        ),
        (WHOLE[: WHOLE.index(PIXEL_DATA_TAG)], "without an image"),
        (make_dicom(PIXELS, 8, JPEG2000Lossless, b"no codestream"), "export it uncompressed"),
    ],
    ids=["small", "large", "frames", "colour", "32 bits", "deflated", "no image", "no codestream"],
)
def test_rejected_files_get_one_line_with_the_fix(data, words):
    assert words in error_message(data)


def test_stream_larger_than_its_tags_is_rejected_before_decoding():
    buffer = io.BytesIO()
    Image.new("L", (9000, 9000)).save(buffer, "JPEG")
    # The tags declare 50 x 60 pixels.
    jpeg = make_dicom(PIXELS, 8, JPEGBaseline8Bit, buffer.getvalue())
    assert "9000x9000 is over 64 megapixels" in error_message(jpeg)
    size = (9001).to_bytes(4, "big") + (9002).to_bytes(4, "big")
    # Start of codestream and SIZ, without any data.
    codestream = b"\xff\x4f\xff\x51\0\x29\0\0" + size
    jpeg2000 = make_dicom(PIXELS, 8, JPEG2000Lossless, codestream)
    assert "9001x9002 is over 64 megapixels" in error_message(jpeg2000)


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "JPGExtended.dcm"]
)
def test_every_cut_through_the_pixels_is_rejected(name):
    data = real_file(name).read_bytes()
    start = data.index(PIXEL_DATA_TAG)
    end = data.find(SEQUENCE_END) if SEQUENCE_END in data else len(data)
    # Coarse steps: each cut takes milliseconds.
    for cut in [*range(0, start, 97), *range(start, end - 8, 211), end - 9]:
        error_message(data[:cut])


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    st.sampled_from(
        [
            "MR_small.dcm",
            "MR_small_jp2klossless.dcm",
            "MR_small_RLE.dcm",
            "MR_small_jpeg_ls_lossless.dcm",
            "MR_small_bigendian.dcm",
            "examples_overlay.dcm",
            "mlut_18.dcm",
        ]
    ),
    st.lists(st.tuples(st.integers(128, 2500), st.integers(0, 255)), max_size=6),
    st.one_of(st.none(), st.integers(128, 2**20)),
)
def test_damage_raises_no_other_exception(name, changes, cut):
    damaged = bytearray(real_file(name).read_bytes())
    for position, value in changes:
        damaged[position % len(damaged)] = value
    check_damaged(bytes(damaged if cut is None else damaged[: cut % len(damaged)]))


def test_nothing_reveals_the_patient(caplog, capfd):
    tags = {
        "PatientBirthDate": "19190402",
        "RescaleSlope": "1.2345678",
        "RescaleIntercept": "0",
        "WindowCenter": "1.7654321",
        "WindowWidth": "400",
    }
    data = make_dicom(PIXELS, 8, **tags)
    # A name in place of a number or keyword: pydicom's own messages quote it.
    misplaced = [
        data.replace(value, b"Roentgen "[: len(value)])
        for value in (b"1.2345678", b"1.7654321", b"MONOCHROM", b"19190402")
    ]
    damaged = [data.replace(b"PN", b"DS", 1), data[:-100], data + b"x" * 7]
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in (data, *misplaced, *damaged):
            try:
                text = repr(radiograph.read(file))
            except RadiographError as error:
                text = str(error)
            assert "Roentgen" not in text
        # The way pydicom would log a tag.
        logging.getLogger("pydicom").error("of Roentgen")
    output = capfd.readouterr()
    assert "Roentgen" not in caplog.text + output.out + output.err
    # The test has force: pydicom does quote the name.
    with pytest.raises(ValueError, match="Roentgen"):
        float(pydicom.dcmread(io.BytesIO(misplaced[0])).RescaleSlope)
