"""The only reader of radiographs: bytes or a path in, one grey image and the network's square out.

The data-set builders call it when a set is prepared; predict and the demo call it for each image.
So training and serving see the same pixels.

    image = radiograph.read("chest.dcm")
    square = radiograph.standardize(image, side=500)  # [500, 500] uint8

Importing it is light: no TensorFlow, pydicom or OpenCV. The bytes of a file decide its type, never
its name.
"""

import functools
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data import dicom_head, file_names, raster
from trainer.data.pixels import (
    MAX_BYTES,
    MAX_PIXELS,
    MIN_SIDE,
    Header,
    Radiograph,
    RadiographError,
    white_level,
)

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "PREPROCESSING_VERSION",
    "STANDARD_SIDE",
    "Header",
    "Radiograph",
    "RadiographError",
    "encode",
    "read",
    "standardize",
]

# Rises with any change to `standardize` or to the resampling in the graph. A model records it, and
# a runtime of another version refuses the model.
PREPROCESSING_VERSION = 1

EXTENSIONS = raster.EXTENSIONS | {".dcm", ".dicom"}
FORMATS = "PNG, JPEG, DICOM, TIFF, BMP, WebP or JPEG 2000"
STANDARD_SIDE = 500  # Pixels.
HEAD_BYTES = 1024
"""Number of first bytes that `recognize` needs."""

