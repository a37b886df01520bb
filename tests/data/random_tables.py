"""Random labelled sets as strangers have them: layouts, tables, names, encodings, faults.

labelled = random_tables.write(np.random.default_rng(seed), folder)
labelled.counts  # class → number of images, where nothing is wrong with the set
"""

import csv
import dataclasses
import io
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from tests.data.pictures import encode, gradient

STEMS = (
    *("IM-{}", "{}_film", "röntgen {}", "{} (1)", "a,b {}", "it's {}", "胸部{}", "x;{}", "#{} 50%"),
    *("1.2.840.{}", "{}", "Müller-{}", "-{}"),
)
ENDINGS = (".png", ".png", ".PNG", ".jpg", ".jfif", "")
CLASSES = (("covid", "normal"), ("Pneumonia", "No Finding"), ("a", "b", "c"), ("0", "1"))
FILE_COLUMNS = ("filename", "Image Index", "file", "Path", "image_id")
LABEL_COLUMNS = ("label", "Diagnosis", "class", "Finding Labels")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252")


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """A set that was written.

    Attributes:
      folder: its root.
      counts: class → number of images; None where the set has a fault, and an error is right too.
      fault: the name of the fault; empty for none.
    """

    folder: Path
    counts: dict[str, int] | None
    fault: str


def write(rng: np.random.Generator, folder: Path) -> LabelledSet:
    """Writes a random labelled set into a new folder; every third has a fault."""
    folder.mkdir()
    classes = CLASSES[rng.integers(len(CLASSES))]
    labels = [classes[index % len(classes)] for index in range(int(rng.integers(6, 14)))]
    names = [_name(rng, index) for index in range(len(labels))]
    by_folder = rng.random() < 0.4
    if by_folder:
        paths = [f"{label}/{name}" for label, name in zip(labels, names, strict=True)]
    else:
        parents = ("", "images/", "data/img/")
        parent = parents[rng.integers(len(parents))]
        paths = [parent + name for name in names]
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(_picture(path))
    kept = list(range(len(paths)))
    if by_folder:
        kept = _write_lists(rng, folder, paths)
    else:
        _write_table(rng, folder, paths, labels)
    fault = ""
    if rng.random() < 1 / 3:
        chosen = list(FAULTS)[rng.integers(len(FAULTS))]
        if FAULTS[chosen](rng, folder):
            fault = chosen
    counts = {name: sum(labels[index] == name for index in kept) for name in classes}
    return LabelledSet(folder, None if fault else counts, fault)


def _name(rng: np.random.Generator, index: int) -> str:
    stem = STEMS[rng.integers(len(STEMS))].format(f"{index:03d}")
    form = ("NFC", "NFD")[rng.integers(2)]
    return unicodedata.normalize(form, stem) + ENDINGS[rng.integers(len(ENDINGS))]


def _picture(path: str) -> bytes:
    return encode(gradient(40, 40), "JPEG" if path.endswith((".jpg", ".jfif")) else "PNG")


def _reference(rng: np.random.Generator, path: str, style: int) -> str:
    """Returns a path as a table may write it."""
    name = unicodedata.normalize(("NFC", "NFD")[rng.integers(2)], path)
    styles = (name, PurePosixPath(name).name, f"./{name}", name.replace("/", "\\"))
    return styles[style]


def _write_table(
    rng: np.random.Generator, folder: Path, paths: list[str], labels: list[str]
) -> None:
    style = int(rng.integers(4))
    header = [
        FILE_COLUMNS[rng.integers(len(FILE_COLUMNS))],
        LABEL_COLUMNS[rng.integers(len(LABEL_COLUMNS))],
        "patient",
        "note",
    ]
    rows = [
        [_reference(rng, path, style), label, f"p{index // 2}", 'say "ah", please\nnow']
        for index, (path, label) in enumerate(zip(paths, labels, strict=True))
    ]
    order = rng.permutation(len(header))
    shuffled = [[row[column] for column in order] for row in [header, *rows]]
    (folder / "labels.csv").write_bytes(_csv(rng, shuffled))


def _csv(rng: np.random.Generator, rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    endings = ("\r\n", "\n")
    csv.writer(
        text,
        delimiter=",;\t"[rng.integers(3)],
        lineterminator=endings[rng.integers(2)],
        quoting=(csv.QUOTE_MINIMAL, csv.QUOTE_ALL)[rng.integers(2)],
    ).writerows(rows)
    encoding = ENCODINGS[rng.integers(len(ENCODINGS))]
    try:
        return text.getvalue().encode(encoding)
    except UnicodeEncodeError:  # Not every name can be written in every encoding.
        return text.getvalue().encode("utf-8")


def _write_lists(rng: np.random.Generator, folder: Path, paths: list[str]) -> list[int]:
    """Writes groups.csv and exclude.txt; returns the indices of the images that are kept."""
    if rng.random() < 0.6:
        rows = [[_reference(rng, path, 0), f"p{index // 2}"] for index, path in enumerate(paths)]
        text = io.StringIO()
        csv.writer(text).writerows([["filename", "patient"], *rows])
        (folder / "groups.csv").write_text(text.getvalue(), encoding="utf-8")
    kept = list(range(len(paths)))
    if rng.random() < 0.4:
        excluded = kept.pop(int(rng.integers(len(paths))))
        line = _reference(rng, paths[excluded], 0)
        (folder / "exclude.txt").write_text(f"# blurred\n{line}\n", encoding="utf-8")
    return kept


def _table(folder: Path) -> Path | None:
    return next((path for path in sorted(folder.iterdir()) if path.suffix == ".csv"), None)


def _change(
    change: Callable[[np.random.Generator, bytes], bytes],
) -> Callable[[np.random.Generator, Path], bool]:
    """Makes a fault of the bytes of the set's table; False where there is none."""

    def apply(rng: np.random.Generator, folder: Path) -> bool:
        path = _table(folder)
        if path is None:
            return False
        path.write_bytes(change(rng, path.read_bytes()))
        return True

    return apply


def _truncate(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _flip(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for position in rng.integers(len(data), size=5):
        changed[position] = int(rng.integers(256))
    return bytes(changed)


def _repeat_line(rng: np.random.Generator, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return data + lines[int(rng.integers(len(lines)))]


def _unlink(rng: np.random.Generator, folder: Path) -> bool:
    pictures = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.suffix != ".csv"
    )
    pictures[int(rng.integers(len(pictures)))].unlink()
    return True


def _second_table(rng: np.random.Generator, folder: Path) -> bool:
    path = _table(folder)
    if path is None:
        return False
    shutil.copy(path, folder / "zz other.csv")
    return True


def _folder_called_table(rng: np.random.Generator, folder: Path) -> bool:
    (folder / "also.csv").mkdir()
    return True


FAULTS: dict[str, Callable[[np.random.Generator, Path], bool]] = {
    "empty table": _change(lambda _, data: b""),
    "header only": _change(lambda _, data: data.splitlines(keepends=True)[0]),
    "table cut off": _change(_truncate),
    "bytes changed": _change(_flip),
    "not text": _change(lambda rng, data: rng.bytes(len(data))),
    "zeros": _change(lambda _, data: data + bytes(50)),
    "a line twice": _change(_repeat_line),
    "ragged rows": _change(lambda _, data: data.replace(b",p1", b"", 1) + b"x,y,z,a,b,c,d,e,f\n"),
    "unclosed quote": _change(lambda _, data: data + b'"'),
    "an image is missing": _unlink,
    "two tables": _second_table,
    "a folder called like a table": _folder_called_table,
}
"""Name → function that spoils a set; False where the set has nothing to spoil."""
