"""What building a set costs at the least: decoding, resizing and encoding with Pillow alone."""

import io
from collections.abc import Sequence

from PIL import Image

_PNG_LEVEL = 1  # The builder's.


def squares(paths: Sequence[str], side: int) -> None:
    """Decodes each file, makes it a grey square and encodes it as PNG; what comes out is thrown away."""
    for path in paths:
        with Image.open(path) as image:
            square = image.convert("L").resize((side, side), Image.Resampling.BILINEAR)
        square.save(io.BytesIO(), "PNG", compress_level=_PNG_LEVEL)
