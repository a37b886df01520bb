"""The square that the network sees: of the whole radiograph, or cut at the lungs.

    square = views.make_square(radiograph.read("chest.dcm"), 500, "lungs")
    square.pixels  # [500, 500] uint8

Builders, predict and the demo call it, so training and serving see the same pixels.
"""

import dataclasses

import numpy as np

from trainer.data import radiograph
from trainer.data.radiograph import Radiograph

WHOLE = "whole"
LUNGS = "lungs"
NAMES = (WHOLE, LUNGS)
WHOLE_SIDE = 256  # Pixels, of whole radiographs beside the lungs.
NO_LUNGS = "no lungs were found: it may show no chest, or not from the front"

_ALL = (0.0, 0.0, 1.0, 1.0)
_MARGIN = 0.03  # Around the lungs, as a share of the radiograph's width and height.


@dataclasses.dataclass(frozen=True)
class Square:
    """A square of a radiograph.

    Attributes:
      pixels: [side, side] uint8.
      box: what it shows, (x0, y0, x1, y1) as shares of the radiograph.
      has_lungs: False where the view is of the lungs, and none were found; then it shows the
        whole radiograph.
      lungs: [side, side] bool, the lungs in the square, none where they were not found; None where
        the view is of the whole radiograph.
    """

    pixels: np.ndarray
    box: tuple[float, float, float, float]
    has_lungs: bool
    lungs: np.ndarray | None = None


def make_square(image: Radiograph | np.ndarray, side: int, view: str) -> Square:
    """Makes the square of a view.

    A view of the lungs is cut from the radiograph at its full resolution.

    Args:
      image: the result of `radiograph.read`, or its pixels.
      side: side length of the square, in pixels.
      view: whole or lungs.
    """
    if view == WHOLE:
        return Square(radiograph.standardize(image, side), _ALL, True)
    from trainer.data import lungs  # Imported lazily: not every view needs it.

    fields = lungs.find(radiograph.standardize(image)[None, ..., None])
    if not fields.certain[0]:
        nothing = np.zeros((side, side), bool)
        return Square(radiograph.standardize(image, side), _ALL, False, nothing)
    box = _around(fields.boxes[0])
    mask = radiograph.standardize(fields.masks[0] * np.uint8(255), side, box) > 127
    return Square(radiograph.standardize(image, side, box), box, True, mask)


def shows_lungs(image: Radiograph | np.ndarray) -> bool:
    """Tells whether lungs are found: False where it shows no chest, or not from the front.

    Args:
      image: the result of `radiograph.read`, or its pixels.
    """
    from trainer.data import lungs

    return bool(lungs.find(radiograph.standardize(image)[None, ..., None]).certain[0])


def _around(boxes: np.ndarray) -> tuple[float, float, float, float]:
    # The box around both lungs, with a margin; boxes is [2, 4].
    left, right = boxes.astype(float)
    corners = np.concatenate(
        [np.minimum(left, right)[:2] - _MARGIN, np.maximum(left, right)[2:] + _MARGIN]
    )
    x0, y0, x1, y1 = np.clip(corners, 0.0, 1.0).tolist()
    return x0, y0, x1, y1


def describe(view: str) -> dict[str, object]:
    """Returns what a model records of its view: its name, and the segmenter's version."""
    from trainer.data import lungs

    return {"name": view, "segmenter": lungs.VERSION if view == LUNGS else None}
