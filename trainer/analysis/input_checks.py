"""What the picture alone tells of itself: whether it is blank, and how its edges run, compared with what was done to it.

A network trained on radiographs alone looks for what tells its classes apart and can be blind to whatever else is wrong
with a picture; the direction of edges in each part of it is not.
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

_THUMBNAIL, _CELLS, _DIRECTIONS = 64, 4, 8
_FAINT = 4.0  # Gradients (levels a pixel, times 8) below which a cell counts as empty rather than as full of edges.
_LEAST_DEVIATION = (
    2.0  # In grey levels; radiographs of the faintest contrast have several times that.
)


def blank(image: np.ndarray) -> str:
    """Why a picture ([side, side] uint8) holds nothing to judge, in words; empty where it holds something."""
    return (
        "the picture is blank: it has hardly any contrast" if image.std() < _LEAST_DEVIATION else ""
    )


def edge_directions(images: list[np.ndarray] | np.ndarray) -> np.ndarray:
    """Histograms of signed gradient directions in 4 by 4 cells (Dalal & Triggs 2005, doi:10.1109/CVPR.2005.177).

    The sign is kept, so that a picture and its negative differ. Each cell is divided by the strength of its
    neighbourhood, so that exposure and contrast hardly count.

    Args:
      images: squares of uint8, of any side from 64 pixels, or rectangles, which are stretched.

    Returns:
      [n, 128] float32 in 0..1.
    """
    return np.stack([_histograms(thumbnail(image)) for image in images])


def thumbnail(image: np.ndarray) -> np.ndarray:
    """[height, width] uint8 → [64, 64] uint8, by averaging areas."""
    return cv2.resize(
        np.ascontiguousarray(image), (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA
    )


def altered(image: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """A radiograph ([side, side] uint8) made unfit in each of the ways of `ALTERATIONS`, in that order.

    The crop keeps 12 to 38 % of the area, somewhere. The jumble deals the four quarters out anew: every edge of a
    radiograph, none where it belongs.
    """
    return [
        255 - image,
        np.rot90(image),
        np.rot90(image, -1),
        image[::-1, ::-1],
        _crop(image, rng),
        _jumble(image, rng),
    ]


def restored(image: np.ndarray) -> dict[str, np.ndarray]:
    """What the picture would be with each alteration that can be undone, undone: alteration → [side, side] uint8."""
    undone = (255 - image, np.rot90(image, -1), np.rot90(image), image[::-1, ::-1])
    return dict(zip(ALTERATIONS[:4], undone, strict=True))


def edges_with_altered(squares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`edge_directions` of each radiograph ([n, side, side] uint8) and of it altered: [n, 1 + alterations, 128] float32."""
    bar = tqdm(squares, "edges of radiographs", unit=" images", leave=False, delay=2, disable=None)
    return np.stack([edge_directions([square, *altered(square, rng)]) for square in bar])


def discriminants(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tells radiographs from altered ones by logistic regression, one for each alteration.

    Args:
      edges: as `edges_with_altered` gives them.

    Returns:
      (weights [128, alterations], bias [alterations]), float32: edges @ weights + bias are the log odds of each alteration
      against a radiograph as it should be.
    """
    from sklearn.linear_model import LogisticRegression  # Needed to learn, not to judge.

    labels = np.tile([0, 1], len(edges))
    weights, biases = [], []
    for kind in range(1, edges.shape[1]):
        pairs = edges[:, [0, kind]].reshape(len(labels), -1).astype(np.float64)
        found = LogisticRegression(solver="newton-cholesky").fit(pairs, labels)
        weights.append(found.coef_[0])
        biases.append(found.intercept_[0])
    return np.array(weights, np.float32).T, np.array(biases, np.float32)


def _crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side, area, stretch = len(image), rng.uniform(0.12, 0.38), np.exp(rng.uniform(-0.3, 0.3))
    height = int(min(side, side * np.sqrt(area) * stretch))
    width = int(min(side, area * side * side / height))
    top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
    return image[top : top + height, left : left + width]


def _jumble(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    half = len(image) // 2
    quarters = [
        image[top : top + half, left : left + half] for top in (0, half) for left in (0, half)
    ]
    order = np.roll(np.arange(4), rng.integers(1, 4))  # No quarter stays in its place.
    first, second, third, fourth = (quarters[place] for place in order)
    return np.block([[first, second], [third, fourth]])


def _histograms(small: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0)
    strength, angle = cv2.cartToPolar(
        cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    )
    turn = angle * (_DIRECTIONS / (2 * np.pi))
    below = np.floor(turn)
    share, below = (
        turn - below,
        below.astype(np.intp) % _DIRECTIONS,
    )  # Each edge is shared by the two nearest directions.
    line = np.arange(_THUMBNAIL) * _CELLS // _THUMBNAIL
    first = (line[:, None] * _CELLS + line) * _DIRECTIONS
    places = np.concatenate([(first + below).ravel(), (first + (below + 1) % _DIRECTIONS).ravel()])
    weights = np.concatenate([(strength * (1 - share)).ravel(), (strength * share).ravel()])
    cells = np.bincount(places, weights, _CELLS**2 * _DIRECTIONS).reshape(
        _CELLS, _CELLS, _DIRECTIONS
    )
    around = 9 * cv2.blur(np.square(cells).sum(axis=2), (3, 3), borderType=cv2.BORDER_REFLECT_101)
    empty = _FAINT * (_THUMBNAIL / _CELLS) ** 2
    return (cells / np.sqrt(around + empty**2)[..., None]).ravel().astype(np.float32)
