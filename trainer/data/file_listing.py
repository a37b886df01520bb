"""The files of a folder by their relative paths.

list(file_listing.walk(Path("MY_IMAGES")))  # ["a/1.png", "a/2.png", "labels.csv"]
"""

import os
from collections.abc import Iterator
from pathlib import Path

from trainer.data import file_names


def walk(folder: Path, depth: int | None = None) -> Iterator[str]:
    """Yields the files below a folder, sorted by name within each folder.

    Links to files count as files, links to folders are not followed, and folders that cannot be
    read are passed over. No file is opened or asked for its size: a large set has many.

    Args:
      folder: to walk through.
      depth: levels of names in a path, 1 for the folder's own files; None for all.

    Yields:
      Paths relative to the folder, with forward slashes, as `file_names.to_text` writes them.
    """
    yield from map(file_names.to_text, _walk(str(folder), "", depth))


def is_hidden(name: str) -> bool:
    """Tells whether a relative path is hidden, or one of the twins in archives of macOS."""
    return any(level.startswith(".") or level == "__MACOSX" for level in name.split("/"))


def _walk(folder: str, prefix: str, depth: int | None) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        return
    below = None if depth is None else depth - 1
    for child in children:
        if child.is_dir(follow_symlinks=False):
            if below != 0:
                yield from _walk(child.path, f"{prefix}{child.name}/", below)
        elif child.is_file():
            yield prefix + child.name
