"""Refusals of a trained model on foreign pictures, altered radiographs and held-out ones.

    python -m tests.studies.refusal --workdir=RUN --held_out=FOLDER [--groups=groups.csv]

Foreign pictures are those bundled with scikit-image, scikit-learn, pydicom and pydicom-data, and
generated ones: drawings, pages of text, noise, even greys. FOLDER holds radiographs that the run
was not trained on. They are counted as they are (false refusals) and, altered, as foreign. All of
them go through the reader, as the user's files do. groups.csv has the columns filename and
patient.
"""

import csv
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import data_store  # Comes with pydicom-data.
import numpy as np
import pydicom
import skimage
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn import datasets as bundled
from tqdm import tqdm

from tests.studies import parse_arguments
from trainer.analysis import intervals
from trainer.data import radiograph
from trainer.inference import runtime

GENERATED = 20  # Pictures of each kind.
HELD_OUT = "held out"
TEXT = (
    "patient was seen on monday with cough and fever no pain chest film shows clear fields "
    "report signed by doctor invoice total date page"
)

# (kind, subject, encoded file)
File = tuple[str, str, bytes]


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture as the model sees it.

    Attributes:
      kind: row of the table.
      subject: what it shows; pictures of one subject are one group.
      square: [side, side] uint8.
    """

    kind: str
    subject: str
    square: np.ndarray


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes [height, width] or [height, width, 3] pixels, 0..255, as PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def photographs() -> Iterator[File]:
    """Yields pictures that come with scikit-image and scikit-learn."""
    # Sorted, so that every machine has the same order.
    for path in sorted((Path(skimage.__file__).parent / "data").iterdir()):
        if path.suffix in (".png", ".jpg"):
            yield "scikit-image", path.stem, path.read_bytes()
    for name in ("binary_blobs", "shepp_logan_phantom"):
        pixels = getattr(skimage.data, name)()  # In 0..1.
        yield "scikit-image", name, encode_png(pixels * 255.0)
    photos = bundled.load_sample_images()
    for name, image in zip(photos.filenames, photos.images, strict=True):
        yield "scikit-learn", Path(name).stem, encode_png(image)
    for index, digit in enumerate(bundled.load_digits().images[:10]):
        # Digits have 8 x 8 pixels in 0..16.
        enlarged = ndimage.zoom(digit, 25, order=1) * 15.9
        yield "scikit-learn", f"digit {index}", encode_png(enlarged)


def scans() -> Iterator[File]:
    """Yields the DICOM files of pydicom and pydicom-data except chest radiographs."""
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
        chest = str(tags.get("BodyPartExamined", "")).upper() == "CHEST"
        # CR and DX: computed and digital radiography.
        if chest and tags.get("Modality") in ("CR", "DX"):
            continue
        yield "DICOM, not a chest film", str(tags.get("SeriesInstanceUID", path.name)), data


def generated(rng: np.random.Generator) -> Iterator[File]:
    """Yields coloured shapes, pages of text, noise, even greys and ramps."""
    # Some have a dark background, as films do.
    for index in range(GENERATED):
        shapes = np.asarray(_shapes(rng, dark=index % 2 == 1))
        yield "drawing", f"drawing {index}", encode_png(shapes)
        page = np.asarray(_page(rng, dark=index % 5 == 4))
        yield "page of text", f"page {index}", encode_png(page)
        yield "noise", f"noise {index}", encode_png(_noise(rng, index % 4))
    for level in (0, 1, 20, 64, 128, 180, 254, 255):
        grey = np.full((300, 300), level)
        yield "even grey or ramp", f"grey {level}", encode_png(grey)
    ramp = np.tile(np.linspace(0, 255, 400), (400, 1))  # [400, 400], rises to the right.
    for pixels in (ramp, ramp.T):
        yield "even grey or ramp", "ramp", encode_png(pixels)


def altered(image: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Yields foreign versions of a radiograph: inverted, turned, and cropped.

    Args:
      image: [height, width] uint8.
      rng: chooses the position of the crops, of 0.25 and 0.39 of the image's surface.

    Yields:
      (kind, pixels).
    """
    yield "inverted radiograph", 255 - image
    yield "radiograph turned by 90°", np.rot90(image)
    yield "radiograph turned by 90°", np.rot90(image, 3)
    for share in (0.25, 0.39):  # Of the surface.
        height, width = (int(side * share**0.5) for side in image.shape)
        top = int(rng.integers(0, image.shape[0] - height + 1))
        left = int(rng.integers(0, image.shape[1] - width + 1))
        crop = image[top : top + height, left : left + width]
        yield "radiograph cropped to < 40 %", crop


