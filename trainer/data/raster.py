"""PNG and JPEG files, read as one radiograph.

    image = raster.decode(data, name="chest.png")

Pillow decodes; OpenCV decodes 16-bit colour, which Pillow narrows to 8 bits.
"""

import hashlib
import io
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageChops

from trainer.data.pixels import (
    MAX_PIXELS,
    Header,
    Radiograph,
    RadiographError,
    check_size,
    white_level,
)

PNG_MAGIC = b"\x89PNG"
JPEG_MAGIC = b"\xff\xd8\xff"

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # By colour type.


def decode(data: bytes, name: str) -> Radiograph:
    """Decodes a PNG or a JPEG.

    Args:
      data: the file's bytes, which start with `PNG_MAGIC` or `JPEG_MAGIC`.
      name: the name in error messages.

    Raises:
      RadiographError: animated, of a rare kind or of a size outside the limits.
      Exception: damaged; each decoder has its own types.
    """
    is_png = data.startswith(PNG_MAGIC)
    format = "PNG" if is_png else "JPEG"
    image = _open(data, name, format)
    check_size(image.width, image.height, name)
    if is_png:
        if getattr(image, "n_frames", 1) > 1:
            raise RadiographError(f"{name}: is animated; give a single image.")
        _check_chunks(data)
    image.load()
    # From IHDR: Pillow reports 16-bit colour as 8 bits. It decodes no 12-bit JPEG.
    channels = _PNG_CHANNELS[data[25]] if is_png else len(image.getbands())
    bits = data[24] if is_png else 8
    header = Header(
        width=image.width,
        height=image.height,
        channels=channels,
        bit_depth=bits,
        byte_size=len(data),
        format=format,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    pixels = _decode_16_bit(data, image) if bits == 16 else _decode_8_bit(image)
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
