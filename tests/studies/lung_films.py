"""Radiographs with marked lungs, real and synthetic, and random views of them.

    films = read_films(Path("../shared/data/lungs/lungs.csv"))
    images, targets = draw_views(films.images, films.targets, films.outlined, seed)

Some films have outlines, others boxes only. Left and right are as seen on the picture.
"""

import csv
import dataclasses
import itertools
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from trainer.config import TrainConfig
from trainer.data import phantom, radiograph
from trainer.data.lungs import SIDE
from trainer.training import augment, augment_geometry, augment_intensity

# Strong: the segmenter must hold at hospitals that it was not trained on.
_VIEWS = TrainConfig(
    rotation=7.0,
    shear=2.0,
    zoom=0.15,
    shift=0.05,
    horizontal_flip=True,
    contrast=0.3,
    brightness=0.1,
)
_NEGATIVES = 0.1  # Share of the views that show no chest, upright and whole.
_PHANTOM_SIDE = 256


@dataclasses.dataclass(frozen=True)
class Films:
    """Images with the lungs that people marked, or that a program drew.

    Attributes:
      images: [n, SIDE, SIDE, 1] uint8, squares of `radiograph.standardize`.
      targets: [n, SIDE, SIDE, 2] uint8, 255 within the left or right lung, or within its box.
      outlined: [n] bool; of the others only boxes are known.
      boxes: [n, 2, 4] float32, x0, y0, x1, y1 of each lung as shares of the image.
      patients: [n] str.
    """

    images: np.ndarray
    targets: np.ndarray
    outlined: np.ndarray
    boxes: np.ndarray
    patients: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> "Films":
        """Selects films by [m] int or [n] bool."""
        fields = dataclasses.fields(self)
        return Films(**{field.name: getattr(self, field.name)[indices] for field in fields})


def read_films(table: Path) -> Films:
    """Reads films listed in a CSV.

    Args:
      table: with the columns image and mask (paths from the table's parent folder's parent; mask
        may be empty), patient, and left_x0 … right_y1, the boxes as shares of the image.
    """
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    root = table.parent.parent
    corners = ("x0", "y0", "x1", "y1")
    films = []
    for row in tqdm(rows, "films", unit=" images", leave=False):
        square = radiograph.standardize(radiograph.read(root / row["image"]))
        boxes = [[float(row[f"{lung}_{end}"]) for end in corners] for lung in ("left", "right")]
        if row["mask"]:
            mask = cv2.imread(str(root / row["mask"]), cv2.IMREAD_GRAYSCALE) > 0
            target = _separate(mask, np.array(boxes))
        else:
            target = _fill_boxes(np.array(boxes))
        films.append((_shrink(square), target, bool(row["mask"]), boxes, row["patient"]))
    images, targets, outlined, boxes, patients = map(np.array, zip(*films, strict=True))
    return Films(images[..., None], targets, outlined, boxes.astype(np.float32), patients)


def draw_phantoms(count: int, seed: int) -> Films:
    """Draws phantoms, every second one with opacities; each is its own patient."""
    images = []
    targets = []
    boxes = []
    for index in tqdm(range(count), "phantoms", unit=" images", leave=False):
        drawn = phantom.draw(seed, index, index % 2, _PHANTOM_SIDE)
        columns = np.flatnonzero(drawn.lung_mask.any(axis=0)) / _PHANTOM_SIDE
        middle = (columns[0] + columns[-1]) / 2
        halves = np.array([[columns[0], 0.0, middle, 1.0], [middle, 0.0, columns[-1], 1.0]])
        images.append(_shrink(drawn.image))
        targets.append(_separate(drawn.lung_mask, halves))
        boxes.append([box(targets[-1][..., lung] > 127) for lung in (0, 1)])
    names = np.array([f"phantom {index}" for index in range(count)])
    return Films(
        np.array(images)[..., None],
        np.array(targets),
        np.ones(count, bool),
        np.array(boxes, np.float32),
        names,
    )


def box(mask: np.ndarray) -> np.ndarray:
    """Computes the box of a mask, [side, side] bool, as shares; all of it if nothing is set."""
    if not mask.any():
        return np.array([0.0, 0.0, 1.0, 1.0])
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / len(mask)


