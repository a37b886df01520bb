"""The one reader: bytes or a path → one single-channel radiograph, and from it the square the network eats.

The builder calls it when a set is prepared, predict and the demo call it when an image comes in, so both see the same pixels.
Needs no TensorFlow. The type of a file is decided by its bytes, never by its name.
"""

import dataclasses
import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainer.errors import UserError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom"})
STANDARD_SIDE = 500
MOST_PIXELS = 64_000_000
LEAST_SIDE = 32

_CHANNELS = {"1": 1, "L": 1, "I": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "F": 1, "P": 1, "LA": 2, "PA": 2, "RGB": 3, "YCbCr": 3,
             "RGBA": 4, "CMYK": 4}
_OTHER_TYPES = ((b"GIF8", "a GIF"), (b"RIFF", "a WebP"), (b"II*\0", "a TIFF"), (b"MM\0*", "a TIFF"), (b"BM", "a BMP"),
                (b"%PDF", "a PDF"), (b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "a gzip archive"))


class RadiographError(UserError):
    """A file that cannot be read as a radiograph; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What the file says of itself, before anything is done to it.

    Attributes:
      width, height: in pixels, as stored (before EXIF orientation).
      channels: values a pixel (a palette counts as 1).
      bit_depth: bits a value.
      byte_size: of the file.
      format: PNG, JPEG or DICOM.
      sha256: of the file's bytes, hexadecimal.
    """

    width: int
    height: int
    channels: int
    bit_depth: int
    byte_size: int
    format: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Radiograph:
    """One image, upright, with bright bone on a dark background as radiographs are read.

    Attributes:
      pixels: [height, width], uint8, or uint16 where the file holds more than 8 bits.
      header: what the file says of itself.
      full_scale: whether uint16 pixels use the whole range (a DICOM window was applied, or the file means it so); else
        `standardize` finds the range by itself.
    """

    pixels: np.ndarray
    header: Header
    full_scale: bool = False


def read(source: str | os.PathLike | bytes, name: str | None = None) -> Radiograph:
    """Reads a PNG (1, 8, 16 bit; grey, colour, palette, with alpha or without), a JPEG or a single-frame DICOM.

    Colour becomes luma (ITU-R 601-2); transparent pixels become black, as the background of a radiograph is; EXIF orientation
    is applied; MONOCHROME1 is inverted; DICOM goes through its modality and VOI transforms. More than 8 bits stay uint16.

    Args:
      source: the file's bytes, or its path.
      name: what error messages call it; by default the path.

    Raises:
      RadiographError: it is not such a file, is damaged, has over 64 megapixels (checked before decoding), has a side under
        32 pixels, or is animated.
    """
    data, name = _bytes_of(source, name)
    if data.startswith(b"\x89PNG\r\n\x1a\n") or data.startswith(b"\xff\xd8\xff"):
        return _read_raster(data, name)
    if data[128:132] == b"DICM":
        from trainer import dicom  # pydicom loads only where it is needed.

        return dicom.read(data, name)
    raise RadiographError(f"{name}: {_what_it_is(data)}; give a PNG, JPEG or DICOM file.")


def standardize(radiograph: Radiograph | np.ndarray, side: int = STANDARD_SIDE) -> np.ndarray:
    """Turns a radiograph into the square the network eats.

    8-bit levels stay as they are. 16-bit pixels are windowed first: from their 0.1th to their 99.9th percentile, or over the
    full range where the file means it so (`full_scale`). The image is stretched, never padded: padding would write the aspect
    ratio, which may differ between hospitals, into the picture. Resampling is Pillow's antialiased bilinear filter
    (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters).

    Args:
      radiograph: as `read` gives it, or its pixels ([height, width] uint8 or uint16).
      side: of the square, in pixels.

    Returns:
      [side, side] uint8.
    """
    pixels = radiograph if isinstance(radiograph, np.ndarray) else radiograph.pixels
    full_scale = not isinstance(radiograph, np.ndarray) and radiograph.full_scale
    levels = pixels if pixels.dtype == np.uint8 else window(pixels, full_scale)
    if levels.shape == (side, side):
        return levels
    return np.asarray(Image.fromarray(levels).resize((side, side), Image.Resampling.BILINEAR))


