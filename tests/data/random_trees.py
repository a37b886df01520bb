"""Random folders as strangers have them: odd names, all kinds of files, archives, damage.

tree = random_trees.write(np.random.default_rng(seed), folder)
tree.rows  # rows that a table of predictions must have
"""

import dataclasses
import functools
import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.data.dicom_files import gradient as stored_gradient
from tests.data.dicom_files import make_dicom
from tests.data.pictures import encode, gradient

END_OF_ZIP = b"PK\x05\x06" + bytes(18)

NAMES = (
    *(b"a", b"IM0001", b"1.2.840.10008", b"film.jfif", b"x.JPG_", b"b.JPEG", b"c.jpe"),
    *(b"with space & (1).png", b"#1 50%.png", b'a,"b.png', b"it's.png", b"-dash.png"),
    *(b"new\nline.png", b"tab\t.png", b"r\xf6ntgen.png", b"r\\xf6ntgen.png", b"\xff\xfe.dcm"),
    *("röntgen 胸部.png".encode(), "Mu\u0308ller.png".encode(), b"end. ", b"x" * 200 + b".png"),
    *(b"notes.txt", b"archive.zip", b"archive.tar.gz", b"CAPITAL.PNG", b"[1].png", b"a*b.png"),
)
HIDDEN = (b".DS_Store", b"._film.png", b".git")
FOLDERS = (b"images", b"masks", b"Train", b"covid", b"p 1", b"\xe9t\xe9", b"x.png", b"__MACOSX")


@dataclasses.dataclass
class Tree:
    """A folder that was written.

    Attributes:
      folder: its root.
      rows: number of rows that a table of predictions for it must have.
    """

    folder: Path
    rows: int = 0


@functools.cache
def contents() -> dict[str, bytes]:
    """Returns kind → bytes of a file."""
    png = encode(gradient())
    jpeg = encode(gradient(), "JPEG")
    return {
        "png": png,
        "jpeg": jpeg,
        "tiff": encode(gradient(), "TIFF"),
        "bmp": encode(gradient(), "BMP"),
        "webp": encode(gradient(), "WEBP"),
        "deep png": encode(gradient().astype(np.uint16) * 200),
        "dicom": make_dicom(stored_gradient(4095), bits=12),
        "gif": encode(gradient(), "GIF"),
        "png and end of a zip": png + END_OF_ZIP,
        "png cut off": png[: len(png) // 2],
        "jpeg cut off": jpeg[: len(jpeg) // 2],
        "png too small": encode(gradient(8, 8)),
        "head of a png": b"\x89PNG\r\n\x1a\n",
        "empty": b"",
        "text": b"not an image\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pdf": b"%PDF-1.7\n",
        "7z": b"7z\xbc\xaf\x27\x1c" + bytes(40),
        "rar": b"Rar!\x1a\x07\x01\x00" + bytes(40),
        "zeros": bytes(2000),
        "compressed": gzip.compress(png),
    }


def write(rng: np.random.Generator, folder: Path) -> Tree:
    """Writes a random tree below a new folder."""
    tree = Tree(folder)
    folder.mkdir()
    levels = [os.fsencode(folder)]
    for _ in range(rng.integers(0, 4)):
        parent = levels[rng.integers(len(levels))]
        child = parent + b"/" + FOLDERS[rng.integers(len(FOLDERS))]
        if not os.path.exists(child):
            os.mkdir(child)
            levels.append(child)
    for _ in range(rng.integers(0, 9)):
        parent = levels[rng.integers(len(levels))]
        rows = _write_file(rng, parent)
        # Hidden folders do not count, nor do their files.
        tree.rows += 0 if b"__MACOSX" in parent.split(b"/") else rows
    return tree


def _write_file(rng: np.random.Generator, parent: bytes) -> int:
    """Writes one file, archive or link; returns its number of rows."""
    names = HIDDEN if rng.random() < 0.1 else NAMES
    name = names[rng.integers(len(names))]
    path = Path(os.fsdecode(parent + b"/" + name))
    if os.path.lexists(path):
        return 0
    rows = 1
    kind = rng.random()
    if kind < 0.65:
        path.write_bytes(_content(rng))
    elif kind < 0.95:
        data, rows = _archive(rng)
        path.write_bytes(data)
    elif kind < 0.98:
        os.symlink("nowhere", path)
        rows = 0
    else:
        os.mkfifo(path)
        rows = 0
    return 0 if name in HIDDEN else rows


def _content(rng: np.random.Generator) -> bytes:
    kinds = list(contents().values())
    data = kinds[rng.integers(len(kinds))]
    if rng.random() < 0.15 and len(data) > 40:
        position = int(rng.integers(30, len(data)))
        data = data[:position] + bytes([int(rng.integers(256))]) + data[position + 1 :]
    return data


def _archive(rng: np.random.Generator) -> tuple[bytes, int]:
    """Returns (an archive, its number of rows)."""
    count = int(rng.integers(0, 4))
    names = list(rng.permutation(len(NAMES))[:count])
    members = {os.fsdecode(NAMES[index]): _content(rng) for index in names}
    if rng.random() < 0.3:
        members["__MACOSX/._a.png"] = b"x"
    pack = (_zip, _tar, _compressed_tar)[rng.integers(3)]
    data = pack(members)
    if rng.random() < 0.3:
        # Enough is lost that none of the kinds can be opened.
        return data[: min(300, len(data) // 2)], 1
    return data, max(count, 1)


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            # A zip holds only names in Unicode.
            archive.writestr(os.fsencode(name).decode("latin-1"), data)
    return buffer.getvalue()


def _tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    open_tar: Callable = tarfile.open
    with open_tar(fileobj=buffer, mode=mode) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _compressed_tar(members: dict[str, bytes]) -> bytes:
    return _tar(members, "w:gz")
