"""The patient of each image: from a column, folders called patient00001, or the tag of a DICOM.

groups, source, remarks = patients.read(folder, rows, filenames)
remarks += patients.check(groups, filenames, labels, splits)
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from trainer.data import file_names, raster
from trainer.data.image_tables import ImageTable

MAX_SHARE = 0.2
"""Share of the images from which on a patient is doubted to be one."""

_FOLDER = re.compile(r"(?i)(?:^|/)(patient[ _-]?\d+)(?:/|$)")


def read(
    folder: Path, rows: ImageTable | None, filenames: Sequence[str]
) -> tuple[list[str], str, list[str]]:
    """Reads the patients.

    The tag of a DICOM is used where all files are DICOM; it is hashed at once.

    Args:
      folder: that the filenames are relative to.
      rows: the table with patients; None without one.
      filenames: of the images.

    Returns:
      (the patient of each image, else its filename; their source in words; remarks).
    """
    if rows is not None and rows.roles.patient:
        cells = rows.by_image(rows.roles.patient, len(filenames), unique=True)
        remarks = describe_unknown(cells.count(""), rows.table.path.name)
        source = f"patients by column {rows.roles.patient}"
        return _or_filename(cells, filenames), source, remarks
    matches = [_FOLDER.search(filename) for filename in filenames]
    if all(matches):
        return [match[1].lower() for match in matches if match], "patients by folder", []
    # Files without these extensions are listed only where they are DICOM.
    if not any(Path(filename).suffix.lower() in raster.EXTENSIONS for filename in filenames):
        from trainer.data import dicom  # Imported lazily: pydicom is slow to load.

        text = "reading patients"
        names = tqdm(filenames, text, unit=" files", leave=False, delay=2, disable=None)
        hashes = [dicom.read_patient(file_names.locate(folder, name)) for name in names]
        if any(hashes):
            return _or_filename(hashes, filenames), "patients by DICOM tag, hashed", []
    return list(filenames), "patients unknown", []


def describe_unknown(count: int, table: str) -> list[str]:
    """Returns the remark on images without a patient in a table; none for a count of 0."""
    if not count:
        return []
    return [f"{count} images have no patient in {table}; each counts as a patient of its own"]


def check(
    groups: Sequence[str],
    filenames: Sequence[str],
    labels: Sequence[str] | None,
    splits: Sequence[str | None],
) -> list[str]:
    """Describes patients that make the splits or the scores doubtful, a line each.

    Args:
      groups: [n] str, the patients.
      filenames: [n] str.
      labels: [n] str, the classes; None where an image may have several findings.
      splits: [n] str or None, the split of each image.
    """
    # In several splits the model has seen them; in several classes they may have fallen ill.
    lines = check_sizes(groups, filenames, labels)
    shared = _with_several(groups, [split or "" for split in splits])
    if len(shared):
        count = len(np.unique(np.asarray(groups)[shared]))
        example = file_names.printable(filenames[shared[0]])
        lines.append(
            f"WARNING: {count} patients have images in several splits ({example} …): the model "
            "knows them before it is tested; correct the splits or the patients"
        )
    return lines


def check_sizes(
    groups: Sequence[str], filenames: Sequence[str], labels: Sequence[str] | None
) -> list[str]:
    """Describes patients with very many images, or of several classes; arguments of `check`."""
    lines = []
    names, first, counts = np.unique(groups, return_index=True, return_counts=True)
    for position in np.flatnonzero((counts > MAX_SHARE * len(groups)) & (counts > 1)):
        example = file_names.printable(filenames[first[position]])
        lines.append(
            f"WARNING: one patient has {counts[position]} of {len(groups)} images ({example} …); "
            "leave the patient empty where it is not known"
        )
    several = _with_several(groups, labels or [""] * len(groups))
    if len(several):
        count = len(np.unique(np.asarray(groups)[several]))
        example = file_names.printable(filenames[several[0]])
        lines.append(
            f"{count} of {len(names)} patients have images of several classes ({example} …); "
            "correct the table unless they fell ill or recovered"
        )
    return lines


def _with_several(groups: Sequence[str], values: Sequence[str]) -> np.ndarray:
    # Positions of the images of patients with several values.
    _, member = np.unique(groups, return_inverse=True)
    _, codes = np.unique(values, return_inverse=True)
    pairs = np.unique(np.column_stack([member, codes]), axis=0)
    return np.flatnonzero(np.bincount(pairs[:, 0])[member] > 1)


def _or_filename(names: Sequence[str], filenames: Sequence[str]) -> list[str]:
    return [name or filename for name, filename in zip(names, filenames, strict=True)]
