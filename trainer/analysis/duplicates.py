"""Finds images that show the same film by their pixels alone: re-cropped, re-scaled, re-compressed, brighter, mirrored copies.

Local features (SIFT; Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94) of each image are looked up among those of all others;
images that answer each other often are matched feature by feature, and count as copies if many matches agree on one similarity
transform (RANSAC; Fischler & Bolles 1981, doi:10.1145/358669.358692). Looking up grows with n log n; only the few candidates
of each image are compared.
"""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from tqdm import tqdm

# Measured on 640 real radiographs: 39 re-cropped, re-compressed copies agree in 216 features or more; 60 copies mirrored,
# cropped to 64 % of the area, re-exposed and saved as coarse JPEG in 30 to 244 (57 of them in 47 or more); films of different
# patients in at most 35; other films of one patient in at most 55: to call those copies joins what belongs together anyway.
LEAST_INLIERS = 47

_LONG_SIDE = 512  # Pixels; enough for copies of every size, and quick.
_FEATURES = 500
_LOOKED_UP, _ASKED = (
    250,
    60,
)  # An image's strongest features that can be found, and those that are searched for.
_NEIGHBOURS, _CHECKS = 5, 64
_DISTINCT = 0.8  # Lowe's ratio: a feature that many images share says nothing.
_LEAST_VOTES, _MOST_CANDIDATES = 3, 5
_TOLERANCE = 5.0  # Pixels a match may lie off the common transform.
_THREADS = 2
_HELD = 64  # Images waiting for a thread at a time.


@dataclasses.dataclass(frozen=True, order=True)
class Pair:
    """Two images that show the same film.

    Attributes:
      first, second: their places in the order searched, first < second.
      inliers: how many local features agree on one similarity transform.
      mirrored: whether the second is a mirror image of the first.
    """

    first: int
    second: int
    inliers: int
    mirrored: bool


@dataclasses.dataclass(frozen=True)
class Features:
    """The local features of an image, the strongest first.

    Attributes:
      places: [m, 2] float32, x and y in pixels.
      descriptors: [m, 128] uint8.
    """

    places: np.ndarray
    descriptors: np.ndarray


def find(images: Iterable[np.ndarray], widths: Iterable[int], heights: Iterable[int]) -> list[Pair]:
    """Finds all pairs of near-duplicates. Deterministic; only features are kept in memory (about 70 kB an image).

    Args:
      images: n squares [side, side, 1] uint8, stretched as `radiograph.standardize` does.
      widths, heights: n numbers: the sizes of the originals in pixels, to undo the stretching.

    Returns:
      The pairs, sorted.
    """
    found = _in_threads(
        lambda one: features_of(*one),
        zip(images, widths, heights, strict=True),
        "local features",
        len(widths) if hasattr(widths, "__len__") else None,
    )
    if len(found) < 2:
        return []
    candidates = _candidates(found)

    def compare(candidate: tuple[int, int, bool]) -> Pair:
        first, second, mirrored = candidate
        return Pair(first, second, inliers(found[first], found[second], mirrored), mirrored)

    compared = _in_threads(compare, candidates, "comparing candidates", len(candidates))
    best: dict[tuple[int, int], Pair] = {}
    for pair in compared:
        known = best.get((pair.first, pair.second))
        if pair.inliers >= LEAST_INLIERS and (known is None or pair.inliers > known.inliers):
            best[pair.first, pair.second] = pair
    return sorted(best.values())


def features_of(image: np.ndarray, width: int, height: int) -> Features:
    """The strongest local features of one image, after local contrast equalisation (CLAHE; Zuiderveld 1994).

    Args:
      image: [side, side, 1] uint8.
      width, height: of the original, in pixels.
    """
    scale = _LONG_SIDE / max(width, height)
    size = max(32, round(width * scale)), max(32, round(height * scale))
    upright = cv2.resize(np.ascontiguousarray(image[..., 0]), size, interpolation=cv2.INTER_LINEAR)
    equalised = cv2.createCLAHE(2.0, (8, 8)).apply(upright)
    points, descriptors = cv2.SIFT_create(
        nfeatures=_FEATURES, contrastThreshold=0.02
    ).detectAndCompute(equalised, None)
    if not points:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    order = np.argsort([-point.response for point in points], kind="stable")
    places = np.array([points[index].pt for index in order], np.float32)
    return Features(places, descriptors[order].astype(np.uint8))


def inliers(first: Features, second: Features, mirrored: bool) -> int:
    """How many features of two images match one to one and agree on one similarity transform."""
    descriptors, places = first.descriptors, first.places
    if mirrored:
        descriptors, places = _mirrored(descriptors), places * np.array([-1.0, 1.0], np.float32)
    if min(len(descriptors), len(second.descriptors)) < 2:
        return 0
    matches = cv2.BFMatcher(cv2.NORM_L2).knnMatch(
        descriptors.astype(np.float32), second.descriptors.astype(np.float32), 2
    )
    good = [
        (one.queryIdx, one.trainIdx)
        for one, other in matches
        if one.distance < 0.75 * other.distance
    ]
    if len(good) < 4:
        return 0
    ours, theirs = (np.array(part) for part in zip(*good, strict=True))
    cv2.setRNGSeed(0)  # RANSAC draws from the thread's generator.
    _, agreed = cv2.estimateAffinePartial2D(
        places[ours],
        second.places[theirs],
        method=cv2.RANSAC,
        ransacReprojThreshold=_TOLERANCE,
        maxIters=1000,
        confidence=0.999,
    )
    return 0 if agreed is None else len(np.unique(theirs[agreed.ravel() > 0]))


