"""What maps of evidence are worth: measured against the lung fields, known lesions, and maps of a network without knowledge.

Maps come from the exported network: [n, side, side] float, 0 or more, where the evidence for a class lies in the image.
"""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from scipy import stats

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from trainer.analysis import intervals
from trainer.analysis.intervals import Estimate

SAME = 0.5  # From this rank correlation on, maps of shuffled weights count as like the true ones.


def lung_share(maps: np.ndarray, masks: np.ndarray, groups: np.ndarray) -> Estimate:
    """The share of a map's mass inside the lung field, over the field's share of the area; the mean over images.

    1 is what a uniform map gives. Images with an empty map or no lung field are left out.

    Args:
      maps: [n, h, w] float, 0 or more.
      masks: [n, side, side] bool.
      groups: [n] str.
    """
    ratios = lung_ratios(maps, masks)
    known = np.isfinite(ratios)
    if not known.any():
        return intervals.none("every map is empty", groups)
    return intervals.mean(ratios[known], groups[known])


def lung_ratios(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The same for each image, [n] float; NaN where the map is empty or there is no lung field."""
    found = np.full(len(maps), np.nan)
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        fitted = _fitted(mask, values.shape)
        total, area = values.sum(dtype=np.float64), fitted.mean()
        if total > 0 and area > 0:
            found[index] = values[fitted].sum(dtype=np.float64) / total / area
    return found


def pointing_game(
    maps: np.ndarray, lesions: np.ndarray, groups: np.ndarray, tolerance: int = 15
) -> dict[str, Estimate]:
    """How often a map's peak lies in a lesion, or within `tolerance` pixels of one (Zhang 2018, doi:10.1007/s11263-017-1059-x).

    Args:
      maps: [n, side, side] float, 0 or more.
      lesions: [n, side, side] bool.
      groups: [n] str.
      tolerance: in pixels of the maps.

    Returns:
      hits, and chance: the share of the area that would count as a hit, the mean over images. Empty maps miss; images without a
      lesion are left out.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * tolerance + 1, 2 * tolerance + 1))
    hits, areas, kept = [], [], []
    for index, (values, lesion) in enumerate(zip(maps, lesions, strict=True)):
        if not lesion.any():
            continue
        wide = cv2.dilate(_fitted(lesion, values.shape).astype(np.uint8), kernel) > 0
        hits.append(
            bool(values.max() > 0 and wide[np.unravel_index(values.argmax(), values.shape)])
        )
        areas.append(float(wide.mean()))
        kept.append(index)
    among = groups[kept] if kept else groups[:0]
    return {
        "hits": intervals.proportion(np.array(hits, bool), among),
        "chance": intervals.mean(np.array(areas), among),
    }


def randomisation_similarity(maps: np.ndarray, others: np.ndarray, groups: np.ndarray) -> Estimate:
    """The rank correlation of maps with those of a network whose weights were shuffled (Adebayo 2018, arXiv:1810.03292).

    Near 0 the maps show what the network learnt; near 1 they would look the same had it learnt nothing.

    Args:
      maps, others: [n, h, w] float.
      groups: [n] str.

    Returns:
      the mean over images of Spearman's correlation, in -1..1; a constant map counts as 0.
    """
    if not len(maps):
        return intervals.none("no image", groups)
    found = []
    for values, other in zip(maps, others, strict=True):
        small = [
            cv2.resize(one.astype(np.float32), (50, 50), interpolation=cv2.INTER_AREA).ravel()
            for one in (values, other)
        ]
        constant = any(np.ptp(one) == 0 for one in small)
        found.append(0.0 if constant else float(stats.spearmanr(*small).statistic))
    return intervals.mean(np.array(found), groups)


def contact_sheet(
    images: np.ndarray,
    maps: np.ndarray,
    captions: list[str],
    path: Path,
    title: str,
    columns: int = 6,
) -> None:
    """Each radiograph with its map over it, in colours that colour-blind eyes tell apart, the stronger the less transparent.

    Args:
      images: [n, side, side, 1] uint8.
      maps: [n, side, side] float, 0 or more.
      captions: n texts.
      path: where the PNG goes.
      title: above the figure.
      columns: at most this many in a row.
    """
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.3 * columns, 2.7 * rows + 0.4),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, values, caption in zip(axes.flat, images, maps, captions, strict=False):
        strength = values / values.max() if values.max() > 0 else np.zeros_like(values)
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
        axis.imshow(strength, cmap="plasma", vmin=0, vmax=1, alpha=0.6 * strength)
        axis.set_title(caption, fontsize=7)
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _fitted(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if mask.shape == shape:
        return mask
    return cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
