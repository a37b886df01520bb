"""Safe unpacking of zip archives: all or nothing, no links, nothing outside the target.

folder = archive.unpack(Path("set.zip"), data_dir / "downloads" / "unpacked")
"""

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

MAX_BYTES = 200 * 2**30
MAX_FILES = 5_000_000
MAX_RATIO = 200
_MIN_RATIO_BYTES = 100 * 2**20  # Blank images pack well; only large archives can do harm.


def unpack(archive: Path, parent: Path) -> Path:
    """Unpacks a zip into its own folder, once.

    Args:
      archive: the zip file.
      parent: the folder of all unpacked archives.

    Returns:
      The folder, named by the archive's size, time and name. A second call returns it unchanged.

    Raises:
      UserError: not a zip, damaged, too large, encrypted, with links or with entries that reach
        outside the folder; or the disk is full.
    """
    state = archive.stat()
    identity = f"{archive.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    target = parent / f"{archive.stem}_{key}"
    if target.is_dir():
        return target
    try:
        parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="unpacking_", dir=parent))
    except OSError as error:
        raise UserError(
            f"cannot write to {parent} ({error.strerror or error}); give another --data_dir."
        ) from error
    try:
        _unpack_files(archive, partial)
        os.replace(partial, target)  # Atomic: the target is complete or absent.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{archive} is not a zip that can be unpacked ({error}); download it again."
        ) from error
    except OSError as error:
        if not target.is_dir():  # Otherwise another process has just unpacked the same archive.
            raise UserError(
                f"{archive} cannot be unpacked below {parent} ({error.strerror or error}); make "
                "room, or unpack it yourself and give the folder."
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _unpack_files(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zip_file:
        entries = [entry for entry in zip_file.infolist() if not _name(entry).endswith("/")]
        total = sum(entry.file_size for entry in entries)
        is_bomb = total > max(_MIN_RATIO_BYTES, MAX_RATIO * archive.stat().st_size)
        if total > MAX_BYTES or len(entries) > MAX_FILES or is_bomb:
            raise UserError(
                f"{archive} would unpack to {total / 2**30:.1f} GiB in {len(entries)} files; "
                "unpack it yourself if you trust it, and give the folder."
            )
        # All checks precede the first write.
        for entry in entries:
            path = PurePosixPath(_name(entry))
            # A colon in the first part is a drive on Windows.
            if path.is_absolute() or not path.parts or ".." in path.parts or ":" in path.parts[0]:
                raise UserError(
                    f"{archive} holds an entry that reaches outside its folder "
                    f"({entry.filename!r}); do not use it."
                )
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise UserError(f"{archive} holds a link ({entry.filename!r}); do not use it.")
            if entry.flag_bits & 1:  # APPNOTE.TXT 4.4.4.
                raise UserError(f"{archive} is encrypted; unpack it yourself and give the folder.")
        text = f"unpacking {archive.name}"
        for entry in tqdm(entries, text, unit=" files", leave=False, delay=2, disable=None):
            target = folder / _name(entry)
            target.parent.mkdir(parents=True, exist_ok=True)
            with zip_file.open(entry) as packed, open(target, "wb") as file:
                shutil.copyfileobj(packed, file, 2**20)  # Bytes at a time.


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.replace("\\", "/")  # Some packers on Windows write backslashes.
