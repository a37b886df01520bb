"""Lung fields of frontal chest radiographs, by a small network, and images without lungs.

    fields = lungs.find(images)              # images: [n, side, side, 1] uint8
    without = lungs.without_lungs(images, fields.masks)

The network, lungs.onnx beside this file, is trained by `tests.studies.train_lungs`; lungs.md says
on what, and how well it works. Its lungs include the part behind the heart and the diaphragm's
angles. It runs without TensorFlow.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

VERSION = 1  # Of the network; recorded where its output is.
SIDE = 128  # Side length of the network's input and output, in pixels.
GREY = 96  # The level that replaces removed pixels, the same in all images.

_BATCH = 32
# People draw boxes wider than outlines, by these shares of the image: left, top, right, bottom.
# The medians of 164 films that have both.
_MARGINS = np.array([-0.016, -0.025, 0.016, 0.029])
_DILATION = 0.06  # Share of the side by which the lungs are widened before removal.
# Lungs are certain from this confidence, the mean of |2 p - 1| in each, and this area on.
_MIN_CONFIDENCE = 0.6
_MIN_AREA = 0.02  # Of each lung, as a share of the image.


@dataclasses.dataclass(frozen=True)
class LungFields:
    """The lungs of some images. Left and right are as seen on the picture.

    Attributes:
      masks: [n, side, side] bool, both lungs.
      boxes: [n, 2, 4] float32, x0, y0, x1, y1 of the left and the right lung as shares of the
        image, in 0..1; all of the image where a lung is not found.
      certain: [n] bool; False where the picture shows no frontal chest, or lungs in no usual place.
    """

    masks: np.ndarray
    boxes: np.ndarray
    certain: np.ndarray


def find(images: np.ndarray) -> LungFields:
    """Finds the lungs.

    Args:
      images: [n, side, side, 1] uint8, squares of `radiograph.standardize`.
    """
    run, _ = _load_network()
    side = images.shape[1]
    results = []
    starts = range(0, len(images), _BATCH)
    for start in tqdm(starts, "lung fields", unit="batch", leave=False, delay=2, disable=None):
        results.append(from_probabilities(run(images[start : start + _BATCH]), side))
    if not results:
        return from_probabilities(np.zeros((0, SIDE, SIDE, 2), np.float32), side)
    names = [field.name for field in dataclasses.fields(LungFields)]
    return LungFields(
        **{name: np.concatenate([getattr(result, name) for result in results]) for name in names}
    )


def mask(images: np.ndarray) -> np.ndarray:
    """Returns the masks of `find`: [n, side, side] bool.

    Args:
      images: [n, side, side, 1] uint8.
    """
    return find(images).masks


def facts() -> dict[str, Any]:
    """Returns the network's version and its scores on patients it was not trained on.

    Returns:
      version; held_out and phantoms, each a dict of box_iou, lung_iou, dice and visible (the share
      of the marked lung that `without_lungs` leaves) → percentiles p5, p10, p50, p95 and n.
    """
    return _load_network()[1]


def from_probabilities(probabilities: np.ndarray, side: int) -> LungFields:
    """Derives the lungs from the network's output.

    Args:
      probabilities: [n, SIDE, SIDE, 2] float32, of the left and the right lung.
      side: of the masks, in pixels.
    """
    count = len(probabilities)
    masks = np.zeros((count, side, side), bool)
    boxes = np.tile(np.array([0.0, 0.0, 1.0, 1.0], np.float32), (count, 2, 1))
    certain = np.zeros(count, bool)
    for index, of_lungs in enumerate(probabilities):
        components = [_largest_component(of_lungs[..., lung] > 0.5) for lung in (0, 1)]
        for lung, component in enumerate(components):
            if component.any():
                masks[index] |= _enlarge(of_lungs[..., lung], component, side)
                boxes[index, lung] = _box(component)
        certain[index] = _is_certain(of_lungs, components)
    return LungFields(masks, boxes, certain)


def widen(lung_mask: np.ndarray) -> np.ndarray:
    """Widens a mask, [side, side] bool, as far as its edge may be wrong."""
    width = 2 * round(_DILATION * len(lung_mask)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return cv2.dilate(lung_mask.astype(np.uint8), kernel) > 0


def without_lungs(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Replaces the lungs, widened, by one grey.

    The outline stays visible, so the size and shape of the chest still show; the inside does not.

    Args:
      images: [n, side, side, 1] uint8.
      masks: [n, side, side] bool.

    Returns:
      [n, side, side, 1] uint8.
    """
    if not len(images):
        return images
    widened = np.stack([widen(lungs) for lungs in masks])
    return np.where(widened[..., None], np.uint8(GREY), images)


