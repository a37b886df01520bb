"""Known shortcuts, planted into synthetic radiographs to test the audit.

A shortcut is something outside the lungs that gives the class away. The audit must detect each of
these, and nothing where none was planted.

    image = shortcuts.plant(image, label=1, shortcut="marker")

Where an image may have several findings, `FINDING` stands for class 1.
"""

import numpy as np
from PIL import Image, ImageDraw

# Shortcut → the control (trainer/analysis/controls.py) that detects it most directly.
SHORTCUTS = {
    "none": None,
    "marker": "corners",
    "border": "border",
    "contrast": "mean_and_deviation",
    "header": "header",
}

FINDING = "effusion"  # Of several findings, the one that a shortcut gives away.

_FRAME = 0.02  # Share of the side.
_CONTRAST = 0.65
_BRIGHTNESS = 45.0


def plant(image: np.ndarray, label: int, shortcut: str) -> np.ndarray:
    """Adds the shortcut to an image of class 1; class 0 stays unchanged.

    Args:
      image: [side, side] uint8.
      label: 0 or 1.
      shortcut: none; marker: a letter burnt into the lower left corner; border: a white frame, as
        on scanned films; contrast: lower contrast and more brightness all over; header: no change
        of the pixels, see `header_of`.

    Returns:
      [side, side] uint8.
    """
    if label == 0 or shortcut in ("none", "header"):
        return image
    side = len(image)
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    match shortcut:
        case "marker":
            font_size = max(8, round(0.07 * side))
            pen.text((0.06 * side, 0.87 * side), "E", fill=245, font_size=font_size)
        case "border":
            width = max(1, round(_FRAME * side))
            pen.rectangle((0, 0, side - 1, side - 1), outline=235, width=width)
        case "contrast":
            levels = np.rint(_CONTRAST * image.astype(np.float32) + _BRIGHTNESS)
            return np.clip(levels, 0, 255).astype(np.uint8)
        case _:
            raise ValueError(f"no shortcut {shortcut}; choose one of {', '.join(SHORTCUTS)}.")
    return np.asarray(canvas)


def header_of(label: int, shortcut: str, side: int) -> dict[str, int]:
    """Returns the file header recorded for a synthetic image.

    No file exists, so the header is the same for all images, unless the shortcut is planted there.

    Returns:
      width, height, channels, bit_depth and byte_size.
    """
    width = 2 * side if shortcut == "header" and label == 1 else side
    return {"width": width, "height": width, "channels": 1, "bit_depth": 8, "byte_size": side**2}
