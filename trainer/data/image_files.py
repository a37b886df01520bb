"""The images of a folder, recognized by their content.

    listing = image_files.list_files(Path("MY_IMAGES"))
    listing.images  # ["a/1.png", "a/2"]

A file with the extension of an image counts as one without being opened: a large set has many. Of
any other file the first bytes decide.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from trainer.data import archive, file_listing, file_names, radiograph, tables
from trainer.errors import UserError

_SHOWN = 3  # Names in a line of text.


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a folder that are not hidden, by their relative names.

    Attributes:
      images: files of images.
      archives: files of archives, which may hold images.
      others: all other files.
    """

    images: list[str]
    archives: list[str]
    others: list[str]

    def remarks(self) -> list[str]:
        """Names the files that were passed over, a line each; tables have their own remarks."""
        unread = [name for name in self.others if _extension(name) not in tables.EXTENSIONS]
        return [
            *remark(self.archives, "files are archives, to be unpacked first"),
            *remark(unread, f"files are no {radiograph.FORMATS}"),
        ]


def list_files(folder: Path, depth: int | None = None) -> Listing:
    """Lists the files of a folder.

    Args:
      folder: to list.
      depth: levels of names in a path, 1 for the folder's own files; None for all.

    Raises:
      UserError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one that holds images.")
    listing = Listing([], [], [])
    for name in file_listing.walk(folder, depth):
        if file_listing.is_hidden(name):
            continue
        if _extension(name) in radiograph.EXTENSIONS:
            listing.images.append(name)
            continue
        head = _read_head(file_names.locate(folder, name))
        if archive.recognize(head):
            listing.archives.append(name)
        elif radiograph.recognize(head):
            listing.images.append(name)
        else:
            listing.others.append(name)
    return listing


def list_images(folder: Path) -> Listing:
    """Lists the files of a folder that must hold images.

    Raises:
      UserError: the folder does not exist, or holds no image.
    """
    listing = list_files(folder)
    if not listing.images:
        remarks = " ".join(listing.remarks())
        raise UserError(
            f"{folder} holds no {radiograph.FORMATS} file; "
            + (f"{remarks}." if remarks else "give a folder of images.")
        )
    return listing


def remark(names: Sequence[str], reason: str) -> list[str]:
    """Returns the line on files that were passed over; nothing without any.

    Args:
      names: of the files.
      reason: for example "images are masks".
    """
    if not names:
        return []
    more = " …" if len(names) > _SHOWN else ""
    shown = ", ".join(map(file_names.printable, names[:_SHOWN]))
    return [f"{len(names)} {reason}: passed over ({shown}{more})"]


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _read_head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(radiograph.HEAD_BYTES)
    except OSError:
        return b""  # Reading it as an image would fail, too.
