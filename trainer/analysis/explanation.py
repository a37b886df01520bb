"""Measures of evidence maps: against lung fields, lesions, and maps of an untrained network.

    lung_share(maps, lung_masks, groups)    # 1 for a uniform map

Maps come from the exported network: [n, side, side] float, 0 or more, the evidence for a class at
each place of the image.
"""

import cv2
import numpy as np
from scipy import stats

from trainer.analysis import intervals
from trainer.analysis.intervals import Estimate

# From this rank correlation on, maps of shuffled weights count as like the true ones.
SAME = 0.5
_COMPARED_SIDE = 50  # Maps are shrunk to this side, in pixels, before their ranks are compared.


def lung_share(
    maps: np.ndarray,
    masks: np.ndarray,
    groups: np.ndarray,
) -> Estimate:
    """Estimates the mean of `lung_ratios` over images.

    Images with an empty map or no lung field are left out.

    Args:
      maps: [n, h, w] float, 0 or more.
      masks: [n, side, side] bool, the lung fields.
      groups: [n] str.
    """
    ratios = lung_ratios(maps, masks)
    valid = np.isfinite(ratios)
    if not valid.any():
        return intervals.missing("every map is empty", groups)
    return intervals.mean(ratios[valid], groups[valid])


def lung_ratios(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Divides the share of mass in the lungs by their share of area.

    Args:
      maps: [n, h, w] float, 0 or more.
      masks: [n, side, side] bool, the lung fields.

    Returns:
      [n] float; 1 for a uniform map, NaN where the map is empty or there is no lung field.
    """
    ratios = np.full(len(maps), np.nan)
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        inside = _resized(mask, values.shape)  # [h, w]
        mass = values.sum(dtype=np.float64)
        if mass > 0 and inside.any():
            ratios[index] = values[inside].sum(dtype=np.float64) / mass / inside.mean()
    return ratios


def pointing_game(
    maps: np.ndarray,
    lesions: np.ndarray,
    groups: np.ndarray,
    tolerance: int = 15,
) -> dict[str, Estimate]:
    """Estimates the share of maps whose peak lies in a lesion.

    Zhang 2018, doi:10.1007/s11263-017-1059-x.

    Args:
      maps: [n, side, side] float, 0 or more.
      lesions: [n, side, side] bool.
      groups: [n] str.
      tolerance: distance from a lesion that still counts as a hit, in pixels of the maps.

    Returns:
      hits, and chance: the share of the image that would count as a hit, the mean over images.
      Empty maps miss; images without a lesion are left out.
    """
    size = 2 * tolerance + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    with_lesion = lesions.any(axis=(1, 2))  # [n]
    hits = []
    areas = []
    for values, lesion in zip(maps[with_lesion], lesions[with_lesion], strict=True):
        target = cv2.dilate(_resized(lesion, values.shape).astype(np.uint8), kernel) > 0
        # The peak of an empty map is no hit.
        hits.append(bool(values.max() > 0 and target.flat[values.argmax()]))
        # A peak at a random place would hit as often.
        areas.append(float(target.mean()))
    return {
        "hits": intervals.proportion(np.array(hits, bool), groups[with_lesion]),
        "chance": intervals.mean(np.array(areas), groups[with_lesion]),
    }


def randomisation_similarity(
    maps: np.ndarray,
    others: np.ndarray,
    groups: np.ndarray,
) -> Estimate:
    """Estimates the rank correlation of maps with those of shuffled weights.

    Adebayo 2018, arXiv:1810.03292. Near 0 the maps show what the network learnt; near 1 they would
    look the same had it learnt nothing.

    Args:
      maps: [n, h, w] float.
      others: [n, h, w] float, of the network with shuffled weights.
      groups: [n] str.

    Returns:
      the mean over images of Spearman's correlation, in -1..1; a constant map counts as 0.
    """
    if not len(maps):
        return intervals.missing("no image", groups)
    correlations = np.zeros(len(maps))
    for index, pair in enumerate(zip(maps, others, strict=True)):
        values, other = (
            cv2.resize(
                each.astype(np.float32),
                (_COMPARED_SIDE, _COMPARED_SIDE),
                interpolation=cv2.INTER_AREA,
            ).ravel()
            for each in pair
        )
        # Without ranks there is no correlation.
        if np.ptp(values) != 0 and np.ptp(other) != 0:
            correlations[index] = stats.spearmanr(values, other).statistic
    return intervals.mean(correlations, groups)


def _resized(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    # [h, w] bool; a mask of that shape stays as it is.
    return cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
