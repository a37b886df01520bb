"""The one reader: bytes or a path → one single-channel radiograph, and from it the square the network eats.

The builder calls it when a set is prepared, predict and the demo call it when an image comes in, so both see the same
pixels.
Needs no TensorFlow. The type of a file is decided by its bytes, never by its name.
"""

import dataclasses
import hashlib
import io
import os
import stat
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from trainer.errors import UserError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom"})
STANDARD_SIDE = 500
MOST_PIXELS = 64_000_000
MOST_BYTES = 1_000_000_000  # Twice what 64 megapixels take at four channels of 16 bits.
LEAST_SIDE = 32

_PNG, _JPEG = b"\x89PNG", b"\xff\xd8\xff"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # By colour type.
_OTHER_TYPES = (
    (b"GIF8", "a GIF"),
    (b"RIFF", "a WebP (or other RIFF)"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"BM", "a BMP"),
    (b"\0\0\0\x0cjP", "a JPEG 2000"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)


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
      pixels: [height, width], uint8, or uint16 where the file holds more than 8 bits; 0 is black.
      header: what the file says of itself.
      white: the value that stands for white; None: found from the pixels, see `white_of`.
    """

    pixels: np.ndarray
    header: Header
    white: int | None = None


def read(source: str | os.PathLike | bytes, name: str | None = None) -> Radiograph:
    """Reads a PNG (1 to 16 bit; grey, colour, palette, with alpha or without), a JPEG or a single-frame DICOM.

    Colour becomes luma (ITU-R 601-2); what is transparent is laid on black, the background of a radiograph; EXIF
    orientation is applied; MONOCHROME1 is inverted; DICOM goes through its modality and VOI transforms. More than 8
    bits stay uint16.

    Args:
      source: the file's bytes, or its path.
      name: what error messages call it; by default the path.

    Raises:
      RadiographError: it is not such a file, is damaged, has over 64 megapixels (checked before decoding), has a side
        under 32 pixels, or is animated.
    """
    data, name = _bytes_of(source, name)
    if data.startswith((_PNG, _JPEG)):
        return _read_raster(data, name)
    if data[128:132] == b"DICM":
        from trainer.data import dicom  # pydicom loads only where it is needed.

        return dicom.read(data, name)
    raise RadiographError(f"{name}: {_what_it_is(data)}; give a PNG, JPEG or DICOM file.")


def standardize(radiograph: Radiograph | np.ndarray, side: int = STANDARD_SIDE) -> np.ndarray:
    """Turns a radiograph into the square the network eats.

    8-bit levels stay as they are; deeper ones are scaled linearly so that 0 stays 0 and white becomes 255. Nothing is
    stretched to the image's own contrast: an image saved with 8 bits, and with 12 or 16, comes out the same.

    The image is stretched to the square, never padded: padding would write the aspect ratio, which may differ between
    hospitals, into the picture. Resampling is Pillow's bilinear filter, antialiased where it shrinks
    (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters); five megapixels take some 10 ms.

    Args:
      radiograph: as `read` gives it, or its pixels ([height, width] uint8 or uint16).
      side: of the square, in pixels.

    Returns:
      [side, side] uint8, an array of its own.
    """
    pixels, white = (
        (radiograph, None)
        if isinstance(radiograph, np.ndarray)
        else (radiograph.pixels, radiograph.white)
    )
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"pixels are [height, width] uint8 or uint16, not {pixels.shape} {pixels.dtype}"
        )
    levels = pixels if pixels.dtype == np.uint8 else window(pixels, white or white_of(pixels))
    return np.array(Image.fromarray(levels).resize((side, side), Image.Resampling.BILINEAR))


def encode(pixels: np.ndarray) -> bytes:
    """Packs [height, width] uint8 or uint16 into a PNG, without loss.

    Each row is written as the difference to the one above, runs of bytes coded by their length: for radiographs that takes 37 %
    of the time of Pillow's level 1, half of its time to decode, and is 12 % smaller.
    """
    import cv2  # Only who prepares a set waits for it.

    settings = [
        cv2.IMWRITE_PNG_FILTER,
        cv2.IMWRITE_PNG_FILTER_UP,
        cv2.IMWRITE_PNG_STRATEGY,
        cv2.IMWRITE_PNG_STRATEGY_RLE,
    ]
    return cv2.imencode(".png", pixels, settings)[1].tobytes()


def window(pixels: np.ndarray, white: int) -> np.ndarray:
    """Maps [height, width] uint16 to uint8 linearly: 0 to 0, `white` and what is above it to 255."""
    table = (np.arange(65536) * 255 + white // 2) // white
    return np.minimum(table, 255).astype(np.uint8)[pixels]


def white_of(pixels: np.ndarray, bits: int = 16) -> int:
    """The value that stands for white in pixels said to have `bits` bits.

    It is 2**bits - 1, unless more than 8 bits are claimed and no pixel reaches a quarter of that, or one exceeds it:
    then the claim is the container's, not the detector's (12 bits in a 16-bit PNG), and the bits of the brightest pixel
    count, rounded up to 8, 10, 12, 14 or 16 as detectors have them. A radiograph reaches a quarter of its range somewhere:
    bone, a marker or the collimator's edge.
    """
    white, brightest = 2**bits - 1, int(pixels.max())
    if bits <= 8 or white / 4 <= brightest <= white:
        return white
    depth = max(8, brightest.bit_length())
    return 2 ** (depth + depth % 2) - 1


def check_size(width: int, height: int, name: str) -> None:
    """Refuses sizes outside the limits, before anything is decoded."""
    if width * height > MOST_PIXELS:
        most = MOST_PIXELS // 10**6
        raise RadiographError(
            f"{name}: {width}x{height} is over {most} megapixels; scale it down first."
        )
    if min(width, height) < LEAST_SIDE:
        raise RadiographError(
            f"{name}: {width}x{height} is too small; give at least {LEAST_SIDE} pixels a side."
        )


def header_of(
    data: bytes, width: int, height: int, channels: int, bit_depth: int, kind: str
) -> Header:
    """The header of a file with these bytes."""
    return Header(
        width, height, channels, bit_depth, len(data), kind, hashlib.sha256(data).hexdigest()
    )


def _bytes_of(source: str | os.PathLike | bytes, name: str | None) -> tuple[bytes, str]:
    is_path = not isinstance(source, bytes | bytearray | memoryview)
    name = name or (os.fsdecode(source) if is_path else "the image")
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    data = _bytes_at(source, name) if is_path else bytes(source)
    if not data:
        raise RadiographError(f"{name}: is empty; get the file again.")
    return data, name


def _bytes_at(path: str | os.PathLike, name: str) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise RadiographError(f"{name}: is a folder; give the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise RadiographError(f"{name}: is a device or pipe; give a file.")
        if status.st_size > MOST_BYTES:
            raise RadiographError(
                f"{name}: is over {MOST_BYTES // 10**9} GB; give the file of a single image."
            )
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise RadiographError(f"{name}: does not exist; check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte in it.
        reason = getattr(error, "strerror", None) or "not a path"
        raise RadiographError(
            f"{name}: cannot be opened ({reason}); check the path and its permissions."
        ) from None


def _what_it_is(data: bytes) -> str:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head or head.startswith(b"<?xml"):
        return "is an SVG or XML document, not a radiograph"
    for magic, kind in _OTHER_TYPES:
        if data.startswith(magic):
            return f"is {kind} file, which is not supported"
    return "is not an image"


def _read_raster(data: bytes, name: str) -> Radiograph:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of sizes (the limit is ours) and of stray metadata.
            image = _open(data, name)
            check_size(image.width, image.height, name)
            _check_whole(data, image, name)
            kind, channels, bits = _stored_as(data, image)
            pixels = _sixteen_bit(data, image) if bits == 16 else _eight_bit(image)
            pixels = np.ascontiguousarray(_upright(pixels, _orientation(image)))
    except RadiographError:
        raise
    except MemoryError:
        raise RadiographError(f"{name}: does not fit into memory; scale it down first.") from None
    except (
        Exception
    ) as error:  # Decoders raise a dozen kinds on damaged bytes; all mean the same to the user.
        raise RadiographError(
            f"{name}: is damaged or cut off ({type(error).__name__}); get the file again."
        ) from None
    header = header_of(data, image.width, image.height, channels, bits, kind)
    return Radiograph(pixels, header, white_of(pixels, max(8, bits)))


def _open(data: bytes, name: str) -> Image.Image:
    """Reads the file's head; nothing is decoded."""
    try:
        return Image.open(
            io.BytesIO(data), formats=("PNG",) if data.startswith(_PNG) else ("JPEG",)
        )
    except Image.DecompressionBombError:
        raise RadiographError(
            f"{name}: is over {MOST_PIXELS // 10**6} megapixels; scale it down first."
        ) from None
    except Exception as error:
        raise RadiographError(
            f"{name}: has a damaged head or is of a rare kind ({type(error).__name__}); get the "
            "file again, or save it as a plain PNG."
        ) from None


def _stored_as(data: bytes, image: Image.Image) -> tuple[str, int, int]:
    """(format, channels, bits a value), for PNG from its IHDR: Pillow narrows 16-bit colour to 8 bits."""
    return (
        ("PNG", _PNG_CHANNELS[data[25]], data[24])
        if data.startswith(_PNG)
        else ("JPEG", len(image.getbands()), 8)
    )


def _check_whole(data: bytes, image: Image.Image, name: str) -> None:
    if data.startswith(_PNG):
        if getattr(image, "n_frames", 1) > 1:
            raise RadiographError(f"{name}: is animated; give a single image.")
        _check_chunks(data)
    image.load()


def _check_chunks(data: bytes) -> None:
    """Raises ValueError unless a PNG's critical chunks are there and intact; Pillow skips IEND and the pixels' CRC."""
    view, start, kind = memoryview(data), 8, b""
    while kind != b"IEND":
        length, kind = (
            int.from_bytes(view[start : start + 4], "big"),
            bytes(view[start + 4 : start + 8]),
        )
        end = start + 12 + length
        if end > len(view):
            raise ValueError("cut off")
        critical = not kind[0] & 32
        if critical and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(
            view[end - 4 : end], "big"
        ):
            raise ValueError("damaged")
        start = end


def _eight_bit(image: Image.Image) -> np.ndarray:
    if image.mode == "CMYK":
        # Pillow takes all CMYK JPEGs for Adobe's, which store it inverted; those without Adobe's marker do not.
        image = (image if "adobe" in image.info else ImageChops.invert(image)).convert("RGB")
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        colour = image.convert("RGB" if image.mode == "RGBA" else "L")
        image = Image.composite(colour, Image.new(colour.mode, image.size), image.getchannel("A"))
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def _sixteen_bit(data: bytes, image: Image.Image) -> np.ndarray:
    # Pillow reads 16-bit grey in full but narrows 16-bit colour and grey with alpha to 8 bits; OpenCV keeps them.
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.uint16)
        clear = image.info.get("transparency")
        return pixels if clear is None else np.where(pixels == clear, np.uint16(0), pixels)
    import cv2

    return _luma(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def _luma(values: np.ndarray) -> np.ndarray:
    """[height, width, 3 or 4] uint16 in OpenCV's order (blue first, alpha last) → [height, width] uint16."""
    luma = values[..., :3] @ np.array([0.114, 0.587, 0.299])
    return np.rint(luma * (values[..., 3] / 65535.0) if values.shape[2] == 4 else luma).astype(
        np.uint16
    )


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # Metadata in disorder does not make the picture unreadable.
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation (1 to 8; https://exiftool.org/TagNames/EXIF.html)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.T
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
