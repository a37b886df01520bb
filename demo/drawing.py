"""Drawing of a radiograph: its window and its lungs.

picture = outline(apply_window(film, width=200, level=120), lungs_mask)
"""

import numpy as np

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
