"""Drawing of a radiograph: its window, its evidence, its lungs.

picture = overlay(apply_window(film, width=200, level=120), evidence, opacity=0.6)
"""

import numpy as np
from matplotlib import colormaps
from PIL import Image

_OUTLINE = (86, 180, 233)  # Sky blue: seen by colour-blind eyes, and in no radiograph.
_MARGIN = 0.03  # Around the lungs, as a share of the longer side.


def apply_window(film: np.ndarray, width: float, level: float) -> np.ndarray:
    """Stretches the grey levels of a window to the full range.

    Args:
      film: [height, width] uint8.
      width: grey levels that fill the range 0..255.
      level: the middle of the window.

    Returns:
      [height, width] uint8.
    """
    above_black = film.astype(np.float32) - (level - width / 2)
    return np.clip(above_black * (255.0 / max(width, 1.0)), 0, 255).astype(np.uint8)


def overlay(
    film: np.ndarray, evidence: np.ndarray, opacity: float, full: float = 0.0
) -> np.ndarray:
    """Draws the evidence over the radiograph in a palette for colour-blind eyes.

    Args:
      film: [height, width] uint8.
      evidence: [height, width] float32, 0 or more.
      opacity: of the strongest evidence, in 0..1.
      full: value of the strongest colour; evidence whose maximum is higher is scaled to that.

    Returns:
      [height, width, 3] uint8.
    """
    # A map without evidence must not divide by 0.
    strength = evidence / (max(evidence.max(), full) or 1.0)
    colours = colormaps["plasma"](strength)[..., :3] * 255.0  # [height, width, 3]
    alpha = (opacity * strength)[..., None]  # [height, width, 1]
    return np.rint(film[..., None] * (1.0 - alpha) + colours * alpha).astype(np.uint8)


def outline(picture: np.ndarray, lungs_mask: np.ndarray) -> np.ndarray:
    """Draws the outline of the lungs.

    Args:
      picture: [height, width, 3] uint8.
      lungs_mask: [height, width] bool.

    Returns:
      [height, width, 3] uint8.
    """
    import cv2  # Imported lazily, as in trainer.data.

    contours, _ = cv2.findContours(
        lungs_mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return cv2.drawContours(picture.copy(), contours, -1, _OUTLINE, 2)


def cut(picture: np.ndarray, lungs_mask: np.ndarray) -> np.ndarray:
    """Cuts a picture at the box around the lungs, with a margin.

    Args:
      picture: [height, width, 3] uint8.
      lungs_mask: [height, width] bool.
    """
    rows, columns = (np.flatnonzero(lungs_mask.any(axis=axis)) for axis in (1, 0))
    margin = round(_MARGIN * max(lungs_mask.shape))
    top, left = (max(indices[0] - margin, 0) for indices in (rows, columns))
    return picture[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]


def onto_film(
    evidence: np.ndarray, film: np.ndarray, box: tuple[float, float, float, float]
) -> np.ndarray:
    """Resizes the map of a square to its box on the film.

    Args:
      evidence: [side, side] float32.
      film: [height, width].
      box: of the square, as shares of the film.

    Returns:
      [height, width] float32, 0 outside the box.
    """
    height, width = film.shape
    x0, y0, x1, y1 = np.rint(np.array(box) * (width, height, width, height)).astype(int)
    stretched = Image.fromarray(evidence).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
    placed = np.zeros(film.shape, np.float32)
    placed[y0:y1, x0:x1] = np.asarray(stretched)
    return placed
