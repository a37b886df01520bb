"""Plants a known shortcut into synthetic radiographs: something outside the lungs that gives the class away. A test bench.

An audit worth its name must find each of these, and nothing where nothing was planted.
"""

import numpy as np
from PIL import Image, ImageDraw

# What is planted, and the control (trainer/evidence/controls.py) that sees it and least else.
SHORTCUTS = {
    "none": None,
    "marker": "corners",
    "border": "border",
    "contrast": "mean_and_deviation",
    "header": "header",
}

_FRAME = 0.02  # Share of the side.
_CONTRAST, _BRIGHTNESS = 0.65, 45.0


def plant(image: np.ndarray, label: int, shortcut: str) -> np.ndarray:
    """Adds the shortcut to images of class 1; those of class 0 stay as they are. Every image of class 1 gets it.

    Args:
      image: [side, side] uint8.
      label: 0 or 1.
      shortcut: none; marker: a letter burnt into the lower left corner; border: a white frame, as scanned films have;
        contrast: less contrast and more brightness all over; header: nothing in the pixels, see `header_of`.

    Returns:
      [side, side] uint8.
    """
    if label == 0 or shortcut in ("none", "header"):
        return image
    return {"marker": _marked, "border": _framed, "contrast": _flattened}[shortcut](image)


def header_of(label: int, shortcut: str, side: int) -> dict[str, int]:
    """What the file's header is said to be: width, height, channels, bit_depth, byte_size.

    There is no file, so it is the same for all images and tells nothing, unless the shortcut is planted there.
    """
    width = 2 * side if shortcut == "header" and label == 1 else side
    return {"width": width, "height": width, "channels": 1, "bit_depth": 8, "byte_size": side**2}


def _marked(image: np.ndarray) -> np.ndarray:
    drawn, side = Image.fromarray(image), len(image)
    ImageDraw.Draw(drawn).text(
        (0.06 * side, 0.87 * side), "E", fill=245, font_size=max(8, round(0.07 * side))
    )
    return np.asarray(drawn)


def _framed(image: np.ndarray) -> np.ndarray:
    width = max(1, round(_FRAME * len(image)))
    framed = np.full_like(image, 235)
    framed[width:-width, width:-width] = image[width:-width, width:-width]
    return framed


def _flattened(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(_CONTRAST * image.astype(np.float32) + _BRIGHTNESS), 0, 255).astype(
        np.uint8
    )
