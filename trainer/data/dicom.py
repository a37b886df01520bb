"""DICOM → one radiograph. Reads pixels and what is needed to show them; no other tag is kept, shown or logged.

A module of its own because it alone needs pydicom, which `trainer.data.radiograph` loads only when such a file comes in.
"""

import io
import logging
import struct
import warnings

import numpy as np
import pydicom
from pydicom import encaps
from pydicom import pixels as dicom_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000TransferSyntaxes

from trainer.data import radiograph
from trainer.data.radiograph import Radiograph, RadiographError

# pydicom's warnings and log lines may quote values of tags, which may name a patient.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


def read(data: bytes, name: str) -> Radiograph:
    """Reads a single-frame grey DICOM file (PS3.3 C.11.1 and C.11.2) with its modality and VOI transforms.

    MONOCHROME1 is inverted; padding becomes black. With a VOI window or look-up table (the first counts), its output
    range becomes that of uint8 or, above 8 bits stored, uint16. Without one, stored values stay as they are,
    moved to start at 0 if any is negative: a linear rescale cannot change a picture without a window, save by its sign.

    Raises:
      RadiographError: no pixels, several frames, colour, damaged, or in a compression nobody here can decode.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_inflation(data, name)
            dataset = pydicom.dcmread(io.BytesIO(data))
            _check(dataset, name)
            pixels, white = _shown(dataset)
            width, height, bits = int(dataset.Columns), int(dataset.Rows), int(dataset.BitsStored)
            header = radiograph.header_of(data, width, height, 1, bits, "DICOM")
    except RadiographError:
        raise
    except MemoryError:
        raise RadiographError(f"{name}: does not fit into memory; scale it down first.") from None
    except (
        Exception
    ) as error:  # pydicom and its decoders raise a dozen kinds; their texts may quote tags.
        raise RadiographError(
            f"{name}: is a DICOM file that is damaged, cut off or in an unknown compression "
            f"({type(error).__name__}); get it again, or export it uncompressed."
        ) from None
    return Radiograph(pixels, header, white)


def _check_inflation(data: bytes, name: str) -> None:
    # pydicom inflates such a file whole, before any size can be checked; the syntax is named within its first bytes.
    if DeflatedExplicitVRLittleEndian.encode() in data[:2048]:
        raise RadiographError(f"{name}: is a deflated DICOM file; export it uncompressed.")


def _check(dataset: pydicom.Dataset, name: str) -> None:
    if "PixelData" not in dataset:
        raise RadiographError(
            f"{name}: is a DICOM file without an image, or cut off before it; give an image, or "
            "get the file again."
        )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise RadiographError(f"{name}: is a DICOM file of several frames; export one frame.")
    if dataset.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        raise RadiographError(f"{name}: is a DICOM file in colour; export it as MONOCHROME2.")
    if int(dataset.BitsAllocated) > 16:
        raise RadiographError(f"{name}: is a DICOM file of over 16 bits; export it with 16.")
    radiograph.check_size(int(dataset.Columns), int(dataset.Rows), name)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        width, height = _compressed_size(dataset)
        radiograph.check_size(width, height, name)


def _compressed_size(dataset: pydicom.Dataset) -> tuple[int, int]:
    """(width, height) that the compressed stream itself claims, which its decoder will take memory for."""
    stream = next(encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    if dataset.file_meta.TransferSyntaxUID in JPEG2000TransferSyntaxes:
        size = (
            stream.index(b"\xff\x4f\xff\x51") + 8
        )  # Start of codestream, SIZ (ISO 15444-1, A.5.1).
        return struct.unpack_from(">II", stream, size)
    position = 2
    while stream.startswith(
        b"\xff\xd8"
    ):  # Up to the start of frame (ISO 10918-1, B.1 and B.2.2; ISO 14495-1 adds F7).
        marker, length, _, height, width = struct.unpack_from(">xBHBHH", stream, position)
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return width, height
        position += 2 + length
    return int(dataset.Columns), int(dataset.Rows)  # Run-length coding knows no size of its own.


def _shown(dataset: pydicom.Dataset) -> tuple[np.ndarray, int]:
    """([height, width] uint8 or uint16, the value that is white)."""
    stored = dataset.pixel_array
    for tag in ("RescaleSlope", "RescaleIntercept"):
        if dataset.get(tag) is None:
            dataset.pop(tag, None)  # pydicom's transforms take an empty tag for a number.
    padding = _padding(dataset, stored)
    pixels, white = (
        _windowed(dataset, stored)
        if _has_window(dataset)
        else _unwindowed(dataset, stored, padding)
    )
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = white - pixels
    pixels = np.ascontiguousarray(pixels, np.uint8 if int(dataset.BitsStored) <= 8 else np.uint16)
    pixels[padding] = 0
    return pixels, white


def _padding(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    """Which pixels are filling and no measurement ([height, width] bool; PS3.3 C.7.5.1.1.2)."""
    if dataset.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, bool)
    limits = [
        dataset.PixelPaddingValue,
        dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue),
    ]
    # Wrapped into the pixels' type: writers mix the signed and the unsigned form up.
    low, high = np.sort(np.array(limits, np.int64).astype(stored.dtype))
    found = (stored >= low) & (stored <= high)
    return found if not found.all() else np.zeros(stored.shape, bool)


def _has_window(dataset: pydicom.Dataset) -> bool:
    if dataset.get("VOILUTSequence"):
        return True
    center, width = (_first(dataset.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    least = 1.0 if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR" else 1e-6
    return bool(np.isfinite(center) and np.isfinite(width) and width >= least)


def _first(value: object) -> float:
    """The first of a tag's numbers; nan if it has none."""
    return float(np.append(np.ravel(np.asarray(value, np.float64)), np.nan)[0])


def _windowed(dataset: pydicom.Dataset, stored: np.ndarray) -> tuple[np.ndarray, int]:
    # The transforms run once over all values a pixel can have: exact, and ten times faster than over the image.
    limits = np.iinfo(stored.dtype)
    values = dicom_pixels.apply_modality_lut(
        np.arange(limits.min, limits.max + 1, dtype=np.int32), dataset
    )
    if dataset.get("VOILUTSequence"):
        found = dicom_pixels.apply_voi(np.rint(values).astype(np.int32), dataset)
        share = found / radiograph.white_of(found, int(dataset.VOILUTSequence[0].LUTDescriptor[2]))
    else:
        # What the window makes of values far below and above it is its output range, however pydicom derives that.
        low, high = dicom_pixels.apply_windowing(np.array([-1e12, 1e12]), dataset)
        share = (dicom_pixels.apply_windowing(values, dataset) - low) / (high - low)
    white = 255 if int(dataset.BitsStored) <= 8 else 65535
    table = np.rint(np.clip(share, 0.0, 1.0) * white).astype(np.int32)
    return table[stored.astype(np.int32) - limits.min], white


def _unwindowed(
    dataset: pydicom.Dataset, stored: np.ndarray, padding: np.ndarray
) -> tuple[np.ndarray, int]:
    values, bits = stored.astype(np.int32), int(dataset.BitsStored)
    if dataset.get("ModalityLUTSequence"):
        values = dicom_pixels.apply_modality_lut(values, dataset).astype(np.int32)
        bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
    values[padding] = values[~padding].min()
    values -= min(0, int(values.min()))
    white = radiograph.white_of(values, bits)
    values = np.minimum(values, white)
    if float(dataset.get("RescaleSlope", 1)) < 0 and not dataset.get("ModalityLUTSequence"):
        values = white - values
    if int(dataset.BitsStored) <= 8:
        values, white = (values * 255 + white // 2) // white, 255
    return values, white
