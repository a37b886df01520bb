"""Measures what a trained model refuses: foreign pictures, altered radiographs, and held-out radiographs it should not.

python -m tests.studies.refusal --workdir=RUN --held_out=FOLDER [--groups=groups.csv]

Foreign pictures are those bundled with scikit-image, scikit-learn, pydicom and pydicom-data, and drawn ones: drawings, pages of
text, noise, even greys. FOLDER holds radiographs that the run was not trained on; they are counted as they are (false refusals)
and, altered, as foreign. All enter through the reader, as the user's files do.
"""

import argparse
import csv
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import data_store  # Of pydicom-data.
import numpy as np
import pydicom
import skimage
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn import datasets as bundled
from tqdm import tqdm

from trainer.analysis import intervals
from trainer.data import radiograph
from trainer.inference import runtime

DRAWN = 20
WORDS = (
    "patient",
    "was",
    "seen",
    "on",
    "monday",
    "with",
    "cough",
    "and",
    "fever",
    "no",
    "pain",
    "chest",
    "film",
    "shows",
    "clear",
    "fields",
    "report",
    "signed",
    "by",
    "doctor",
    "invoice",
    "total",
    "date",
    "page",
)


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture: what kind of thing it is, the subject it shows (pictures of one subject are one group), and its square."""

    kind: str
    subject: str
    square: np.ndarray


def encoded(pixels: np.ndarray) -> bytes:
    """A PNG of [height, width] or [height, width, 3] pixels, 0–255."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def photographs() -> Iterator[tuple[str, str, bytes]]:
    """Pictures that come with scikit-image and scikit-learn: (kind, subject, bytes)."""
    for path in sorted((Path(skimage.__file__).parent / "data").iterdir()):
        if path.suffix in (".png", ".jpg"):
            yield "scikit-image", path.stem, path.read_bytes()
    for name in ("binary_blobs", "shepp_logan_phantom"):
        yield "scikit-image", name, encoded(getattr(skimage.data, name)() * 255.0)
    photos = bundled.load_sample_images()
    for name, image in zip(photos.filenames, photos.images, strict=True):
        yield "scikit-learn", Path(name).stem, encoded(image)
    for index, digit in enumerate(bundled.load_digits().images[:10]):
        yield "scikit-learn", f"digit {index}", encoded(ndimage.zoom(digit, 25, order=1) * 15.9)


def scans() -> Iterator[tuple[str, str, bytes]]:
    """DICOM files that come with pydicom and pydicom-data (no chest radiographs), by modality."""
    folders = (
        Path(pydicom.__file__).parent / "data" / "test_files",
        Path(data_store.__file__).parent / "data",
    )
    for path in sorted(path for folder in folders for path in folder.rglob("*.dcm")):
        data = path.read_bytes()
        try:
            tags = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        except Exception:  # Some are broken on purpose.
            continue
        if str(tags.get("BodyPartExamined", "")).upper() != "CHEST" or tags.get("Modality") not in (
            "CR",
            "DX",
        ):
            yield "DICOM, not a chest film", str(tags.get("SeriesInstanceUID", path.name)), data


def drawings(rng: np.random.Generator) -> Iterator[tuple[str, str, bytes]]:
    """Coloured shapes, pages of text, noise of several kinds, even greys and ramps."""
    for index in range(DRAWN):
        yield "drawing", f"drawing {index}", encoded(np.asarray(_shapes(rng, dark=index % 2 == 1)))
        yield "page of text", f"page {index}", encoded(np.asarray(_page(rng, dark=index % 5 == 4)))
        yield "noise", f"noise {index}", encoded(_noise(rng, index % 4))
    for level in (0, 1, 20, 64, 128, 180, 254, 255):
        yield "even grey or ramp", f"grey {level}", encoded(np.full((300, 300), level))
    ramp = np.tile(np.linspace(0, 255, 400), (400, 1))
    yield "even grey or ramp", "ramp", encoded(ramp)
    yield "even grey or ramp", "ramp", encoded(ramp.T)


def _shapes(rng: np.random.Generator, dark: bool) -> Image.Image:
    width, height = (int(side) for side in rng.integers(300, 900, 2))
    image = Image.new(
        "RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()) if dark else "white"
    )
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 25))):
        left, right = sorted(rng.integers(0, width, 2).tolist())
        top, bottom = sorted(rng.integers(0, height, 2).tolist())
        colour, box = tuple(rng.integers(0, 256, 3).tolist()), [left, top, right, bottom]
        shape = rng.integers(4)
        if shape == 0:
            pen.ellipse(box, fill=colour, outline="black")
        elif shape == 1:
            pen.rectangle(box, outline=colour, width=4)
        elif shape == 2:
            pen.line(box, fill=colour, width=int(rng.integers(1, 12)))
        else:
            pen.polygon(
                [(left, top), (right, top), (int(rng.integers(0, width)), bottom)], fill=colour
            )
    return image


