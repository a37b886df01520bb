"""Predictions for folders, zips and single files: one CSV row a file, never stopping at a bad one.

sources = batch.list_sources([Path("images"), Path("more.zip")])
batch.write_csv(model, batch.predict_rows(model, sources), file)
"""

import csv
import dataclasses
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from trainer.data import radiograph
from trainer.errors import UserError
from trainer.inference.runtime import Model

# A DICOM of 64 megapixels at 16 bits; a member of a zip is read into memory.
MAX_MEMBER_BYTES = 150_000_000


@dataclasses.dataclass(frozen=True)
class Source:
    """One file to predict for.

    Attributes:
      name: in the CSV: the path, or ZIP/path of a member.
      path: of the file or the zip.
      member: name within the zip; None for a file.
    """

    name: str
    path: Path
    member: str | None = None

    def read(self) -> Path | bytes:
        """Returns what `radiograph.read` takes: the path, or the bytes of a zip's member.

        Raises:
          UserError: the member is larger than `MAX_MEMBER_BYTES`, or the zip is damaged.
        """
        if self.member is None:
            return self.path
        try:
            with zipfile.ZipFile(self.path) as archive:
                # Checked before unpacking: a zip bomb would fill the memory.
                if archive.getinfo(self.member).file_size > MAX_MEMBER_BYTES:
                    raise UserError(
                        f"{self.name} is larger than {MAX_MEMBER_BYTES:,} bytes; "
                        "unpack it and check that it is a radiograph."
                    )
                return archive.read(self.member)
        # RuntimeError: encrypted. NotImplementedError: an unusual compression.
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise UserError(
                f"{self.name} cannot be unpacked ({error}); unpack it by hand."
            ) from error


def list_sources(paths: Iterable[Path]) -> Iterator[Source]:
    """Lists the files in folders and zips, sorted within each; hidden ones are left out.

    Args:
      paths: files, folders and zips.

    Raises:
      UserError: a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; give files, folders or zips of radiographs.")
        files = filter(Path.is_file, sorted(path.rglob("*"))) if path.is_dir() else [path]
        for file in files:
            if _is_hidden(file.relative_to(path)):
                continue
            if not zipfile.is_zipfile(file):
                yield Source(str(file), file)
                continue
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
            for name in sorted(entry.filename for entry in entries if not entry.is_dir()):
                if not _is_hidden(PurePosixPath(name)):
                    yield Source(f"{file}/{name}", file, name)


def predict_rows(model: Model, sources: Iterable[Source]) -> Iterator[dict[str, str]]:
    """Yields the CSV row of each source, its keys ordered as `columns`."""
    for source in sources:
        row = dict.fromkeys(columns(model), "") | {"filename": source.name}
        try:
            image = radiograph.read(source.read(), name=source.name)
            prediction = model.predict_radiograph(image)
        except UserError as error:
            # A bad file gets its row; the others follow.
            yield row | {"verdict": "error", "reason": str(error)}
            continue
        row |= {
            "verdict": prediction.verdict,
            "label": prediction.label,
            "reason": prediction.reason,
        }
        # A refused image has probabilities, but they mean nothing.
        if prediction.verdict != "refused":
            for name, probability in prediction.probabilities.items():
                row[f"probability_{name}"] = f"{probability:.6f}"
        yield row


def columns(model: Model) -> list[str]:
    """Names of the CSV columns.

    Returns:
      filename, label (findings with | between them), verdict (answered, unsure, refused or error),
      a probability for each class or finding, reason.
    """
    probabilities = [f"probability_{name}" for name in model.facts["class_names"]]
    return ["filename", "label", "verdict", *probabilities, "reason"]


def write_csv(model: Model, rows: Iterable[dict[str, str]], file: IO[str]) -> dict[str, int]:
    """Writes each row as soon as it is ready; returns the number of rows by verdict."""
    writer = csv.DictWriter(file, columns(model))
    writer.writeheader()
    counts: Counter[str] = Counter()
    for row in rows:
        writer.writerow(row)
        file.flush()  # An interrupted run leaves whole rows.
        counts[row["verdict"]] += 1
    return counts


def _is_hidden(path: PurePosixPath | Path) -> bool:
    # macOS adds __MACOSX/ with metadata to its zips.
    return any(name.startswith(".") or name == "__MACOSX" for name in path.parts)
