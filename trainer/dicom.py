"""DICOM → one radiograph. Reads pixels and what is needed to show them; no other tag is kept, shown or logged."""

import io
import logging
import warnings

import numpy as np
import pydicom
from pydicom import pixels as dicom_pixels

from trainer import radiograph
from trainer.radiograph import Radiograph, RadiographError

# pydicom's warnings and log lines may quote values of tags, which may name a patient.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def read(data: bytes, name: str) -> Radiograph:
    """Reads a single-frame grey DICOM file with its modality and VOI transforms; MONOCHROME1 is inverted.

    With a VOI window (or look-up table) the window's output range becomes the full range. Without one, stored values of at
    most 8 bits stay as they are, and deeper ones keep their order and spacing as uint16.

    Raises:
      RadiographError: no pixels, several frames, colour, damaged, or in a compression nobody here can decode.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), force=False)
            _check(dataset, name)
            found, full_scale = _grey(dataset)
            header = radiograph.header_of(data, int(dataset.Columns), int(dataset.Rows), 1, int(dataset.BitsStored), "DICOM")
    except RadiographError:
        raise
    except Exception as error:  # pydicom and its decoders raise a dozen kinds; their texts may quote tags.
        raise RadiographError(f"{name}: is a DICOM file that cannot be decoded ({type(error).__name__}); export it again, "
                              "uncompressed or as JPEG Lossless.") from None
    return Radiograph(found, header, full_scale)


def _check(dataset: pydicom.Dataset, name: str) -> None:
    if "PixelData" not in dataset:
        raise RadiographError(f"{name}: is a DICOM file without an image; give an image object.")
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise RadiographError(f"{name}: is a DICOM file of several frames; export one frame.")
    if dataset.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        raise RadiographError(f"{name}: is a DICOM file in colour; radiographs are MONOCHROME1 or MONOCHROME2.")
    radiograph.check_size(int(dataset.Columns), int(dataset.Rows), name)


def _grey(dataset: pydicom.Dataset) -> tuple[np.ndarray, bool]:
    """([height, width] uint8 or uint16, whether it uses the full range)."""
    stored = dataset.pixel_array
    values = dicom_pixels.apply_modality_lut(stored, dataset)
    windowed = "VOILUTSequence" in dataset or "WindowCenter" in dataset
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    if windowed:
        shown = dicom_pixels.apply_voi_lut(values, dataset).astype(np.float64)
        low, high = _output_range(dataset, values, shown)
        grey = np.clip((shown - low) * (65535.0 / max(high - low, 1e-9)), 0.0, 65535.0)
        return _as(np.uint16, 65535.0 - grey if inverted else grey), True
    if stored.dtype == np.uint8 and int(dataset.BitsStored) == 8 and np.array_equal(values, stored):
        return (255 - stored if inverted else stored), False
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    # Whole modality values keep their spacing where they fit; others (Hounsfield fractions) are spread over the range.
    grey = values - low if high - low <= 65535.0 else (values - low) * (65535.0 / (high - low))
    return _as(np.uint16, (grey.max() - grey) if inverted else grey), False


def _output_range(dataset: pydicom.Dataset, values: np.ndarray, shown: np.ndarray) -> tuple[float, float]:
    """What `apply_voi_lut` maps the window's ends to (DICOM PS3.3 C.11.2)."""
    if "VOILUTSequence" in dataset and dataset.VOILUTSequence:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return 0.0, float(2**bits - 1)
    if "ModalityLUTSequence" in dataset:
        return 0.0, float(2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    signed = int(dataset.PixelRepresentation) == 1
    bits = int(dataset.BitsStored)
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)
    return min(low * slope, high * slope) + intercept, max(low * slope, high * slope) + intercept


def _as(dtype: type, values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.rint(values).astype(dtype))