# First bytes → type, for the message.
_OTHER_TYPES = (
    (b"GIF8", "a GIF"),
    (b"RIFF", "an AVI or WAV"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)


def recognize(head: bytes) -> str | None:
    """Returns the format that the first bytes of a file stand for; None for any other.

    Args:
      head: the first `HEAD_BYTES` of the file.
    """
    # First: the preamble of a DICOM file may be the head of a TIFF (PS3.10, 7.1).
    if dicom_head.recognize(head):
        return None if dicom_head.is_directory(head) else "DICOM"
    return raster.recognize(head)


def read(source: str | os.PathLike | bytes, name: str | None = None) -> Radiograph:
    """Reads a PNG, JPEG, TIFF, BMP, WebP or JPEG 2000, or a single-frame DICOM.

    PNG may have 1 to 16 bits, in grey, colour or palette, with alpha or without. Colour becomes
    luma (ITU-R 601-2). Transparent pixels become black, the background of a radiograph. EXIF
    orientation is applied. MONOCHROME1 is inverted. DICOM goes through its modality and VOI
    transforms. More than 8 bits stay uint16.

    Args:
      source: the file's bytes, or its path.
      name: the name in error messages; by default the path.

    Raises:
      RadiographError: the file is of another type or damaged, has over 64 megapixels (checked
        before decoding), has a side under 32 pixels, or holds
        several images.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        name = file_names.printable(name or "the image")
        data = bytes(source)
    else:
        name = file_names.printable(name or os.fsdecode(source))
        data = _read_file(source, name)
    if not data:
        raise RadiographError(f"{name}: is empty; get the file again.")
    decode: Callable[[bytes, str], Radiograph]
    format = recognize(data[:HEAD_BYTES])
    if format == "DICOM":
        from trainer.data import dicom  # Imported lazily: pydicom is slow to load.

        decode = dicom.decode
        damage = "is a DICOM file that is damaged, cut off or in an unknown compression"
        fix = "get it again, or export it uncompressed"
    elif format:
        decode = functools.partial(raster.decode, format=format)
        damage = "is damaged or cut off"
        fix = "get the file again"
    else:
        raise RadiographError(f"{name}: {_describe_type(data)}; give a {FORMATS} file.")
    try:
        with warnings.catch_warnings():
            # Pillow warns about sizes, which have their own check, and about odd metadata.
            warnings.simplefilter("ignore")
            return decode(data, name)
    except RadiographError:
        raise
    except MemoryError:
        raise RadiographError(f"{name}: does not fit into memory; scale it down first.") from None
    except Exception as error:
        # Decoders raise many types on damaged bytes; pydicom's texts may quote tags of a patient.
        raise RadiographError(f"{name}: {damage} ({type(error).__name__}); {fix}.") from None


def standardize(
    radiograph: Radiograph | np.ndarray,
    side: int = STANDARD_SIDE,
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> np.ndarray:
    """Turns a radiograph, or its box, into the network's square.

    8-bit levels stay unchanged. Deeper ones are scaled linearly: 0 stays 0 and white becomes 255.
    Contrast is never stretched to the image's own range: an image saved with 8, 12 or 16 bits gives
    the same square.

    The image is stretched to the square, never padded. Padding would write the aspect ratio, which
    may differ between hospitals, into the picture. Resampling is Pillow's bilinear filter,
    antialiased where it shrinks
    (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters); five megapixels take
    about 10 ms.

    Args:
      radiograph: the result of `read`, or its pixels ([height, width] uint8 or uint16).
      side: side length of the square, in pixels.
      box: (x0, y0, x1, y1) as shares of width and height; by default all.

    Returns:
      [side, side] uint8, a new array.
    """
    image = Image.fromarray(_to_8_bits(radiograph))
    x0, y0, x1, y1 = box
    corners = (x0 * image.width, y0 * image.height, x1 * image.width, y1 * image.height)
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=corners))


def shrink(radiograph: Radiograph | np.ndarray, longest: int) -> np.ndarray:
    """Scales a radiograph down in its own aspect ratio, for people to look at.

    Args:
      radiograph: as for `standardize`, whose grey levels it has.
      longest: maximum of height and width, in pixels.

    Returns:
      [height, width] uint8.
    """
    image = Image.fromarray(_to_8_bits(radiograph))
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    return np.array(image)


def _to_8_bits(radiograph: Radiograph | np.ndarray) -> np.ndarray:
    pixels = radiograph if isinstance(radiograph, np.ndarray) else radiograph.pixels
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"pixels are [height, width] uint8 or uint16, not {pixels.shape} {pixels.dtype}"
        )
    if pixels.dtype == np.uint16:
        white = white_level(pixels) if isinstance(radiograph, np.ndarray) else radiograph.white
        # Linear: 0 becomes 0, white and above 255.
        table = (np.arange(65536) * 255 + white // 2) // white
        pixels = np.minimum(table, 255).astype(np.uint8)[pixels]
    return pixels


def encode(pixels: np.ndarray) -> bytes:
    """Packs pixels into a PNG, without loss.

    Each row is stored as the difference to the row above, with run-length coding. For radiographs
    that takes 37 % of the time of Pillow's level 1, decodes in half the time, and is 12 % smaller.

    Args:
      pixels: [height, width] uint8 or uint16.
    """
    import cv2  # Imported lazily: only builders need it.

    settings = [
        cv2.IMWRITE_PNG_FILTER,
        cv2.IMWRITE_PNG_FILTER_UP,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
    ]
    return cv2.imencode(".png", pixels, settings)[1].tobytes()


def _read_file(path: str | os.PathLike, name: str) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise RadiographError(f"{name}: is a folder; give the files in it.")
        if not stat.S_ISREG(status.st_mode):
            # Reading a device such as /dev/zero would never end.
            raise RadiographError(f"{name}: is a device or pipe; give a file.")
        if status.st_size > MAX_BYTES:
            raise RadiographError(
                f"{name}: is over {MAX_BYTES // 10**9} GB; give the file of a single image."
            )
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise RadiographError(f"{name}: does not exist; check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: the path contains a null byte.
        reason = getattr(error, "strerror", None) or "not a path"
        raise RadiographError(
            f"{name}: cannot be opened ({reason}); check the path and its permissions."
        ) from None


def _describe_type(data: bytes) -> str:
    if dicom_head.recognize(data[:HEAD_BYTES]):
        return "is the directory of a DICOM disc, which names the images beside it"
    # Text formats may start with a byte order mark or blanks.
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head or head.startswith(b"<?xml"):
        return "is an SVG or XML document, not a radiograph"
    kind = next((kind for magic, kind in _OTHER_TYPES if data.startswith(magic)), None)
    return f"is {kind} file, which is not supported" if kind else "is not an image"