def only_lungs(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Replaces all but the lungs by one grey.

    Args:
      images: [n, side, side, 1] uint8.
      masks: [n, side, side] bool.

    Returns:
      [n, side, side, 1] uint8.
    """
    return np.where(masks[..., None], images, np.uint8(GREY))


def outlines(masks: np.ndarray) -> np.ndarray:
    """Draws the lungs' silhouettes, white on black, without any texture.

    Args:
      masks: [n, side, side] bool.

    Returns:
      [n, side, side, 1] uint8.
    """
    return np.where(masks[..., None], np.uint8(255), np.uint8(0))


@functools.cache
def _load_network() -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    # Returns the function [n, side, side, 1] uint8 → [n, SIDE, SIDE, 2] float32, and the facts.
    # ONNX Runtime reads it while it is imported; without it, it reports to its maker.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # Imported lazily: slow.

    path = Path(__file__).with_name("lungs.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # The same output on any number of cores.
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        small = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images]
        inputs = np.stack(small)[..., None].astype(np.float32)  # [n, SIDE, SIDE, 1]
        return session.run(["lungs"], {"image": inputs})[0]

    return run, json.loads(session.get_modelmeta().custom_metadata_map["facts"])


def _largest_component(lung: np.ndarray) -> np.ndarray:
    # The largest connected part of a mask, [SIDE, SIDE] bool, with its holes filled.
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(lung.astype(np.uint8))
    if count == 1:  # The background alone.
        return lung
    largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    return _fill_holes(labels == largest)


def _fill_holes(lung: np.ndarray) -> np.ndarray:
    # What the outside does not reach, from a corner of a frame around the image, is lung.
    outside = np.pad(lung.astype(np.uint8), 1)
    cv2.floodFill(outside, None, (0, 0), 1)
    return lung | (outside[1:-1, 1:-1] == 0)


def _enlarge(probability: np.ndarray, component: np.ndarray, side: int) -> np.ndarray:
    # Enlarged probabilities give a smoother edge than an enlarged mask.
    filled = np.where(component, np.maximum(probability, 0.5), np.minimum(probability, 0.49))
    near = cv2.dilate(component.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    kept = np.where(near, filled, 0.0)
    enlarged = cv2.resize(kept.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    return enlarged >= 0.5


def _box(component: np.ndarray) -> np.ndarray:
    # x0, y0, x1, y1 as shares, with the margins that people leave.
    rows = np.flatnonzero(component.any(axis=1))
    columns = np.flatnonzero(component.any(axis=0))
    edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / SIDE
    return np.clip(edges + _MARGINS, 0.0, 1.0)


def _is_certain(of_lungs: np.ndarray, components: list[np.ndarray]) -> bool:
    if min(component.mean() for component in components) < _MIN_AREA:
        return False
    centres = [np.flatnonzero(component.any(axis=0)).mean() for component in components]
    if centres[0] >= centres[1]:
        return False
    confidence = [
        np.abs(2.0 * of_lungs[..., lung] - 1.0)[component].mean()
        for lung, component in enumerate(components)
    ]
    return min(confidence) >= _MIN_CONFIDENCE
