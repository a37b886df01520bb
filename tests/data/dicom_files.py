"""DICOM files for tests: written here, or from the pydicom-data package.

data = make_dicom(gradient(4095), bits=12, WindowCenter=2048, WindowWidth=4096)
path = real_file("MR_small.dcm")
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from trainer.data import radiograph
from trainer.data.radiograph import RadiographError

PATIENT = "Roentgen^Anna Bertha"


def make_dicom(
    stored: np.ndarray,
    bits: int,
    syntax: UID = ExplicitVRLittleEndian,
    frame: bytes | None = None,
    **tags: Any,
) -> bytes:
    """Builds a single-frame grey file.

    Args:
      stored: [height, width], the stored values.
      bits: the declared bit depth.
      syntax: the transfer syntax.
      frame: compressed pixels that replace the stored values; None to store them uncompressed.
      **tags: keyword → value, or any name → a whole data element.
    """
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    # No test may find this name in any output.
    dataset.PatientName = PATIENT
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    # 1: signed.
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    for tag, value in tags.items():
        # A whole element also sets the value representation.
        if isinstance(value, pydicom.DataElement):
            dataset.add(value)
        else:
            setattr(dataset, tag, value)
    dataset.PixelData = stored.tobytes() if frame is None else encapsulate([frame])
    # PS3.5 A.2: compressed or 8-bit pixels are bytes, others words.
    dataset["PixelData"].VR = "OB" if frame is not None or bits <= 8 else "OW"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lookup_table(entries: np.ndarray, bits: int) -> pydicom.Sequence:
    """Builds the sequence of a look-up table that starts at stored value 0."""
    item = pydicom.Dataset()
    # Entries, first stored value, bits per entry.
    item.add_new("LUTDescriptor", "US", [len(entries), 0, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return pydicom.Sequence([item])


def gradient(top: int, dtype: type = np.uint16) -> np.ndarray:
    """Returns [60, 50], rising from 0 to `top`."""
    return np.linspace(0, top, 60 * 50).reshape(60, 50).astype(dtype)


def real_file(name: str) -> Path:
    """Returns a file of the pydicom-data package; never downloads."""
    path = get_testdata_file(name, download=False)
    assert path, f"{name} is missing: install pydicom-data, a dependency of the tests"
    return Path(path)


def error_message(data: bytes) -> str:
    """Returns the message of a rejected file: one line, without the patient's name."""
    with pytest.raises(RadiographError) as caught:
        radiograph.read(data, name="IM000001")
    message = str(caught.value)
    assert message.startswith("IM000001: ")
    assert "\n" not in message
    assert "Roentgen" not in message
    return message
