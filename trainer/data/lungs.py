"""Approximate lung fields of frontal chest radiographs, and images with or without them.

    masks = lungs.mask(images)  # [n, side, side] bool
    controls = lungs.without_lungs(images, masks)

A template, not a segmentation. Two lung-shaped outlines are fitted to the profiles of the chest's
brightness. So the mask follows the size and position of the chest, and opacities within the lungs
hardly change it. No learnt weights. Against the truth of 256 phantoms its Dice coefficient is 0.82
(5th percentile 0.78). Of 50 real radiographs, 25 of each class of the sample, 36 masks are good by
eye, 7 usable and 7 wrong (cropped, collimated, rotated or opaque chests).
"""

import cv2
import numpy as np
from tqdm import tqdm

GREY = 96  # The level that replaces removed pixels, the same in all images.
_SIDE = 128
_DILATION = 0.02  # Share of the side by which the lungs are widened before removal.

# Edges of the chest as shares of the image: (usual, minimum, maximum).
_TOP = (0.13, 0.05, 0.30)
_BOTTOM = (0.76, 0.58, 0.92)
_LATERAL = (0.12, 0.03, 0.27)  # From the image's left and right.
_GAP = 0.055  # Half the width of the mediastinum, as a share of the side.
_MIN_RISE = 12.0  # Grey levels.
_TRUST = 0.75  # Weight of a measured edge against the usual one.
_BEYOND = 0.04  # Lungs extend beyond the half-way points, at the base more than at the apex.
_SYMMETRY = 0.5  # Weight of the mean of both lungs in each.

# The outline of one lung in its box: x from the mid-line (0) to the side (1), y from apex (0) to
# base (1).
_OUTLINE = np.array(
    [
        (0.30, 0.00),
        (0.52, 0.02),
        (0.72, 0.12),
        (0.86, 0.28),
        (0.95, 0.50),
        (1.00, 0.74),
        (1.00, 0.93),
        (0.96, 1.00),
        (0.80, 0.90),
        (0.58, 0.83),
        (0.34, 0.83),
        (0.16, 0.88),
        (0.10, 0.70),
        (0.16, 0.52),
        (0.10, 0.34),
        (0.12, 0.14),
    ]
)


def mask(images: np.ndarray) -> np.ndarray:
    """Estimates lung fields.

    Args:
      images: [n, side, side, 1] uint8, frontal radiographs, bone bright.

    Returns:
      [n, side, side] bool.
    """
    masks = np.zeros(images.shape[:3], bool)
    progress = tqdm(images, "lung fields", unit=" images", leave=False, delay=2, disable=None)
    for index, image in enumerate(progress):
        masks[index] = _mask(image[..., 0])
    return masks


def without_lungs(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Replaces the lung fields, slightly widened, by one grey.

    The outline stays visible, so the size and shape of the chest still show; the inside does not.

    Args:
      images: [n, side, side, 1] uint8.
      masks: [n, side, side] bool.

    Returns:
      [n, side, side, 1] uint8.
    """
    if not len(images):
        return images
    width = 2 * round(_DILATION * images.shape[1]) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    widened = [cv2.dilate(lungs.astype(np.uint8), kernel) > 0 for lungs in masks]
    return np.where(np.stack(widened)[..., None], np.uint8(GREY), images)


def only_lungs(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Replaces all but the lung fields by one grey.

    Args:
      images: [n, side, side, 1] uint8.
      masks: [n, side, side] bool.

    Returns:
      [n, side, side, 1] uint8.
    """
    return np.where(masks[..., None], images, np.uint8(GREY))


def _mask(image: np.ndarray) -> np.ndarray:
    side = len(image)
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    # Local contrast: the thresholds below must fit any exposure.
    equalized = cv2.createCLAHE(2.0, (4, 4)).apply(small)
    smooth = cv2.GaussianBlur(equalized, (0, 0), 2.0).astype(np.float32)
    middle = _mid_line(smooth)
    # Each half from the mid-line outwards.
    halves = {-1: smooth[:, :middle][:, ::-1], 1: smooth[:, middle:]}
    boxes = np.array([_box(half) for half in halves.values()])  # [2, 3]
    # Each lung corrects the other, for example where one is opaque.
    boxes = _SYMMETRY * boxes.mean(axis=0) + (1.0 - _SYMMETRY) * boxes
    canvas = np.zeros((side, side), np.uint8)
    for outwards, (top, bottom, lateral) in zip(halves, boxes, strict=True):
        width = max(lateral - _GAP, 0.1)
        x = middle / _SIDE + (_GAP + _OUTLINE[:, 0] * width) * outwards
        y = top + _OUTLINE[:, 1] * (bottom - top)
        points = np.stack([x, y], axis=1) * side
        cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
    return canvas > 0


def _mid_line(smooth: np.ndarray) -> int:
    # There the spine is brightest within the middle third, and both sides are most alike.
    profile = smooth[_SIDE // 5 : 3 * _SIDE // 4].mean(axis=0)
    columns = np.arange(int(0.38 * _SIDE), int(0.62 * _SIDE))
    reach = int(0.3 * _SIDE)
    asymmetry = [
        np.abs(profile[column : column + reach] - profile[column - reach : column][::-1]).mean()
        for column in columns
    ]
    drift = np.abs(columns - _SIDE / 2) / _SIDE
    relative = np.array(asymmetry) / (profile.std() + 1e-6)
    return int(columns[np.argmin(relative - profile[columns] / 128.0 + 1.5 * drift)])


def _box(half: np.ndarray) -> tuple[float, float, float]:
    """Returns (top, bottom, lateral edge) of one lung, as shares of the side."""
    reach = half.shape[1]
    gap = round(_GAP * _SIDE)
    low = round(0.25 * _SIDE)
    high = round(0.60 * _SIDE)
    across = half[low:high].mean(axis=0)
    # The darkest column between mediastinum and chest wall lies in the lung.
    darkest = gap + int(across[gap : max(round(0.8 * reach), gap + 1)].argmin())
    # From the mid-line, so the minimum share from the image's border is the maximum.
    usual, high_edge, low_edge = (reach / _SIDE - share for share in _LATERAL)
    lateral = _find_edge(across, darkest, 1, (usual, low_edge, high_edge))
    # The profile down the lung leaves out its inner and outer edge.
    start = round(0.35 * lateral * _SIDE)
    stop = max(round(0.85 * lateral * _SIDE), start + 1)
    down = half[:, start:stop].mean(axis=1)
    centre = low + int(down[low:high].argmin())
    return (
        _find_edge(down, centre, -1, _TOP) - _BEYOND / 2,
        _find_edge(down, centre, 1, _BOTTOM) + _BEYOND,
        lateral,
    )


def _find_edge(
    profile: np.ndarray, trough: int, step: int, prior: tuple[float, float, float]
) -> float:
    """Returns the edge beside a trough, as a share of the side.

    It is the last position before the peak at which the profile is below half-way up. The last and
    not the first, so that an opacity on the way does not count as the edge.

    Args:
      profile: brightness, [n] float32.
      trough: the index of the trough.
      step: 1 or -1, the direction of the search.
      prior: (usual, minimum, maximum); usual where the profile rises by less than `_MIN_RISE`.
    """
    usual, low, high = prior
    followed = profile[trough::step]
    peak = int(followed.argmax())
    if followed[peak] - followed[0] < _MIN_RISE:
        return usual
    below = np.flatnonzero(followed[: peak + 1] < (followed[0] + followed[peak]) / 2)
    edge = (trough + step * int(below[-1])) / _SIDE
    return float(np.clip(_TRUST * edge + (1.0 - _TRUST) * usual, low, high))
