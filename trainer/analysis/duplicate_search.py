"""Near-duplicate search by pixels: re-cropped, re-scaled, re-exposed or mirrored copies of a film.

    features = extract(records.images, header["width"], header["height"])
    pairs = find_pairs(records.filenames, features)

Local features (SIFT; Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94) of each image are looked up
among those of all others. Images that answer each other often are matched feature by feature, and
count as copies if many matches agree on one similarity transform (RANSAC; Fischler & Bolles 1981,
doi:10.1145/358669.358692). The look-up grows with n log n; only a few candidates of each image are
compared.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from trainer.analysis.duplicates import Pair

# Measured on 640 real radiographs. 39 re-cropped, re-compressed copies agree in 216 features or
# more. 60 copies mirrored, cropped to 64 % of the area, re-exposed and saved as coarse JPEG agree
# in 30 to 244, 57 of them in 47 or more. Films of different patients agree in at most 35, other
# films of one patient in at most 55. To call the latter copies only merges what belongs together.
MIN_INLIERS = 47

FEATURES_VERSION = 1
"""Changes with the features of an image, which are stored."""

_LONG_SIDE = 512  # Pixels; enough for copies of every size, and quick.
_FEATURES = 500
_INDEXED = 250  # An image's strongest features that can be found.
_QUERIED = 60  # An image's strongest features that are searched for.
_NEIGHBOURS = 5
_CHECKS = 64
_LOOKUP_RATIO = 0.8  # Lowe's ratio: a feature that many images share says nothing.
_MATCH_RATIO = 0.75
_MIN_VOTES = 3
_MAX_CANDIDATES = 5
_MIN_MATCHES = 4
_TOLERANCE = 5.0  # Pixels between a match and the common transform.

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Features:
    """Local features of an image, the strongest first.

    Attributes:
      points: [m, 2] float32, x and y in pixels.
      descriptors: [m, 128] uint8.
    """

    points: np.ndarray
    descriptors: np.ndarray


def extract(
    images: Iterable[np.ndarray], widths: Iterable[int], heights: Iterable[int]
) -> list[Features]:
    """Extracts the local features of images.

    Args:
      images: n squares [side, side, 1] uint8, stretched as `radiograph.standardize` does.
      widths: n widths of the originals in pixels, to undo the stretching.
      heights: n heights of the originals in pixels.
    """
    sized_images = list(zip(images, widths, heights, strict=True))
    return _in_threads(lambda sized: features_of(*sized), sized_images, "local features")


def find_pairs(
    filenames: Sequence[str], features: Sequence[Features], searched: int = 0
) -> list[Pair]:
    """Finds all pairs of near-duplicates; deterministic.

    Args:
      filenames: n names.
      features: n, as `extract` gives them.
      searched: number of the first images among which pairs are not searched again.

    Returns:
      The pairs in the order of the images.
    """
    candidates = _candidates(features, searched) if len(features) > 1 else []

    def compare(candidate: tuple[int, int, bool]) -> Pair:
        first, second, mirrored = candidate
        return Pair(
            first=str(filenames[first]),
            second=str(filenames[second]),
            inliers=count_inliers(features[first], features[second], mirrored),
            mirrored=mirrored,
        )

    compared = _in_threads(compare, candidates, "comparing candidates")
    # An image and its mirror image may both be candidates, one after the other: the surer counts.
    pairs: dict[tuple[int, int], Pair] = {}
    for (first, second, _), pair in zip(candidates, compared, strict=True):
        other = pairs.get((first, second))
        if pair.inliers >= MIN_INLIERS and (other is None or pair.inliers > other.inliers):
            pairs[first, second] = pair
    return list(pairs.values())  # In the order of the images, as the candidates.


def features_of(
    image: np.ndarray,
    width: int,
    height: int,
) -> Features:
    """Extracts the strongest local features after contrast equalisation (CLAHE; Zuiderveld 1994).

    Args:
      image: [side, side, 1] uint8.
      width: of the original, in pixels.
      height: of the original, in pixels.
    """
    scale = _LONG_SIDE / max(width, height)
    unstretched = cv2.resize(
        np.ascontiguousarray(image[..., 0]),
        (max(32, round(width * scale)), max(32, round(height * scale))),
        interpolation=cv2.INTER_LINEAR,
    )
    equalised = cv2.createCLAHE(2.0, (8, 8)).apply(unstretched)
    sift = cv2.SIFT.create(nfeatures=_FEATURES, contrastThreshold=0.02)
    points, descriptors = sift.detectAndCompute(equalised, None)
    if not points:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    order = np.argsort([-point.response for point in points], kind="stable")
    return Features(
        points=np.array([points[index].pt for index in order], np.float32),
        descriptors=descriptors[order].astype(np.uint8),
    )


def count_inliers(
    first: Features,
    second: Features,
    mirrored: bool,
) -> int:
    """Counts features that match one to one and agree on one similarity transform.

    Args:
      first: of one image.
      second: of the other.
      mirrored: compares with the mirror image of the first.
    """
    points = first.points
    descriptors = first.descriptors
    if mirrored:
        points = points * np.array([-1.0, 1.0], np.float32)
        descriptors = _mirror(descriptors)
    if min(len(descriptors), len(second.descriptors)) < 2:
        return 0  # No second neighbour to compare with.
    nearest_two = cv2.BFMatcher(cv2.NORM_L2).knnMatch(
        descriptors.astype(np.float32), second.descriptors.astype(np.float32), 2
    )
    matches = [
        nearest
        for nearest, next_nearest in nearest_two
        if nearest.distance < _MATCH_RATIO * next_nearest.distance
    ]
    if len(matches) < _MIN_MATCHES:
        return 0
    to_index = np.array([match.trainIdx for match in matches])
    cv2.setRNGSeed(0)  # RANSAC draws from the thread's generator.
    _, agreeing = cv2.estimateAffinePartial2D(
        points[[match.queryIdx for match in matches]],
        second.points[to_index],
        method=cv2.RANSAC,
        ransacReprojThreshold=_TOLERANCE,
        maxIters=1000,
        confidence=0.999,
    )
    # Several features may match one: it counts once.
    return 0 if agreeing is None else len(np.unique(to_index[agreeing.ravel() > 0]))


def _candidates(features: Sequence[Features], searched: int) -> list[tuple[int, int, bool]]:
    """Lists images whose strongest features find each other.

    Args:
      features: of all images.
      searched: number of the first images, of which no two are listed.

    Returns:
      (first, second, mirrored), first < second, sorted.
    """
    indexed, owners = _strongest(features, _INDEXED)
    if len(indexed) <= _NEIGHBOURS:
        return []
    queries, askers = _strongest(features, _QUERIED)
    cv2.setRNGSeed(0)  # The trees split at random.
    index = cv2.flann.Index(indexed.astype(np.float32), {"algorithm": 1, "trees": 4})
    candidates = []
    for mirrored in (False, True):
        descriptors = _mirror(queries) if mirrored else queries
        neighbours, distances = index.knnSearch(
            descriptors.astype(np.float32),
            _NEIGHBOURS,
            params={"checks": _CHECKS},
        )  # [queries, neighbours] each
        pairs = _voted_pairs(owners[neighbours], distances, askers, searched)
        candidates += [(*pair, mirrored) for pair in pairs]
    return sorted(candidates)


def _strongest(features: Sequence[Features], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Joins the strongest descriptors of all images: ([m, 128], [m] the image of each)."""
    descriptors = [image.descriptors[:count] for image in features]
    owners = np.repeat(np.arange(len(features)), [len(rows) for rows in descriptors])
    return np.concatenate(descriptors), owners


