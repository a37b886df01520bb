"""The radiograph in memory: its pixels, its header, its limits and its white level.

The readers of each file format (`raster`, `dicom`) return a `Radiograph` and raise
`RadiographError`. `trainer.data.radiograph` is the entry point that chooses between them.

    check_size(width, height, name)
    image = Radiograph(pixels, header, white_level(pixels, bits=12))
"""

import dataclasses

import numpy as np

from trainer.errors import UserError

MAX_PIXELS = 64_000_000
MAX_BYTES = 1_000_000_000  # Twice the size of 64 megapixels at four channels of 16 bits.
MIN_SIDE = 32


class RadiographError(UserError):
    """A file that cannot be read as a radiograph; the message names it and the fix."""


@dataclasses.dataclass(frozen=True)
class Header:
    """The properties of the file, before any processing.

    Attributes:
      width: in pixels, as stored (before EXIF orientation).
      height: in pixels, as stored (before EXIF orientation).
      channels: values per pixel (a palette counts as 1).
      bit_depth: bits per value.
      byte_size: size of the file in bytes.
      format: PNG, JPEG, DICOM, TIFF, BMP, WEBP or JPEG2000.
      sha256: SHA-256 of the file's bytes, hexadecimal.
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
    """One upright image with bright bone on a dark background.

    Attributes:
      pixels: [height, width], uint8, or uint16 where the file has more than 8 bits; 0 is black.
      header: the properties of the file.
      white: the value that means white, see `white_level`.
    """

    pixels: np.ndarray
    header: Header
    white: int


def check_size(width: int, height: int, name: str) -> None:
    """Rejects sizes outside the limits, before any decoding.

    Args:
      width: in pixels.
      height: in pixels.
      name: the file's name in the message.

    Raises:
      RadiographError: over `MAX_PIXELS` pixels, or a side under `MIN_SIDE`.
    """
    if width * height > MAX_PIXELS:
        raise RadiographError(
            f"{name}: {width}x{height} is over {MAX_PIXELS // 10**6} megapixels; scale it down "
            "first."
        )
    if min(width, height) < MIN_SIDE:
        raise RadiographError(
            f"{name}: {width}x{height} is too small; give at least {MIN_SIDE} pixels a side."
        )


def white_level(pixels: np.ndarray, bits: int = 16) -> int:
    """Returns the value that means white in pixels of a declared bit depth.

    It is 2**bits - 1. There are two exceptions for more than 8 declared bits: no pixel reaches a
    quarter of that value, or a pixel exceeds it. Then the declared depth is the container's, not
    the detector's (12 bits in a 16-bit PNG). The bits of the brightest pixel count instead, rounded
    up to 8, 10, 12, 14 or 16, the depths of detectors. A radiograph reaches a quarter of its range
    somewhere: bone, a marker or the collimator's edge.

    Args:
      pixels: [height, width] integers.
      bits: the declared bit depth.
    """
    white = 2**bits - 1
    brightest = int(pixels.max())
    if bits <= 8 or white / 4 <= brightest <= white:
        return white
    depth = max(8, brightest.bit_length())
    return 2 ** (depth + depth % 2) - 1
