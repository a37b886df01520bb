"""Safe unpacking of archives: all or nothing, no links, nothing outside the target.

folder = unpacking.unpack(Path("set.zip"), data_dir / "downloads" / "unpacked")
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from trainer.data import archive, file_listing, file_names
from trainer.data.archive import Member
from trainer.errors import UserError

MAX_BYTES = 200 * 2**30
MAX_FILES = 5_000_000
MAX_RATIO = 200
_MIN_RATIO_BYTES = 100 * 2**20  # Blank images pack well; only large archives can do harm.


def unpack(file: Path, parent: Path) -> Path:
    """Unpacks a zip or tar into its own folder, once.

    An archive that holds nothing but another one is unpacked with it.

    Args:
      file: the archive.
      parent: the folder of all unpacked archives.

    Returns:
      The folder, named by the archive's size, time and name. A second call returns it unchanged.

    Raises:
      UserError: of another type, damaged, too large, encrypted, with links or with entries that
        reach outside the folder; or the disk is full.
    """
    state = file.stat()
    identity = f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    key = hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]
    target = parent / f"{file.stem}_{key}"
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
        _unpack_files(file, str(file), partial, state.st_size)
        inner = _only_archive(partial)
        if inner is not None:
            folder = inner.parent / f"{inner.name}_unpacked"
            _unpack_files(inner, f"{file}/{inner.name}", folder, state.st_size)
            inner.unlink()
        os.replace(partial, target)  # Atomic: the target is complete or absent.
    except OSError as error:
        if not target.is_dir():  # Otherwise another process has just unpacked the same archive.
            raise UserError(
                f"{file} cannot be unpacked below {parent} ({error.strerror or error}); make "
                "room, or unpack it yourself and give the folder."
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _only_archive(folder: Path) -> Path | None:
    names = [name for name in file_listing.walk(folder) if not file_listing.is_hidden(name)]
    if len(names) != 1:
        return None
    path = file_names.locate(folder, names[0])
    return path if archive.recognize_file(path) in archive.READABLE else None


def _unpack_files(path: Path, name: str, folder: Path, packed_bytes: int) -> None:
    with archive.open_archive(path, name) as opened:
        members = opened.members
        _check(name, members, packed_bytes)  # All checks precede the first write.
        text = f"unpacking {path.name}"
        for member in tqdm(members, text, unit=" files", leave=False, delay=2, disable=None):
            target = file_names.locate(folder, member.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            opened.extract(member, target)


def _check(name: str, members: list[Member], packed_bytes: int) -> None:
    total = sum(member.size for member in members)
    is_bomb = total > max(_MIN_RATIO_BYTES, MAX_RATIO * packed_bytes)
    if total > MAX_BYTES or len(members) > MAX_FILES or is_bomb:
        raise UserError(
            f"{name} would unpack to {total / 2**30:.1f} GiB in {len(members)} files; "
            "unpack it yourself if you trust it, and give the folder."
        )
    for member in members:
        path = PurePosixPath(member.name)
        # A colon in the first part is a drive on Windows.
        if path.is_absolute() or not path.parts or ".." in path.parts or ":" in path.parts[0]:
            raise UserError(
                f"{name} holds an entry that reaches outside its folder "
                f"({member.name!r}); do not use it."
            )
        if member.is_link:
            raise UserError(f"{name} holds a link ({member.name!r}); do not use it.")
        if member.is_encrypted:
            raise UserError(f"{name} is encrypted; unpack it yourself and give the folder.")