def draw_views(
    images: tf.Tensor, targets: tf.Tensor, outlined: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Draws one random view of each film: geometry, exposure, opacities, collimation.

    Args:
      images: [n, SIDE, SIDE, 1] uint8.
      targets: [n, SIDE, SIDE, 2] uint8.
      outlined: [n] bool; a box is not rotated, because it would be no box.
      seed: [2] int64.

    Returns:
      (images in 0..255, targets in 0..1, negative): float32 as above, and [n] bool: shows no chest;
      the target is empty.
    """
    count = tf.shape(images)[0]
    draws = augment.draw(seed, count, _VIEWS)
    upright = tf.cast(outlined, tf.float32)[:, None]  # [n, 1]
    for name in ("rotation", "shear"):
        draws[name] *= upright
    transforms = augment_geometry.affine_transforms(draws, _VIEWS, SIDE)
    images = augment_geometry.resample(images, transforms)
    left, right = (
        augment_geometry.resample(targets[..., lung, None], transforms) for lung in (0, 1)
    )
    mirrored = draws["horizontal_flip"][:, :, None, None] < 0.0  # [n, 1, 1, 1]
    targets = tf.concat([tf.where(mirrored, right, left), tf.where(mirrored, left, right)], -1)
    targets /= 255.0
    images = augment_intensity.change_intensity(images, draws, _VIEWS)
    images = _expose(images, _stream(seed, 1))
    images, targets, negative = _make_negatives(images, targets, _stream(seed, 2))
    return images, targets, negative


def _expose(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    # Gamma, opacities, devices, blur, noise and collimation.
    count = tf.shape(images)[0]
    streams = itertools.count()

    def uniform(low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform(
            [count, 1, 1, 1], _stream(seed, next(streams)), low, high
        )

    def smooth_noise(cells: int) -> tf.Tensor:
        normal = tf.random.stateless_normal([count, cells, cells, 1], _stream(seed, next(streams)))
        return tf.image.resize(normal, [SIDE, SIDE], "bicubic")

    x = tf.clip_by_value(images / 255.0, 0.0, 1.0) ** tf.exp(uniform(-0.6, 0.6))
    x += smooth_noise(4) * uniform(0.0, 0.12)
    # Lungs may be opaque in patches: the outline must not follow them.
    opacity = tf.sigmoid((smooth_noise(7) - uniform(0.3, 1.5)) * 6.0)
    x += opacity * uniform(-0.5, 0.5) * (0.75 - x)
    position = tf.range(SIDE, dtype=tf.float32) / SIDE
    across = position[None, None, :, None]
    down = position[None, :, None, None]
    # A bright tube in every second film, and a box, such as a pacemaker or a marker.
    angle = uniform(-1.6, 1.6)
    distance = (across - uniform(0.2, 0.8)) * tf.cos(angle) + (down - 0.5) * tf.sin(angle)
    tube = (tf.abs(distance) < uniform(-0.01, 0.01)) & (down < uniform(0.3, 1.0))
    x = tf.where(tube, 0.6 * x + 0.4, x)
    in_box = (tf.abs(across - uniform(0.0, 1.0)) < uniform(-0.06, 0.06)) & (
        tf.abs(down - uniform(0.0, 1.0)) < uniform(0.01, 0.06)
    )
    x = tf.where(in_box, uniform(0.6, 1.0), x)
    x = tf.where(uniform(0.0, 1.0) < 0.4, tf.nn.avg_pool2d(x, 3, 1, "SAME"), x)
    x += tf.random.stateless_normal(tf.shape(x), _stream(seed, 98)) * uniform(0.0, 0.04)
    # Black borders of any depth.
    for distance in (across, 1.0 - across, down, 1.0 - down):
        x = tf.where(distance < uniform(-0.6, 0.12), 0.0, x)
    return tf.clip_by_value(x, 0.0, 1.0) * 255.0


def _make_negatives(
    images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # Rotates some films by 90, 180 or 270 degrees, enlarges or shuffles them, or draws clouds.
    count = tf.shape(images)[0]
    kind = tf.random.stateless_uniform([count, 1, 1, 1], seed) / _NEGATIVES  # Below 1: negative.
    half = SIDE // 2
    quarter = SIDE // 4
    centre = images[:, quarter : quarter + half, :half]
    altered = [
        tf.image.rot90(images, 1),
        tf.image.rot90(images, 2),
        tf.image.rot90(images, 3),
        tf.image.resize(centre, [SIDE, SIDE]),
        tf.roll(images, [half, half], [1, 2]),
        tf.image.resize(
            tf.random.stateless_uniform([count, 9, 9, 1], seed, 0.0, 255.0), [SIDE] * 2
        ),
    ]
    for index, pictures in reversed(list(enumerate(altered, start=1))):
        images = tf.where(kind < index / len(altered), pictures, images)
    negative = kind[:, 0, 0, 0] < 1.0
    return images, tf.where(kind < 1.0, 0.0, targets), negative


def _stream(seed: tf.Tensor, number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number)


def _shrink(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _separate(mask: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Separates a mask of both lungs into left and right, [SIDE, SIDE, 2] uint8.

    Args:
      mask: [height, width] bool.
      boxes: [2, 4], shares; lungs that touch are cut in the middle between the boxes.
    """
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = statistics[1:, cv2.CC_STAT_AREA]
    largest = np.argsort(-areas)[:2]
    if count > 2 and areas[largest[1]] > 0.1 * areas[largest[0]]:
        starts = statistics[1:, cv2.CC_STAT_LEFT][largest]
        lungs = [labels == 1 + component for component in largest[np.argsort(starts)]]
    else:
        middle = (boxes[0, 2] + boxes[1, 0]) / 2 * mask.shape[1]
        on_left = np.arange(mask.shape[1]) < middle
        lungs = [mask & on_left, mask & ~on_left]
    return np.stack([_shrink(lung.astype(np.uint8) * 255) for lung in lungs], axis=-1)


def _fill_boxes(boxes: np.ndarray) -> np.ndarray:
    # [2, 4] → [SIDE, SIDE, 2] uint8.
    target = np.zeros((SIDE, SIDE, 2), np.uint8)
    for lung, (x0, y0, x1, y1) in enumerate(np.rint(boxes * SIDE).astype(int)):
        target[y0:y1, x0:x1, lung] = 255
    return target
