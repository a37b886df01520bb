"""Encoded pictures for tests, also in formats that Pillow cannot write.

data = encode(gradient(), "JPEG", quality=100)
message = error_message(data[:100], name="chest.png")
"""

import io
import os
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from trainer.data import radiograph
from trainer.data.radiograph import RadiographError

FEW = settings(deadline=None, max_examples=20, derandomize=True)
SHAPES = st.tuples(st.integers(32, 70), st.integers(32, 70))


def gradient(height: int = 90, width: int = 70) -> np.ndarray:
    """Returns [height, width] uint8, without symmetry."""
    # Values wrap at 256, so edges occur too.
    return np.add.outer(np.arange(height), np.arange(width) * 2).astype(np.uint8)


def encode(image: np.ndarray | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Encodes a picture with Pillow."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def encode_deep_png(values: np.ndarray) -> bytes:
    """Encodes [height, width, channels] uint16 in the order red, green, blue, alpha."""
    order = [2, 1, 0, 3][: values.shape[2]]  # OpenCV expects blue first.
    return cv2.imencode(".png", np.ascontiguousarray(values[..., order]))[1].tobytes()


def encode_grey_alpha_png(values: np.ndarray) -> bytes:
    """Encodes [height, width, 2] uint16; neither Pillow nor OpenCV writes these."""
    height, width, _ = values.shape
    # Filter type 0 precedes each row.
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    # 16 bits, colour type 4: grey with alpha.
    header = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    chunks = [
        png_chunk(b"IHDR", header),
        png_chunk(b"IDAT", zlib.compress(rows)),
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Builds one chunk of a PNG with its length and checksum."""
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def repair_checksums(png: bytes) -> bytes:
    """Corrects the checksums of all chunks, so that damage reaches the decoder."""
    start = 8
    # The signature has no checksum.
    pieces = [png[:8]]
    while png.startswith(b"\x89PNG") and start + 12 <= len(png):
        length = int.from_bytes(png[start : start + 4], "big")
        body = png[start + 8 : start + 8 + length]
        pieces.append(png_chunk(png[start + 4 : start + 8], body))
        start += 12 + length
    return b"".join(pieces) if len(pieces) > 1 else png


def check_damaged(data: bytes) -> None:
    """Checks that damage gives an image or one line, never another exception."""
    try:
        image = radiograph.read(data)
    except RadiographError as error:
        message = str(error)
        assert "\n" not in message
        return
    assert radiograph.standardize(image).shape == (500, 500)


def error_message(source: bytes | str | os.PathLike, name: str | None = None) -> str:
    """Returns the one-line message with which the reader rejects a file."""
    with pytest.raises(RadiographError) as caught:
        radiograph.read(source, name=name)
    message = str(caught.value)
    assert "\n" not in message
    return message
