r"""File names as text, whatever their bytes are.

    file_names.to_text(os.fsdecode(b"r\xf6ntgen.png"))  # r"r\xf6ntgen.png"
    file_names.locate(folder, name)                      # the path of such a name

A name may hold bytes that are no UTF-8, as files of old Windows and Linux machines do. Python
keeps such a byte as a lone surrogate (PEP 383), which no UTF-8 file can hold.
"""

import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

# ASCII is always UTF-8.
_BYTE = re.compile(r"\\x[89a-f][0-9a-f]")
_ESCAPED = re.compile(r"\\(\\|x[89a-f][0-9a-f])")


def to_text(name: str) -> str:
    r"""Writes a name as valid Unicode, from which `from_text` reads it back.

    A byte that is no UTF-8 becomes \xNN. The backslashes of such a name are doubled, and so are
    those of a name that contains \xNN itself. All other names stay unchanged.

    Args:
      name: as `os.listdir` gives it.
    """
    if not _has_surrogates(name) and not _BYTE.search(name):
        return name
    data = os.fsencode(name.replace("\\", "\\\\"))
    return data.decode("utf-8", "backslashreplace")


def from_text(text: str) -> str:
    """Returns the name that `to_text` wrote, as Python's functions of files take it."""
    if not _BYTE.search(text):
        return text
    data = _ESCAPED.sub(_unescape, text)
    return os.fsdecode(data.encode("utf-8", "surrogateescape"))


def to_readable(text: str) -> str:
    """Writes a name from `to_text` with the letters that its bytes are in Windows-1252.

    So the name of such a file equals the one in a table that was written on the same machine.
    """
    if not _BYTE.search(text):
        return text
    return "".join(map(_decode, _ESCAPED.sub(_unescape, text)))


def show(names: Iterable[str], word: str = " and ") -> str:
    """Writes the first two names in one line, for a message."""
    return word.join(map(printable, itertools.islice(names, 2)))


def printable(name: str) -> str:
    """Replaces letters that cannot be shown, as line breaks, by question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def locate(folder: Path, text: str) -> Path:
    """Returns the path of a file by its relative name from `to_text`."""
    return folder / from_text(text)


def _has_surrogates(name: str) -> bool:
    return not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)


def _decode(letter: str) -> str:
    if not "\udc80" <= letter <= "\udcff":
        return letter
    return bytes([ord(letter) - 0xDC00]).decode("cp1252", "replace")


def _unescape(match: re.Match[str]) -> str:
    escaped = match[1]
    if escaped == "\\":
        return escaped
    # PEP 383: byte N is the surrogate U+DC00 + N.
    return chr(0xDC00 + int(escaped[1:], 16))
