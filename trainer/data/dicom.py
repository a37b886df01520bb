"""DICOM files, read as one radiograph.

Only pixels and the tags needed to display them are read; no other tag is kept, shown or logged.
Beside them, the patient is read as a hash, which tells which images are of one patient.
A separate module because it alone needs pydicom, which `radiograph.read` imports lazily.

    image = dicom.decode(data, name="IM0001")
"""

import hashlib
import io
import logging
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom import encaps
from pydicom import pixels as dicom_pixels
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
)

from trainer.data import dicom_head
from trainer.data.pixels import Header, Radiograph, RadiographError, check_size, white_level
from trainer.data.tables import is_missing

# pydicom's warnings and log lines may quote values of tags, which may name a patient.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

_SYNTAX_BYTES = 2048  # Of a file, that name its transfer syntax.
# Of this project alone: hashes of the same patient made elsewhere differ.
_PATIENT_PREFIX = "chest-radiograph-trainer/patient/"
_GREY = ("MONOCHROME1", "MONOCHROME2")
# Whose pixels pydicom decodes to red, green and blue.
_COLOURED = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_MAX_TINT = 4 / 255
"""Largest difference of the channels of a grey picture: lossy compression rounds them."""
_NEEDED = (
    *("Rows", "Columns", "PhotometricInterpretation", "BitsAllocated", "BitsStored"),
    "PixelRepresentation",
)
# PS3.3, C.8.11.3.1.2: one says what the other says.
_BY_SHAPE = {"IDENTITY": "MONOCHROME2", "INVERSE": "MONOCHROME1"}


