"""PNG, JPEG, TIFF, BMP, WebP and JPEG 2000 files, read as one radiograph.

    format = raster.recognize(data)
    image = raster.decode(data, name="chest.png", format=format)

Pillow decodes; OpenCV decodes 16-bit colour, which Pillow narrows to 8 bits.
"""

import hashlib
import io
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageChops, PngImagePlugin, TiffImagePlugin

from trainer.data.pixels import (
    MAX_PIXELS,
    Header,
    Radiograph,
    RadiographError,
    check_size,
    white_level,
)

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".j2k", ".jpf", ".jpx"}
)

# First bytes → Pillow's name of the format.
_MAGIC = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),  # Its codestream alone.
)
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # Bytes, of all versions.
# Tags of TIFF 6.0.
_WIDTH = 256
_HEIGHT = 257
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0

# Chunks of a PNG that may be of any size and say nothing of the pixels.
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_ORIENTED = (b"XML:com.adobe.xmp\0", b"Raw profile type ")  # Texts that may hold the orientation.
# A megabyte otherwise, which XMP with previews exceeds; that of all chunks together stays.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # By colour type.


def recognize(data: bytes) -> str | None:
    """Returns the format that the first bytes stand for; None for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    # Text may start with these two letters; the size of the next header may not be any.
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return next((format for magic, format in _MAGIC if data.startswith(magic)), None)


def decode(data: bytes, name: str, format: str) -> Radiograph:
    """Decodes a still picture.

    Args:
      data: the file's bytes.
      name: the name in error messages.
      format: from `recognize`.

    Raises:
      RadiographError: of several images, of a rare kind or of a size outside the limits.
      Exception: damaged; each decoder has its own types.
    """
    byte_size = len(data)
    sha256 = hashlib.sha256(data).hexdigest()
    if format == "PNG":
        data = _remove_texts(data)
    image = _open(data, name, format)
    width, height = _stored_size(image)
    check_size(width, height, name)
    # A JPEG may hold previews of itself; the first picture is the largest.
    if format != "JPEG" and getattr(image, "n_frames", 1) > 1:
        kind = "has several pages" if format == "TIFF" else "is animated"
        raise RadiographError(f"{name}: {kind}; give a single image.")
    if format == "PNG":
        _check_chunks(data)
    if format == "JPEG2000":
        _check_codestream(data)
    channels, bits = _channels_and_bits(data, image)
    if image.mode == "F" or (image.mode.startswith("I") and bits > 16):
        raise RadiographError(
            f"{name}: has {bits} bits a value, which no detector has; save it with 8 or 16 bits."
        )
    # Read before the pixels: loading applies the orientation of a TIFF and drops its tags.
    inverted = format == "TIFF" and _is_inverted(image)
    image.load()
    header = Header(
        width=width,
        height=height,
        channels=channels,
        bit_depth=bits,
        byte_size=byte_size,
        format=format,
        sha256=sha256,
    )
    pixels = _decode_16_bit(data, image) if bits > 8 else _decode_8_bit(image)
    if inverted:
        pixels = white_level(pixels, max(8, bits)) - pixels
    # Rotated last: sizes in the header are those of the stored image.
    pixels = np.ascontiguousarray(_rotate_upright(pixels, image))
    return Radiograph(pixels, header, white_level(pixels, max(8, bits)))


def _open(data: bytes, name: str, format: str) -> Image.Image:
    # Reads the file's head, without decoding.
    try:
        return Image.open(io.BytesIO(data), formats=(format,))
    except Image.DecompressionBombError:
        raise RadiographError(
            f"{name}: is over {MAX_PIXELS // 10**6} megapixels; scale it down first."
        ) from None
    except Exception as error:
        raise RadiographError(
            f"{name}: has a damaged head or is of a rare kind ({type(error).__name__}); get the "
            "file again, or save it as a plain PNG."
        ) from None


def _stored_size(image: Image.Image) -> tuple[int, int]:
    # Width and height; Pillow's of a TIFF are those after rotation.
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.size
    return image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]


def _channels_and_bits(data: bytes, image: Image.Image) -> tuple[int, int]:
    # Of the file: Pillow reports 16-bit colour as 8 bits. It decodes no 12-bit JPEG.
    if image.format == "PNG":
        return _PNG_CHANNELS[data[25]], data[24]  # From IHDR.
    bits = 16 if image.mode.startswith("I") else 8
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    return len(image.getbands()), bits


def _is_inverted(image: Image.Image) -> bool:
    # Pillow inverts pictures of 8 bits and fewer, and not those of 16.
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return image.mode.startswith("I") and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _remove_texts(data: bytes) -> bytes:
    """Removes texts and colour profile of a PNG: Pillow limits their size."""
    view = memoryview(data)
    start = 8  # After the signature.
    kept = [view[:start]]
    while start < len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        kind = data[start + 4 : start + 8]
        end = start + 12 + length
        oriented = data.startswith(_ORIENTED, start + 8)
        if kind not in _PNG_TEXTS or (oriented and length < PngImagePlugin.MAX_TEXT_MEMORY):
            kept.append(view[start:end])
        start = end
    return b"".join(kept)


def _check_chunks(data: bytes) -> None:
    """Checks that a PNG's critical chunks are present and intact.

    Pillow accepts a file without IEND and ignores the checksum of the pixels.

    Raises:
      ValueError: a chunk is cut off or its checksum differs.
    """
    view = memoryview(data)
    start = 8  # After the signature.
    kind = b""
    while kind != b"IEND":
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        kind = bytes(view[start + 4 : start + 8])
        if end > len(view):
            raise ValueError("cut off")
        checksum = int.from_bytes(view[end - 4 : end], "big")
        # The first letter of a critical chunk is upper-case.
        if not kind[0] & 32 and zlib.crc32(view[start + 4 : end - 4]) != checksum:
            raise ValueError("damaged")
        start = end


def _check_codestream(data: bytes) -> None:
    """Checks that a JPEG 2000 is not cut off.

    Its codestream ends with a marker of its own (ISO 15444-1, annexes A and I). OpenJPEG decodes
    what there is of a file that is cut off.

    Raises:
      ValueError: it has none.
    """
    start = 0
    end = len(data)
    while data[start : start + 4] != b"\xff\x4f\xff\x51":
        length = int.from_bytes(data[start : start + 4], "big")
        header = 16 if length == 1 else 8
        if length == 1:  # The length follows in 8 bytes.
            length = int.from_bytes(data[start + 8 : start + 16], "big")
        length = length or len(data) - start  # 0: to the end of the file.
        if start + max(length, 8) > len(data):
            raise ValueError("cut off")
        if data[start + 4 : start + 8] == b"jp2c":
            end = start + length
            length = header
        start += max(length, 8)
    if not data[start:end].rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ValueError("cut off")


def _decode_8_bit(image: Image.Image) -> np.ndarray:
    if image.mode == "CMYK":
        # Pillow assumes Adobe's inverted CMYK; JPEGs without Adobe's marker are not inverted.
        if "adobe" not in image.info:
            image = ImageChops.invert(image)
        image = image.convert("RGB")
    # A palette or a transparent grey level becomes an alpha channel.
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        opaque = image.convert("RGB" if image.mode == "RGBA" else "L")
        black = Image.new(opaque.mode, image.size)
        image = Image.composite(opaque, black, image.getchannel("A"))
    return np.asarray(image.convert("L"))  # [height, width]


def _decode_16_bit(data: bytes, image: Image.Image) -> np.ndarray:
    # Pillow keeps 16-bit grey but narrows 16-bit colour and grey with alpha; OpenCV keeps them.
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.uint16)
        transparent = image.info.get("transparency")
        if transparent is None:
            return pixels
        return np.where(pixels == transparent, np.uint16(0), pixels)
    import cv2  # Imported lazily: rarely needed.

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("OpenCV cannot decode the pixels")
    # [height, width, 3 or 4] uint16: blue first, alpha last, grey with alpha as equal colours.
    luma = values[..., :3] @ np.array([0.114, 0.587, 0.299])  # [height, width] float64
    if values.shape[2] == 4:
        luma = luma * (values[..., 3] / 65535.0)  # On black.
    return np.rint(luma).astype(np.uint16)


def _rotate_upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    # 1 to 8; https://exiftool.org/TagNames/EXIF.html.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Broken metadata does not make the picture unreadable.
        return pixels
    if orientation in (5, 6, 7, 8):
        pixels = pixels.T  # [width, height]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
