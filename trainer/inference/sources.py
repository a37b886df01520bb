"""The files to predict for: those of folders and archives, listed and read one by one.

    listed = sources.list_sources([Path("images"), Path("more.zip")])
    for source, content in sources.read(listed):
        ...

Each file has one source, a damaged archive too: so a table of predictions misses none.
"""

import contextlib
import dataclasses
import glob
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainer.data import archive, file_listing, file_names
from trainer.data.archive import Archive, Member
from trainer.errors import UserError

# A DICOM of 64 megapixels at 16 bits; a member of an archive is read into memory.
MAX_MEMBER_BYTES = 150_000_000


@dataclasses.dataclass(frozen=True)
class Source:
    """One file to predict for.

    Attributes:
      name: in the table: the path, or ARCHIVE/path of a member, as `file_names.to_text` writes it.
      path: of the file or the archive.
      member: of the archive; None for a file.
      error: why an archive cannot be read; empty where it can.
    """

    name: str
    path: Path
    member: Member | None = None
    error: str = ""


def list_sources(paths: Iterable[Path]) -> Iterator[Source]:
    """Lists the files in folders and archives, sorted within each; hidden ones are left out.

    Args:
      paths: files, folders, zips and tars. Wildcards that the shell left are expanded.

    Raises:
      UserError: a path does not exist.
    """
    for path in itertools.chain.from_iterable(map(_expand, paths)):
        if not path.is_dir():
            yield from _list_file(path)
            continue
        for name in file_listing.walk(path):
            if not file_listing.is_hidden(name):
                yield from _list_file(file_names.locate(path, name))


def read(sources: Iterable[Source]) -> Iterator[tuple[Source, Path | bytes | UserError]]:
    """Yields each source with what `radiograph.read` takes, or with the error of reading it.

    An archive is opened once for all of its members.
    """
    for (path, is_file), of_path in itertools.groupby(sources, _origin):
        if is_file:
            for source in of_path:
                yield source, UserError(source.error) if source.error else path
            continue
        with contextlib.ExitStack() as stack:
            try:
                opened = stack.enter_context(_open(path))
            except (UserError, OSError) as error:
                # Removed or replaced since it was listed.
                yield from ((source, UserError(str(error))) for source in of_path)
                continue
            for source in of_path:
                yield source, _read_member(opened, source)


def _origin(source: Source) -> tuple[Path, bool]:
    return source.path, source.member is None


def _expand(path: Path) -> list[Path]:
    if path.exists():
        return [path]
    # The shell of Windows leaves wildcards to the program.
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(str(path)) else []
    if not matches:
        raise UserError(f"{path} does not exist; give files, folders or archives of radiographs.")
    return [Path(match) for match in matches]


def _list_file(path: Path) -> Iterator[Source]:
    name = file_names.to_text(str(path))
    kind = archive.recognize_file(path)
    if kind is None:
        yield Source(name, path)
        return
    try:
        with _open(path) as opened:
            members = sorted(opened.members, key=lambda member: member.name)
            is_document = opened.is_document
    except (UserError, OSError) as error:
        yield Source(name, path, error=str(error))
        return
    members = [member for member in members if not file_listing.is_hidden(member.name)]
    if is_document:
        yield Source(name, path)
    elif not members:
        yield Source(name, path, error="the archive is empty; give radiographs.")
    else:
        for member in members:
            yield Source(f"{name}/{member.name}", path, member)


def _open(path: Path) -> contextlib.AbstractContextManager[Archive]:
    # Messages have no folders, which are the server's where the page is used.
    return archive.open_archive(path, file_names.to_text(path.name))


def _read_member(opened: Archive, source: Source) -> bytes | UserError:
    assert source.member is not None
    # Checked before unpacking: a zip bomb would fill the memory.
    if source.member.size > MAX_MEMBER_BYTES:
        return UserError(
            f"{source.name} is larger than {MAX_MEMBER_BYTES:,} bytes; unpack it and check that "
            "it is a radiograph."
        )
    try:
        return opened.read(source.member)
    except (UserError, OSError) as error:
        return UserError(str(error))