def _voted_pairs(
    answers: np.ndarray,
    distances: np.ndarray,
    askers: np.ndarray,
    searched: int,
) -> Iterator[tuple[int, int]]:
    """Selects pairs of images by the votes of their features.

    Args:
      answers: [queries, k] int, the image of each neighbour.
      distances: [queries, k] float, squared distances to the query.
      askers: [queries] int, the image of each query.
      searched: number of the first images, of which no two are a pair.

    Yields:
      (first, second), first < second, those with most votes first.
    """
    foreign_distances = np.where(answers == askers[:, None], np.inf, distances)
    nearest = foreign_distances.argmin(axis=1)
    rows = np.arange(len(askers))
    nearest_distance = foreign_distances[rows, nearest]
    # Distinct: nearer than the farthest answer by Lowe's ratio, squared because distances are.
    distinct = nearest_distance <= _LOOKUP_RATIO**2 * distances.max(axis=1)
    answer = answers[rows, nearest]
    votes = np.isfinite(nearest_distance) & distinct & (np.maximum(askers, answer) >= searched)
    images = np.stack([np.minimum(askers, answer), np.maximum(askers, answer)], axis=1)[votes]
    pairs, counts = np.unique(images, axis=0, return_counts=True)
    selected = np.zeros(max(askers.max(), answers.max()) + 1, int)  # Pairs of each image so far.
    for row in np.argsort(-counts, kind="stable"):
        if counts[row] < _MIN_VOTES:
            return
        pair = pairs[row]
        if selected[pair].min() < _MAX_CANDIDATES:
            selected[pair] += 1
            yield int(pair[0]), int(pair[1])


def _mirror(descriptors: np.ndarray) -> np.ndarray:
    """Returns the descriptors of the same points in the mirror image.

    Rows of cells and directions of gradients change places.
    """
    cells = descriptors.reshape(-1, 4, 4, 8)[:, ::-1]
    return np.ascontiguousarray(cells[..., -np.arange(8) % 8].reshape(-1, 128))


def _in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    title: str,
) -> list[Result]:
    """Maps a function over items, in order, with a progress bar.

    OpenCV releases the interpreter, so threads share the cores.
    """
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        results = threads.map(function, items)
        return list(tqdm(results, title, len(items), leave=False, delay=2, disable=None))