def _page(rng: np.random.Generator, dark: bool) -> Image.Image:
    image = Image.new(
        "L", (int(rng.integers(500, 900)), int(rng.integers(600, 1100))), 0 if dark else 255
    )
    pen, size, line = ImageDraw.Draw(image), int(rng.integers(10, 34)), 30
    while line < image.height - 40:
        text = " ".join(rng.choice(WORDS, int(image.width / size / 3)))
        pen.text(
            (30, line),
            text[: int(image.width / size * 1.8)],
            fill=255 if dark else 0,
            font_size=size,
        )
        line += int(size * 1.5)
    return image


def _noise(rng: np.random.Generator, kind: int) -> np.ndarray:
    if kind == 0:
        return rng.integers(0, 256, (400, 400))
    if kind == 1:
        return np.clip(rng.normal(rng.uniform(60, 190), rng.uniform(5, 60), (500, 400)), 0, 255)
    if kind == 2:
        values = ndimage.gaussian_filter(rng.standard_normal((400, 400)), rng.uniform(2, 40))
    else:  # Its power falls with a power of the frequency, as in photographs.
        radius = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
        radius[0, 0] = 1
        values = np.real(
            np.fft.ifft2(
                np.fft.fft2(rng.standard_normal((512, 512))) / radius ** rng.uniform(1, 1.8)
            )
        )
    return (values - values.min()) / np.ptp(values) * 255


def altered(image: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """A radiograph [height, width] uint8 made foreign: inverted, turned, and cropped to a quarter and to 0.39 of its area."""
    yield "inverted radiograph", 255 - image
    yield "radiograph turned by 90°", np.rot90(image)
    yield "radiograph turned by 90°", np.rot90(image, 3)
    for share in (0.25, 0.39):
        height, width = (int(side * share**0.5) for side in image.shape)
        top, left = (
            int(rng.integers(0, whole - part + 1))
            for whole, part in zip(image.shape, (height, width), strict=True)
        )
        yield "radiograph cropped to < 40 %", image[top : top + height, left : left + width]


def pictures(held_out: Path, groups: dict[str, str], seed: int) -> Iterator[Picture]:
    """Every picture of the study, foreign ones and radiographs ("held out"), as squares; unreadable ones left out."""
    rng = np.random.default_rng(seed)
    for source in (photographs(), scans(), drawings(rng)):
        for kind, subject, data in source:
            try:
                yield Picture(kind, subject, radiograph.standardize(radiograph.read(data, subject)))
            except radiograph.RadiographError:
                continue  # The reader refuses it; the model is never asked.
    for path in sorted(path for path in held_out.rglob("*") if path.is_file()):
        try:
            image = radiograph.read(path)
        except radiograph.RadiographError:
            continue
        subject = groups.get(path.name, path.name)
        square = radiograph.standardize(image)
        yield Picture("held out", subject, square)
        for kind, change in altered(square, rng):
            yield Picture(
                kind, subject, radiograph.standardize(radiograph.read(encoded(change), path.name))
            )


def table(refused: list[tuple[Picture, bool]]) -> list[str]:
    """A row a kind: share refused with its 95 % interval over subjects, pictures, subjects; then all foreign ones together."""
    kinds = dict.fromkeys(picture.kind for picture, _ in refused)
    rows = {
        kind: [(picture.subject, no) for picture, no in refused if picture.kind == kind]
        for kind in kinds
    }
    rows["all foreign"] = [
        (picture.subject, no) for picture, no in refused if picture.kind != "held out"
    ]
    lines = ["| pictures | refused | 95 % interval | n | subjects |", "|---|---|---|---|---|"]
    for kind, found in rows.items():
        subjects, flags = zip(*found, strict=True)
        estimate = intervals.proportion(np.array(flags), np.array(subjects))
        lines.append(
            f"| {kind} | {estimate.value:.4f} | {estimate.low:.4f}–{estimate.high:.4f} | "
            f"{len(flags)} | {len(set(subjects))} |"
        )
    return lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--held_out", type=Path, required=True)
    parser.add_argument("--groups", type=Path, help="CSV with the columns filename and patient")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")
    groups = {}
    if asked.groups:
        with asked.groups.open(newline="") as stream:
            groups = {Path(row["filename"]).name: row["patient"] for row in csv.DictReader(stream)}
    model = runtime.load(asked.workdir)
    shown = tqdm(pictures(asked.held_out, groups, asked.seed), unit=" pictures", disable=None)
    refused = [(picture, model.answer(picture.square).verdict == "refused") for picture in shown]
    print("\n".join(table(refused)))


if __name__ == "__main__":
    main()
