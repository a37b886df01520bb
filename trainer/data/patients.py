"""The patient of each image: from a column, folders called patient00001, or the tag of a DICOM.

groups, source = patients.read(folder, rows, filenames)
"""

import re
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from trainer.data import file_names, raster
from trainer.data.image_tables import ImageTable

_FOLDER = re.compile(r"(?i)(?:^|/)(patient[ _-]?\d+)(?:/|$)")


def read(folder: Path, rows: ImageTable | None, filenames: Sequence[str]) -> tuple[list[str], str]:
    """Reads the patients.

    The tag of a DICOM is used where all files are DICOM; it is hashed at once.

    Args:
      folder: that the filenames are relative to.
      rows: the table with patients; None without one.
      filenames: of the images.

    Returns:
      (the patient of each image, else its filename; their source in words).
    """
    if rows is not None and rows.roles.patient:
        cells = rows.by_image(rows.roles.patient, len(filenames), unique=True)
        return _or_filename(cells, filenames), f"patients by column {rows.roles.patient}"
    matches = [_FOLDER.search(filename) for filename in filenames]
    if all(matches):
        return [match[1].lower() for match in matches if match], "patients by folder"
    # Files without these extensions are listed only where they are DICOM.
    if not any(Path(filename).suffix.lower() in raster.EXTENSIONS for filename in filenames):
        from trainer.data import dicom  # Imported lazily: pydicom is slow to load.

        text = "reading patients"
        names = tqdm(filenames, text, unit=" files", leave=False, delay=2, disable=None)
        hashes = [dicom.read_patient(file_names.locate(folder, name)) for name in names]
        if any(hashes):
            return _or_filename(hashes, filenames), "patients by DICOM tag, hashed"
    return list(filenames), "patients unknown"


def _or_filename(names: Sequence[str], filenames: Sequence[str]) -> list[str]:
    return [name or filename for name, filename in zip(names, filenames, strict=True)]