def pictures(held_out: Path, groups: dict[str, str], seed: int) -> Iterator[Picture]:
    """Yields every picture of the study; files that the reader refuses are left out.

    Args:
      held_out: folder with radiographs that the run was not trained on.
      groups: filename → patient; other files are a group each.
      seed: of the generated pictures and the crops.
    """
    rng = np.random.default_rng(seed)
    for source in (photographs(), scans(), generated(rng)):
        for kind, subject, data in source:
            try:
                image = radiograph.read(data, subject)
                yield Picture(kind, subject, radiograph.standardize(image))
            except radiograph.RadiographError:
                continue  # The model never sees it.
    for path in sorted(path for path in held_out.rglob("*") if path.is_file()):
        try:
            image = radiograph.read(path)
        except radiograph.RadiographError:
            continue
        square = radiograph.standardize(image)
        subject = groups.get(path.name, path.name)
        yield Picture(HELD_OUT, subject, square)
        for kind, pixels in altered(square, rng):
            # Through the reader, as a user's file.
            image = radiograph.read(encode_png(pixels), path.name)
            yield Picture(kind, subject, radiograph.standardize(image))


def table(results: list[tuple[Picture, bool]]) -> list[str]:
    """Formats the share of refused pictures by kind, and of all foreign ones.

    Args:
      results: pictures and whether they were refused.

    Returns:
      Lines of a Markdown table; the 95 % intervals are over subjects.
    """
    rows: dict[str, list[tuple[str, bool]]] = {}
    for picture, refused in results:
        rows.setdefault(picture.kind, []).append((picture.subject, refused))
    # Altered radiographs are foreign too.
    rows["all foreign"] = [
        (picture.subject, refused) for picture, refused in results if picture.kind != HELD_OUT
    ]
    lines = ["| pictures | refused | 95 % interval | n | subjects |", "|---|---|---|---|---|"]
    for kind, pairs in rows.items():
        # One subject's pictures are alike, so they count as one group.
        subjects, flags = zip(*pairs, strict=True)
        estimate = intervals.proportion(np.array(flags), np.array(subjects))
        lines.append(
            f"| {kind} | {estimate.value:.4f} | {estimate.low:.4f}–{estimate.high:.4f} | "
            f"{len(flags)} | {len(set(subjects))} |"
        )
    return lines


def main() -> None:
    """Prints the table."""
    args = parse_arguments(__doc__, workdir=Path, held_out=Path, groups="", seed=0)
    # The broken files of pydicom are meant to be broken.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")
    groups = {}
    if args.groups:
        with open(args.groups, encoding="utf-8", newline="") as stream:
            groups = {Path(row["filename"]).name: row["patient"] for row in csv.DictReader(stream)}
    model = runtime.load(args.workdir)
    results = []
    progress = tqdm(pictures(args.held_out, groups, args.seed), unit=" pictures", disable=None)
    for picture in progress:
        results.append((picture, model.predict(picture.square).verdict == "refused"))
    print("\n".join(table(results)))


def _shapes(rng: np.random.Generator, dark: bool) -> Image.Image:
    width, height = (int(side) for side in rng.integers(300, 900, 2))
    background = _colour(rng) if dark else "white"
    image = Image.new("RGB", (width, height), background)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 25))):
        left, right = sorted(rng.integers(0, width, 2).tolist())
        top, bottom = sorted(rng.integers(0, height, 2).tolist())
        colour = _colour(rng)
        box = [left, top, right, bottom]
        shape = rng.integers(4)
        if shape == 0:
            pen.ellipse(box, fill=colour, outline="black")
        elif shape == 1:
            pen.rectangle(box, outline=colour, width=4)
        elif shape == 2:
            pen.line(box, fill=colour, width=int(rng.integers(1, 12)))
        else:
            tip = (int(rng.integers(0, width)), bottom)
            pen.polygon([(left, top), (right, top), tip], fill=colour)
    return image


def _colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 256, 3).tolist())


def _page(rng: np.random.Generator, dark: bool) -> Image.Image:
    paper, ink = (0, 255) if dark else (255, 0)
    width = int(rng.integers(500, 900))
    height = int(rng.integers(600, 1100))
    image = Image.new("L", (width, height), paper)
    pen = ImageDraw.Draw(image)
    size = int(rng.integers(10, 34))
    for line in range(30, height - 40, int(size * 1.5)):
        # More words than fit; a letter is about 0.55 as wide as high.
        text = " ".join(rng.choice(TEXT.split(), int(width / size / 3)))
        pen.text((30, line), text[: int(width / size * 1.8)], fill=ink, font_size=size)
    return image


def _noise(rng: np.random.Generator, kind: int) -> np.ndarray:
    if kind == 0:  # White.
        return rng.integers(0, 256, (400, 400))
    if kind == 1:  # Normal, of some brightness and contrast.
        return np.clip(rng.normal(rng.uniform(60, 190), rng.uniform(5, 60), (500, 400)), 0, 255)
    if kind == 2:  # Clouds.
        values = ndimage.gaussian_filter(rng.standard_normal((400, 400)), rng.uniform(2, 40))
    else:
        # The power falls with a power of the frequency, as in photographs.
        frequencies = np.fft.fftfreq(512)
        radius = np.hypot(*np.meshgrid(frequencies, frequencies))
        radius[0, 0] = 1  # The mean: no division by zero.
        spectrum = np.fft.fft2(rng.standard_normal((512, 512)))
        values = np.real(np.fft.ifft2(spectrum / radius ** rng.uniform(1, 1.8)))
    return (values - values.min()) / np.ptp(values) * 255  # Full range.


if __name__ == "__main__":
    main()