def join_groups(groups: np.ndarray, pairs: Iterable[Pair]) -> np.ndarray:
    """Joins groups that hold copies of one another.

    Args:
      groups: [n] str.
      pairs: of places in `groups`.

    Returns:
      [n] str; joined groups are called after the alphabetically first of them.
    """
    names, member = np.unique(groups, return_inverse=True)
    pairs = list(pairs)
    edges = member[[pair.first for pair in pairs]], member[[pair.second for pair in pairs]]
    graph = sparse.coo_matrix((np.ones(len(pairs)), edges), shape=(len(names), len(names)))
    _, cluster = csgraph.connected_components(graph, directed=False)
    _, first = np.unique(
        cluster, return_index=True
    )  # `names` is sorted, so the first of a cluster is its first name.
    return names[first[cluster]][member]


def contact_sheet(
    images: np.ndarray, names: np.ndarray, pairs: list[Pair], path: Path, title: str, most: int = 40
) -> None:
    """Draws each pair side by side with its names and the number of features that agree.

    Args:
      images: [n, side, side, 1] uint8.
      names: [n] str.
      pairs: of places in `images`; the surest `most` are drawn, and the title says how many there are.
      path: where the PNG goes.
      title: above the figure.
    """
    from trainer.analysis import figures

    shown = sorted(pairs, key=lambda pair: -pair.inliers)[:most]
    panels, captions = [], []
    for pair in shown:
        panels += [images[pair.first], images[pair.second]]
        captions += [
            figures.short_name(str(names[pair.first])),
            f"{figures.short_name(str(names[pair.second]))}\n"
            f"{pair.inliers} features agree{', mirrored' if pair.mirrored else ''}",
        ]
    left_out = f" (the {most} surest shown)" if len(pairs) > most else ""
    figures.contact_sheet(
        np.stack(panels), captions, path, title + left_out, columns=8 if len(shown) > 3 else 2
    )


def _candidates(found: list[Features]) -> list[tuple[int, int, bool]]:
    """(first, second, mirrored) of images whose strongest features find each other, first < second, sorted."""
    looked_up = np.concatenate([one.descriptors[:_LOOKED_UP] for one in found]).astype(np.float32)
    if len(looked_up) <= _NEIGHBOURS:
        return []
    owner = np.repeat(
        np.arange(len(found)), [min(_LOOKED_UP, len(one.descriptors)) for one in found]
    )
    asked = np.concatenate([one.descriptors[:_ASKED] for one in found])
    asking = np.repeat(np.arange(len(found)), [min(_ASKED, len(one.descriptors)) for one in found])
    cv2.setRNGSeed(0)  # The trees split at random.
    index = cv2.flann_Index(looked_up, {"algorithm": 1, "trees": 4})
    candidates = set()
    for mirrored in (False, True):
        wanted = (_mirrored(asked) if mirrored else asked).astype(np.float32)
        places, distances = index.knnSearch(wanted, _NEIGHBOURS, params={"checks": _CHECKS})
        candidates |= {
            (first, second, mirrored) for first, second in _voted(owner[places], distances, asking)
        }
    return sorted(candidates)


def _voted(
    answers: np.ndarray, distances: np.ndarray, asking: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Pairs of images, from answers [q, k] (whose feature each neighbour is) and their squared distances to what was asked."""
    others = np.where(answers == asking[:, None], np.inf, distances)
    nearest = others.argmin(axis=1)
    rows = np.arange(len(asking))
    # Distinct: nearer than the farthest answer by Lowe's ratio, which is squared because distances are.
    voted = np.isfinite(others[rows, nearest]) & (
        others[rows, nearest] <= _DISTINCT**2 * distances.max(axis=1)
    )
    first = np.minimum(asking, answers[rows, nearest])[voted]
    second = np.maximum(asking, answers[rows, nearest])[voted]
    pairs, votes = np.unique(np.stack([first, second], axis=1), axis=0, return_counts=True)
    kept: dict[int, int] = {}
    for place in np.argsort(-votes, kind="stable"):
        if votes[place] < _LEAST_VOTES:
            return
        one, other = (int(value) for value in pairs[place])
        if min(kept.get(one, 0), kept.get(other, 0)) < _MOST_CANDIDATES:
            kept[one], kept[other] = kept.get(one, 0) + 1, kept.get(other, 0) + 1
            yield one, other


def _mirrored(descriptors: np.ndarray) -> np.ndarray:
    """The descriptors the same places have in the mirror image: rows of cells and directions of gradients change places."""
    cells = descriptors.reshape(-1, 4, 4, 8)[:, ::-1]
    return np.ascontiguousarray(cells[..., -np.arange(8) % 8].reshape(-1, 128))


def _in_threads(function: Callable, items: Iterable, what: str, total: int | None) -> list:
    """[function(item)] in order; OpenCV frees the interpreter, so threads share the cores. Few items are held at a time."""
    waiting: collections.deque = collections.deque()
    done = []
    with (
        concurrent.futures.ThreadPoolExecutor(_THREADS) as threads,
        tqdm(desc=what, total=total, leave=False, delay=2, disable=None) as bar,
    ):
        for item in items:
            waiting.append(threads.submit(function, item))
            if len(waiting) >= _HELD:
                done.append(waiting.popleft().result())
                bar.update()
        for last in waiting:
            done.append(last.result())
            bar.update()
    return done
