"""Checks of a picture by itself: contrast, and the directions of its edges.

    blank(image)                        # "" unless the picture has hardly any contrast
    edge_directions([image])            # [1, 128]: compared with those of altered radiographs

A network trained on radiographs alone learns what tells its classes apart. It can be blind to
anything else that is wrong with a picture; the directions of edges in each region are not.
"""

import cv2
import numpy as np
from tqdm import tqdm

ALTERATIONS = (
    "inverted",
    "turned to the left",
    "turned to the right",
    "upside down",
    "cropped",
    "jumbled",
)

_SIDE = 64  # Of the thumbnail, in pixels.
_CELLS = 4  # A side.
_DIRECTIONS = 8
# Gradients (levels a pixel, times 8) below which a cell counts as empty, not as full of edges.
_FAINT = 4.0
# In grey levels; radiographs of the faintest contrast have several times that.
_MIN_DEVIATION = 2.0


def blank(image: np.ndarray) -> str:
    """Returns a message if a picture ([side, side] uint8) is blank, else nothing."""
    return (
        "the picture is blank: it has hardly any contrast" if image.std() < _MIN_DEVIATION else ""
    )


def edge_directions(images: list[np.ndarray] | np.ndarray) -> np.ndarray:
    """Computes histograms of signed gradient directions in 4 × 4 cells.

    Dalal & Triggs 2005, doi:10.1109/CVPR.2005.177. The sign is kept, so that a picture and its
    negative differ. Each cell is divided by the strength of its neighbourhood, so that exposure and
    contrast hardly count.

    Args:
      images: squares of uint8, of any side from 64 pixels, or rectangles, which are stretched.

    Returns:
      [n, 128] float32 in 0..1.
    """
    return np.stack([_histograms(image) for image in images])


def altered(image: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Alters a radiograph in each of the ways of `ALTERATIONS`, in that order.

    The crop keeps 12 to 38 % of the area, at a random position. The jumble exchanges the four
    quarters: it has every edge of a radiograph, none at its place.

    Args:
      image: [side, side] uint8.
      rng: for crop and jumble.
    """
    side = len(image)
    # The crop.
    area = rng.uniform(0.12, 0.38)
    stretch = np.exp(rng.uniform(-0.3, 0.3))
    height = int(min(side, side * np.sqrt(area) * stretch))
    width = int(min(side, area * side * side / height))
    top = rng.integers(0, side - height + 1)
    left = rng.integers(0, side - width + 1)
    # The jumble.
    starts = (0, side // 2)
    quarters = [image[y:, x:][: side // 2, : side // 2] for y in starts for x in starts]
    order = np.roll(np.arange(4), rng.integers(1, 4))  # No quarter stays at its place.
    first, second, third, fourth = (quarters[index] for index in order)
    return [
        255 - image,
        np.rot90(image),
        np.rot90(image, -1),
        image[::-1, ::-1],
        image[top : top + height, left : left + width],
        np.block([[first, second], [third, fourth]]),
    ]


def restored(image: np.ndarray) -> dict[str, np.ndarray]:
    """Undoes each alteration that can be undone: alteration → [side, side] uint8."""
    undone = (255 - image, np.rot90(image, -1), np.rot90(image), image[::-1, ::-1])
    return dict(zip(ALTERATIONS[:4], undone, strict=True))


def edges_with_altered(squares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Computes `edge_directions` of radiographs and of their alterations.

    Args:
      squares: [n, side, side] uint8, radiographs.
      rng: for the alterations.

    Returns:
      [n, 1 + alterations, 128] float32, the unaltered radiograph first.
    """
    bar = tqdm(squares, "edges of radiographs", unit=" images", leave=False, delay=2, disable=None)
    return np.stack([edge_directions([square, *altered(square, rng)]) for square in bar])


def discriminants(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits one logistic regression for each alteration, against unaltered radiographs.

    Args:
      edges: as `edges_with_altered` returns them.

    Returns:
      (weights [128, alterations], bias [alterations]), float32: edges @ weights + bias are the log
      odds of each alteration.
    """
    from sklearn.linear_model import LogisticRegression  # Needed to fit, not to judge.

    labels = np.tile([0, 1], len(edges))
    models = []
    for alteration in range(1, edges.shape[1]):
        pairs = edges[:, [0, alteration]].reshape(len(labels), -1).astype(np.float64)
        models.append(LogisticRegression(solver="newton-cholesky").fit(pairs, labels))
    return (
        np.array([model.coef_[0] for model in models], np.float32).T,
        np.array([model.intercept_[0] for model in models], np.float32),
    )


def _histograms(image: np.ndarray) -> np.ndarray:
    """Computes the histograms of one picture, [128] float32."""
    thumbnail = cv2.resize(
        np.ascontiguousarray(image),
        (_SIDE, _SIDE),
        interpolation=cv2.INTER_AREA,
    )
    smooth = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), 1.0)
    strength, angle = cv2.cartToPolar(
        cv2.Sobel(smooth, cv2.CV_32F, 1, 0),
        cv2.Sobel(smooth, cv2.CV_32F, 0, 1),
    )  # [64, 64] each
    # Each edge is shared by the two nearest directions.
    share, lower = np.modf(angle * (_DIRECTIONS / (2 * np.pi)))
    lower = lower.astype(np.intp) % _DIRECTIONS
    # First bin of the cell of each pixel.
    cell = np.arange(_SIDE) * _CELLS // _SIDE
    first = (cell[:, None] * _CELLS + cell) * _DIRECTIONS
    bins = np.stack([first + lower, first + (lower + 1) % _DIRECTIONS])  # [2, 64, 64]
    weights = np.stack([strength * (1 - share), strength * share])
    counts = np.bincount(bins.ravel(), weights.ravel(), _CELLS**2 * _DIRECTIONS)
    cells = counts.reshape(_CELLS, _CELLS, _DIRECTIONS)
    around = 9 * cv2.blur(
        np.square(cells).sum(axis=2),
        (3, 3),
        borderType=cv2.BORDER_REFLECT_101,
    )  # [4, 4]
    empty = _FAINT * (_SIDE / _CELLS) ** 2
    return (cells / np.sqrt(around + empty**2)[..., None]).ravel().astype(np.float32)