def decode(data: bytes, name: str) -> Radiograph:
    """Decodes a single-frame DICOM file with its modality and VOI transforms.

    See PS3.3 C.11.1 and C.11.2. MONOCHROME1 is inverted; padding becomes black. With a VOI window
    or look-up table (the first counts), its output range becomes that of uint8 or, above 8 bits
    stored, uint16. Without one, stored values stay unchanged, moved to start at 0 if any is
    negative: without a window, a linear rescale changes nothing but its sign. Colour is read where
    it shows grey.

    Args:
      data: the file's bytes.
      name: the name in error messages.

    Raises:
      RadiographError: no pixels, several frames, colour, deflated, or a size outside the limits.
      Exception: damaged, or in an unknown compression; pydicom has many types.
    """
    if _is_deflated(data):
        raise RadiographError(f"{name}: is a deflated DICOM file; export it uncompressed.")
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)  # Also without a preamble.
    dataset.pixel_array_options(correct_unused_bits=False)  # See `_clear_unused_bits`.
    _complete(dataset)
    _check(dataset, name)
    # [height, width] or [height, width, 3]
    stored = _clear_unused_bits(dataset, dataset.pixel_array)
    if stored.ndim == 3:
        pixels, white = _remove_colour(dataset, stored, name)
    else:
        pixels, white = _display(dataset, stored)
    header = Header(
        width=int(dataset.Columns),
        height=int(dataset.Rows),
        channels=int(dataset.SamplesPerPixel),
        bit_depth=int(dataset.BitsStored),
        byte_size=len(data),
        format="DICOM",
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return Radiograph(pixels, header, white)


def read_patient(path: Path) -> str:
    """Reads the patient of a file as a hash, 12 hexadecimal digits; empty without one.

    The tag itself is neither kept nor shown.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_SYNTAX_BYTES)
            if _is_deflated(head) or not dicom_head.recognize(head):
                return ""
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's warnings may quote the tag.
                header = pydicom.dcmread(
                    file, stop_before_pixels=True, force=True, specific_tags=["PatientID"]
                )
                patient = str(header.get("PatientID") or "").strip()
    except Exception:  # pydicom has many types; the file is refused when its pixels are read.
        return ""
    if is_missing(patient):
        return ""
    return hashlib.sha256((_PATIENT_PREFIX + patient).encode()).hexdigest()[:12]


def _is_deflated(data: bytes) -> bool:
    # pydicom inflates such a file whole, before any size check. Its first bytes name the syntax.
    return DeflatedExplicitVRLittleEndian.encode() in data[:_SYNTAX_BYTES]


def _complete(dataset: pydicom.Dataset) -> None:
    """Adds missing elements to which the others leave one value."""
    if not dataset.file_meta.get("TransferSyntaxUID") and "PixelData" in dataset:
        implicit, little_endian = dataset.original_encoding
        if not dataset["PixelData"].is_undefined_length:  # Then it is compressed.
            native = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else native
    if not dataset.get("PhotometricInterpretation"):
        kind = _BY_SHAPE.get(dataset.get("PresentationLUTShape"))
        dataset.PhotometricInterpretation = kind
    if dataset.get("SamplesPerPixel") is None and dataset.PhotometricInterpretation in _GREY:
        dataset.SamplesPerPixel = 1


def _check(dataset: pydicom.Dataset, name: str) -> None:
    if "PixelData" not in dataset:
        raise RadiographError(
            f"{name}: is a DICOM file without an image, or cut off before it; give an image, or "
            "get the file again."
        )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise RadiographError(f"{name}: is a DICOM file of several frames; export one frame.")
    missing = [keyword for keyword in _NEEDED if dataset.get(keyword) in (None, "")]
    if not dataset.file_meta.get("TransferSyntaxUID"):
        missing.append("TransferSyntaxUID")
    if missing:
        raise RadiographError(
            f"{name}: is a DICOM file without {' and '.join(missing)}, which its pixels cannot be "
            "understood without; export it again, as a complete DICOM file or as PNG."
        )
    kinds = {1: _GREY, 3: _COLOURED}.get(int(dataset.get("SamplesPerPixel") or 0), ())
    if dataset.PhotometricInterpretation not in kinds:
        raise RadiographError(f"{name}: is a DICOM file in colour; export it as MONOCHROME2.")
    if int(dataset.BitsAllocated) > 16:
        raise RadiographError(f"{name}: is a DICOM file of over 16 bits; export it with 16.")
    check_size(int(dataset.Columns), int(dataset.Rows), name)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        check_size(*_compressed_size(dataset), name)


def _compressed_size(dataset: pydicom.Dataset) -> tuple[int, int]:
    # (width, height) in the compressed stream, for which its decoder allocates.
    stream = next(encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    if dataset.file_meta.TransferSyntaxUID in JPEG2000TransferSyntaxes:
        # Start of codestream, SIZ (ISO 15444-1, A.5.1).
        return struct.unpack_from(">II", stream, stream.index(b"\xff\x4f\xff\x51") + 8)
    position = 2
    # Up to the start of frame (ISO 10918-1, B.1 and B.2.2; ISO 14495-1 adds F7).
    while stream.startswith(b"\xff\xd8"):
        marker, length, _, height, width = struct.unpack_from(">xBHBHH", stream, position)
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return width, height
        position += 2 + length
    return int(dataset.Columns), int(dataset.Rows)  # Run-length coding stores no size.


def _remove_colour(
    dataset: pydicom.Dataset, stored: np.ndarray, name: str
) -> tuple[np.ndarray, int]:
    """Returns grey pixels and the white level of [height, width, 3] uint8 or uint16."""
    bits = max(8, int(dataset.BitsStored))
    high = stored.max(axis=2)
    low = stored.min(axis=2)
    if (high - low).max() > _MAX_TINT * (2**bits - 1):
        raise RadiographError(f"{name}: is a DICOM file in colour; export it as MONOCHROME2.")
    middle = stored.sum(axis=2, dtype=np.uint32) - high - low
    pixels = middle.astype(np.uint8 if bits == 8 else np.uint16)
    return pixels, white_level(pixels, bits)


def _display(dataset: pydicom.Dataset, stored: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns ([height, width] uint8 or uint16, the white level), bone bright."""
    for tag in ("RescaleSlope", "RescaleIntercept"):
        if dataset.get(tag) is None:
            dataset.pop(tag, None)  # pydicom's transforms treat an empty tag as a number.
    padding = _padding(dataset, stored)
    if dataset.get("VOILUTSequence") or _has_window(dataset):
        pixels, white = _apply_window(dataset, stored)
    else:
        pixels, white = _apply_without_window(dataset, stored, padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = white - pixels
    # 8 bits stay 8 bits, as in any other format.
    pixels = np.ascontiguousarray(pixels, np.uint8 if int(dataset.BitsStored) <= 8 else np.uint16)
    pixels[padding] = 0
    return pixels, white


def _clear_unused_bits(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    """Clears the bits around the stored ones, or fills them with the sign.

    They may hold an overlay (PS3.5, 8.1.1). pydicom clears them in some transfer syntaxes only, and
    does not look at HighBit, which may be above BitsStored - 1 in old files.
    """
    width = 8 * stored.dtype.itemsize
    bits = int(dataset.BitsStored)
    cleared = (stored << (width - bits)) >> (width - bits)
    below = int(dataset.get("HighBit") or 0) + 1 - bits  # Number of unused bits.
    # Files that need no clearing use the low bits, whatever HighBit says.
    if not 0 < below <= width - bits or np.array_equal(cleared, stored):
        return cleared
    return (stored << (width - bits - below)) >> (width - bits)


def _padding(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    # Pixels that are filling (PS3.3 C.7.5.1.1.2), unless all are.
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    bounds = [value, dataset.get("PixelPaddingRangeLimit", value)]
    # Wrapped into the pixels' type: writers confuse the signed and the unsigned form.
    low, high = np.sort(np.array(bounds, np.int64).astype(stored.dtype))
    padding = (stored >= low) & (stored <= high)  # [height, width]
    return padding & (not padding.all())


def _has_window(dataset: pydicom.Dataset) -> bool:
    tags = (dataset.get("WindowCenter"), dataset.get("WindowWidth"))
    # The first of a tag's numbers counts; nan if it has none.
    center, width = (np.append(np.asarray(tag, np.float64), np.nan)[0] for tag in tags)
    # PS3.3 C.11.2.1.2: the linear function needs a width of 1 or more.
    min_width = 1.0 if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR" else 1e-6
    return bool(np.isfinite(center) and np.isfinite(width) and width >= min_width)


def _apply_window(dataset: pydicom.Dataset, stored: np.ndarray) -> tuple[np.ndarray, int]:
    # The transforms run once over all possible pixel values: exact, and ten times faster.
    value_range = np.iinfo(stored.dtype)
    possible = np.arange(value_range.min, value_range.max + 1, dtype=np.int32)
    values = dicom_pixels.apply_modality_lut(possible, dataset)
    if dataset.get("VOILUTSequence"):
        output = dicom_pixels.apply_voi(np.rint(values).astype(np.int32), dataset)
        share = output / white_level(output, int(dataset.VOILUTSequence[0].LUTDescriptor[2]))
    else:
        # Values far below and above the window give its output range, for any pydicom version.
        low, high = dicom_pixels.apply_windowing(np.array([-1e12, 1e12]), dataset)
        share = (dicom_pixels.apply_windowing(values, dataset) - low) / (high - low)
    white = 255 if int(dataset.BitsStored) <= 8 else 65535
    table = np.rint(np.clip(share, 0.0, 1.0) * white).astype(np.int32)
    return table[stored.astype(np.int32) - value_range.min], white


def _apply_without_window(
    dataset: pydicom.Dataset, stored: np.ndarray, padding: np.ndarray
) -> tuple[np.ndarray, int]:
    values = stored.astype(np.int32)
    bits = int(dataset.BitsStored)
    modality_table = dataset.get("ModalityLUTSequence")
    if modality_table:
        values = dicom_pixels.apply_modality_lut(values, dataset).astype(np.int32)
        bits = int(modality_table[0].LUTDescriptor[2])
    values[padding] = values[~padding].min()  # Padding must not set the range.
    values -= min(0, int(values.min()))
    white = white_level(values, bits)
    values = np.minimum(values, white)
    # A negative slope inverts the picture; a table has its own direction.
    if float(dataset.get("RescaleSlope", 1)) < 0 and not modality_table:
        values = white - values
    if int(dataset.BitsStored) <= 8:
        values = (values * 255 + white // 2) // white
        white = 255
    return values, white
