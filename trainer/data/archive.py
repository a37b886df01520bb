"""Unpacks a zip safely: nothing outside the target, no links, no bombs, all or nothing."""

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from trainer.errors import UserError

MOST_BYTES = 200 * 2**30
MOST_FILES = 5_000_000
MOST_RATIO = 200
_RATIO_FROM = 100 * 2**20  # Small archives of blank images may pack well; only large ones can hurt.
_BLOCK = 2**20


def unpack(archive: Path, below: Path) -> Path:
    """Unpacks a zip into a folder of its own below `below`; a second call finds it there.

    Args:
      archive: the zip file.
      below: where unpacked archives are kept.

    Returns:
      The folder, named by the archive's size, time and name.

    Raises:
      UserError: not a zip, damaged, too large, or with entries that reach outside the folder, are links or are
        encrypted; or there is no room for it.
    """
    state = archive.stat()
    key = hashlib.sha256(
        f"{archive.resolve()}\0{state.st_size}\0{state.st_mtime_ns}".encode()
    ).hexdigest()[:16]
    target = below / f"{archive.stem}_{key}"
    if target.is_dir():
        return target
    partial = _folder_in(below)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not _name(entry).endswith("/")]
            _check(entries, archive)
            for entry in tqdm(
                entries,
                f"unpacking {archive.name}",
                unit=" files",
                leave=False,
                delay=2,
                disable=None,
            ):
                _write(opened, entry, partial)
        os.replace(partial, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{archive} is not a zip that can be unpacked ({error}); download it again."
        ) from error
    except OSError as error:
        if not target.is_dir():  # Else another process has just unpacked the same archive.
            raise UserError(
                f"{archive} cannot be unpacked below {below} ({error.strerror or error}); make "
                "room, or unpack it yourself and give the folder."
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _folder_in(below: Path) -> Path:
    try:
        below.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="unpacking_", dir=below))
    except OSError as error:
        raise UserError(
            f"cannot write to {below} ({error.strerror or error}); give another --data_dir."
        ) from error


def _check(entries: list[zipfile.ZipInfo], archive: Path) -> None:
    total, packed = sum(entry.file_size for entry in entries), max(1, archive.stat().st_size)
    if (
        total > MOST_BYTES
        or len(entries) > MOST_FILES
        or (total > _RATIO_FROM and total / packed > MOST_RATIO)
    ):
        raise UserError(
            f"{archive} would unpack to {total / 2**30:.1f} GiB in {len(entries)} files; unpack it "
            "yourself if you trust it, and give the folder."
        )
    for entry in entries:
        place = PurePosixPath(_name(entry))
        if place.is_absolute() or not place.parts or ".." in place.parts or ":" in place.parts[0]:
            raise UserError(
                f"{archive} holds an entry that reaches outside its folder ({entry.filename!r}); "
                "do not use it."
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UserError(f"{archive} holds a link ({entry.filename!r}); do not use it.")
        if entry.flag_bits & 1:
            raise UserError(f"{archive} is encrypted; unpack it yourself and give the folder.")


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.replace("\\", "/")  # As some packers on Windows write it.


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    path = folder / _name(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as packed, open(path, "wb") as file:
        shutil.copyfileobj(packed, file, _BLOCK)