def window(pixels: np.ndarray, full_scale: bool = False) -> np.ndarray:
    """Maps uint16 pixels to uint8 ([height, width] both), linearly, by the rule `standardize` describes."""
    if full_scale:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = np.percentile(pixels, [0.1, 99.9])
    scaled = (pixels.astype(np.float32) - low) * (255.0 / max(high - low, 1.0))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def check_size(width: int, height: int, name: str) -> None:
    """Refuses sizes outside the limits, before anything is decoded."""
    if width * height > MOST_PIXELS:
        raise RadiographError(f"{name}: {width}x{height} is over {MOST_PIXELS // 1_000_000} megapixels; scale it down first.")
    if min(width, height) < LEAST_SIDE:
        raise RadiographError(f"{name}: {width}x{height} is too small; give an image of at least {LEAST_SIDE} pixels a side.")


def header_of(data: bytes, width: int, height: int, channels: int, bit_depth: int, kind: str) -> Header:
    """The header of a file with these bytes."""
    return Header(width, height, channels, bit_depth, len(data), kind, hashlib.sha256(data).hexdigest())


def _bytes_of(source: str | os.PathLike | bytes, name: str | None) -> tuple[bytes, str]:
    if isinstance(source, bytes | bytearray | memoryview):
        data, name = bytes(source), name or "the image"
    else:
        name = name or os.fspath(source)
        try:
            data = Path(source).read_bytes()
        except IsADirectoryError:
            raise RadiographError(f"{name}: is a folder; give the files in it.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise RadiographError(f"{name}: cannot be opened ({reason}); check the path and its permissions.") from None
    name = " ".join(name.split())
    if not data:
        raise RadiographError(f"{name}: is empty; get the file again.")
    return data, name


def _what_it_is(data: bytes) -> str:
    head = data[:1024].lstrip().lower()
    if b"<svg" in head or head.startswith(b"<?xml"):
        return "is an SVG or XML document, not a radiograph"
    for magic, kind in _OTHER_TYPES:
        if data.startswith(magic):
            return f"is {kind} file, which is not supported"
    return "is not an image"


def _read_raster(data: bytes, name: str) -> Radiograph:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's size warning: the limit is ours, checked below.
            image = _open(data, name)
            header = header_of(data, image.width, image.height, *_depth(data, image), image.format)
            check_size(image.width, image.height, name)
            if getattr(image, "n_frames", 1) > 1:
                raise RadiographError(f"{name}: is animated; give a single image.")
            image.load()
            pixels = _sixteen_bit(data, image) if header.bit_depth == 16 else _eight_bit(image)
    except RadiographError:
        raise
    except MemoryError:
        raise RadiographError(f"{name}: does not fit into memory; scale it down first.") from None
    except Exception as error:  # Decoders raise a dozen kinds on damaged bytes; all mean the same to the user.
        raise RadiographError(f"{name}: is damaged or cut off ({type(error).__name__}); get the file again.") from None
    return Radiograph(np.ascontiguousarray(pixels), header)


def _open(data: bytes, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise RadiographError(f"{name}: is over {MOST_PIXELS // 1_000_000} megapixels; scale it down first.") from None


def _depth(data: bytes, image: Image.Image) -> tuple[int, int]:
    """(channels, bits a value) as stored; for PNG from its IHDR, since Pillow narrows 16-bit colour to 8 bits."""
    if image.format == "PNG":
        return {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]], data[24]
    return _CHANNELS[image.mode], 8


def _eight_bit(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        colour = image.convert("RGB" if image.mode == "RGBA" else "L")
        image = Image.composite(colour, Image.new(colour.mode, image.size), image.getchannel("A"))
    if image.mode == "CMYK":
        image = image.convert("RGB")
    return np.asarray(image.convert("L"))


def _sixteen_bit(data: bytes, image: Image.Image) -> np.ndarray:
    # Pillow reads 16-bit grey in full but narrows 16-bit colour and grey with alpha to 8 bits; OpenCV keeps them.
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.uint16)
    else:
        import cv2

        pixels = _luma(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION))
    return _upright(pixels, image.getexif().get(0x0112, 1))


def _luma(values: np.ndarray) -> np.ndarray:
    """[height, width, channels] uint16 in OpenCV's order (BGR, alpha last) → [height, width] uint16."""
    if values.ndim == 2:
        return values
    opaque = values[..., 3:].astype(np.float64) / 65535.0 if values.shape[2] == 4 else 1.0
    return np.rint((values[..., :3] * opaque) @ np.array([0.114, 0.587, 0.299])).astype(np.uint16)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation (1 to 8; https://exiftool.org/TagNames/EXIF.html)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.T
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
