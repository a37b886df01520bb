"""Zip and tar archives, read file by file.

    with archive.open_archive(Path("films.zip"), "films.zip") as opened:
        data = opened.read(opened.members[0])

The first bytes of a file decide its type, never its name.
"""

import contextlib
import dataclasses
import errno
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from trainer.data import file_names
from trainer.errors import UserError

HEAD_BYTES = 512
"""Number of first bytes that `recognize` needs."""
READABLE = ("zip", "tar", "compressed tar")
"""Types that `open_archive` reads."""

# First bytes → type.
_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # Without files.
    (b"PK\x07\x08", "zip"),  # Of several disks.
    (b"\x1f\x8b", "compressed tar"),
    (b"BZh", "compressed tar"),
    (b"\xfd7zXZ\0", "compressed tar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x28\xb5\x2f\xfd", "zst"),
)
_OFFICE = frozenset({"[Content_Types].xml", "mimetype"})  # Members of documents, which are zips.


@dataclasses.dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes:
      name: its path, with forward slashes, as `file_names.to_text` writes it.
      size: of its content, in bytes.
      entry: the library's own description.
    """

    name: str
    size: int
    entry: zipfile.ZipInfo | tarfile.TarInfo

    @property
    def is_folder(self) -> bool:
        """Tells whether it is a folder."""
        if isinstance(self.entry, tarfile.TarInfo):
            return self.entry.isdir()
        return self.name.endswith("/")

    @property
    def is_link(self) -> bool:
        """Tells whether it is anything else than a plain file: a link, a device, a pipe."""
        if isinstance(self.entry, tarfile.TarInfo):
            return not self.entry.isreg()
        return stat.S_ISLNK(self.entry.external_attr >> 16)

    @property
    def is_encrypted(self) -> bool:
        """Tells whether a password is needed (APPNOTE.TXT 4.4.4)."""
        return isinstance(self.entry, zipfile.ZipInfo) and bool(self.entry.flag_bits & 1)


class Archive:
    """An open archive.

    Attributes:
      members: its files, without folders.
    """

    def __init__(self, name: str, kind: str, opened: zipfile.ZipFile | tarfile.TarFile):
        self._name = name
        self._kind = kind
        self._opened = opened
        entries: Iterable[Any]
        entries = opened.getmembers() if isinstance(opened, tarfile.TarFile) else opened.infolist()
        members = [Member(_name(entry), _size(entry), entry) for entry in entries]
        self.members = [member for member in members if not member.is_folder]

    @property
    def is_document(self) -> bool:
        """Tells whether it is a text or table of an office program."""
        return any(member.name in _OFFICE for member in self.members)

    def read(self, member: Member) -> bytes:
        """Reads the content of a member.

        Raises:
          UserError: it is a link, damaged, encrypted, or in a compression that Python lacks.
        """
        with self._open(member) as content:
            return content.read()

    def extract(self, member: Member, path: Path) -> None:
        """Writes the content of a member to a new file.

        Raises:
          UserError: as for `read`.
          OSError: the file cannot be written.
        """
        with self._open(member) as content, open(path, "wb") as file:
            shutil.copyfileobj(content, file, 2**20)  # Bytes at a time.

    @contextlib.contextmanager
    def _open(self, member: Member) -> Iterator[IO[bytes]]:
        name = f"{self._name}/{member.name}"
        if member.is_link:
            raise UserError(f"{name} is a link or a device; give the file itself.")
        with _convert_errors(name, self._kind), self._open_entry(member.entry) as content:
            yield content

    def _open_entry(self, entry: Any) -> IO[bytes]:
        if isinstance(self._opened, tarfile.TarFile):
            content = self._opened.extractfile(entry)
            assert content is not None, "a link"
            return content
        return self._opened.open(entry)


def recognize(head: bytes) -> str | None:
    """Returns the type of an archive by its first bytes; None for any other file.

    Args:
      head: the first `HEAD_BYTES` of the file.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    # Since POSIX.1-1988; older ones have only a checksum.
    return "tar" if head[257:262] == b"ustar" else None


def recognize_file(path: Path) -> str | None:
    """Returns the type of an archive; None for any other file and for unreadable ones."""
    try:
        with open(path, "rb") as file:
            return recognize(file.read(HEAD_BYTES))
    except OSError:
        return None


@contextlib.contextmanager
def open_archive(path: Path, name: str) -> Iterator[Archive]:
    """Opens a zip or tar.

    Args:
      path: of the archive.
      name: the name in error messages.

    Raises:
      UserError: another type of file, damaged, encrypted, or in a compression that Python lacks.
    """
    kind = recognize_file(path)
    if kind is None:
        raise UserError(f"{name} is neither a folder nor a zip or tar; give one of these.")
    if kind not in READABLE:
        raise UserError(f"{name} is a {kind} archive; unpack it yourself and give the folder.")
    with contextlib.ExitStack() as stack:
        with _convert_errors(name, kind):
            opened: zipfile.ZipFile | tarfile.TarFile
            if kind == "zip":
                opened = stack.enter_context(zipfile.ZipFile(path))
            else:
                opened = stack.enter_context(tarfile.open(path))
            archive = Archive(name, kind, opened)
        yield archive


@contextlib.contextmanager
def _convert_errors(name: str, kind: str) -> Iterator[None]:
    """Converts the errors of reading an archive into a UserError of one line.

    Args:
      name: of the archive or its member.
      kind: of the archive.

    Raises:
      UserError: the archive is damaged, encrypted, or in a compression that Python lacks.
      OSError: a file cannot be read or written.
    """
    try:
        yield
    # Of a compression that is missing; of an encrypted member.
    except (NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{name} cannot be unpacked here ({error}); unpack it yourself and give the folder."
        ) from error
    except tarfile.ReadError as error:
        if kind == "compressed tar":
            raise UserError(
                f"{name} is compressed and no tar, or damaged; unpack it yourself and give the "
                "folder."
            ) from error
        raise _damaged(name, kind, error) from error
    except OSError as error:
        # gzip and bz2 give damage no number; zipfile seeks to positions that do not exist.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(name, kind, error) from error
    except Exception as error:
        # Decoders raise many types on damaged bytes.
        raise _damaged(name, kind, error) from error


def _damaged(name: str, kind: str, error: Exception) -> UserError:
    return UserError(
        f"{name}: the {kind} archive is damaged or cut off ({type(error).__name__}); get it again."
    )


def _name(entry: zipfile.ZipInfo | tarfile.TarInfo) -> str:
    if isinstance(entry, tarfile.TarInfo):
        return file_names.to_text(entry.name.removeprefix("./"))
    return file_names.to_text(entry.filename.replace("\\", "/"))  # Some packers of Windows.


def _size(entry: zipfile.ZipInfo | tarfile.TarInfo) -> int:
    return entry.size if isinstance(entry, tarfile.TarInfo) else entry.file_size
