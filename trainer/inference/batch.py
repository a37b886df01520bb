"""Answers for many files: folders, zips and single files, one after the other, a row for each, never stopping at a bad one."""

import csv
import dataclasses
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from trainer.data import radiograph
from trainer.errors import UserError
from trainer.inference.runtime import Model

_MOST_IN_ZIP = 150_000_000  # A DICOM of 64 megapixels at 16 bits; it is read into memory.


@dataclasses.dataclass(frozen=True)
class Source:
    """One file to answer for.

    Attributes:
      name: as it stands in the table: the path, or ZIP/path within.
      size: in bytes.
      content: the path, or the zip and the name within, to be read when its turn comes.
    """

    name: str
    size: int
    content: Path | tuple[Path, str]

    def read(self) -> Path | bytes:
        """What `radiograph.read` takes.

        Raises:
          UserError: larger than the limit, or the zip is damaged.
        """
        if isinstance(self.content, Path):
            return self.content
        if self.size > _MOST_IN_ZIP:
            raise UserError(
                f"{self.name} is larger than {_MOST_IN_ZIP:,} bytes; unpack it and look what it is."
            )
        try:
            with zipfile.ZipFile(self.content[0]) as archive:
                return archive.read(self.content[1])
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise UserError(
                f"{self.name} cannot be unpacked ({error}); unpack it by hand."
            ) from error


def sources(paths: Iterable[Path]) -> Iterator[Source]:
    """The files below paths, sorted within each folder; hidden ones and zips' directories are left out.

    Raises:
      UserError: a path that is not there.
    """
    for path in paths:
        if path.is_dir():
            for file in sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and not _hidden(file.relative_to(path))
            ):
                yield from _of_file(file)
        elif path.exists():
            yield from _of_file(path)
        else:
            raise UserError(f"{path} does not exist; give files, folders or zips of radiographs.")


def rows(model: Model, found: Iterable[Source]) -> Iterator[dict[str, str]]:
    """Answers for each source, as a row of the table: see `header`."""
    for source in found:
        row = dict.fromkeys(header(model), "")
        row["filename"] = source.name
        try:
            picture = radiograph.read(source.read(), name=source.name)
            answer = model.answer(radiograph.standardize(picture, model.side))
        except UserError as error:
            yield row | {"verdict": "error", "reason": str(error)}
            continue
        row |= {"verdict": answer.verdict, "label": answer.label, "reason": answer.reason}
        if answer.verdict != "refused":
            row |= {
                f"probability_{name}": f"{value:.6f}"
                for name, value in answer.probabilities.items()
            }
        yield row


def header(model: Model) -> list[str]:
    """The columns: filename, label, verdict (answered, unsure, refused, error), one probability a class, reason."""
    return [
        "filename",
        "label",
        "verdict",
        *(f"probability_{name}" for name in model.facts["class_names"]),
        "reason",
    ]


def write(model: Model, answers: Iterable[dict[str, str]], file: IO[str]) -> dict[str, int]:
    """Writes rows as CSV, each as soon as it is there, and counts the verdicts."""
    writer = csv.DictWriter(file, header(model))
    writer.writeheader()
    counts: dict[str, int] = {}
    for row in answers:
        writer.writerow(row)
        file.flush()
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
    return counts


def _of_file(path: Path) -> Iterator[Source]:
    if not zipfile.is_zipfile(path):
        yield Source(str(path), path.stat().st_size, path)
        return
    with zipfile.ZipFile(path) as archive:
        inside = [
            entry
            for entry in archive.infolist()
            if not entry.is_dir() and not _hidden(PurePosixPath(entry.filename))
        ]
    for entry in sorted(inside, key=lambda entry: entry.filename):
        yield Source(f"{path}/{entry.filename}", entry.file_size, (path, entry.filename))


def _hidden(path: Path | PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
