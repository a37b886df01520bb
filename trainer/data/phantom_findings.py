"""The findings of a phantom: each changes the attenuation within the lungs, alone.

    FINDINGS["nodule"].draw(anatomy, aerated, rng)    # [256, 256] change of attenuation

A finding sees the anatomy and its own random stream, never another finding.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from trainer.data.phantom_anatomy import DRAWN_SIDE, Anatomy

_UNIT = DRAWN_SIDE / 2  # Pixels of the drawing in one unit of length.


@dataclasses.dataclass(frozen=True)
class Finding:
    """The drawing of one finding.

    Attributes:
      draw: (anatomy, aerated, rng) → [256, 256] change of attenuation; `aerated` is the soft mask
        of the lungs, which bounds it.
      compensation: share of the change that the lungs compensate for. 1 would keep the mean of the
        pixels, another share their deviation; between the two, both hardly change.
      presence_stream, drawing_stream: numbers of the random streams, of no other purpose.
    """

    draw: Callable[[Anatomy, np.ndarray, np.random.Generator], np.ndarray]
    compensation: float
    presence_stream: int
    drawing_stream: int


def _opacities(anatomy: Anatomy, aerated: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Patchy, hazy attenuation, mostly peripheral and basal in both lungs.
    patches = np.zeros_like(aerated)
    severity = rng.uniform(0.55, 1.0)
    clouds = ndimage.gaussian_filter(rng.standard_normal(aerated.shape, dtype=np.float32), 5.0)
    clouds = 0.75 + 0.35 * np.clip(clouds / clouds.std(), -1.5, 1.5)
    for number in range(int(rng.integers(4, 9))):
        # Lungs take turns, so that both are affected as a rule.
        outward = (-1.0, 1.0)[number % 2] if rng.random() < 0.85 else rng.choice([-1.0, 1.0])
        centre_x = outward * rng.triangular(0.25, 0.60, 0.66)
        centre_y = rng.triangular(-0.35, 0.40, 0.48)
        width = rng.uniform(0.10, 0.19)
        height = rng.uniform(0.09, 0.17)
        distance = np.hypot((anatomy.x - centre_x) / width, (anatomy.y - centre_y) / height)
        patches = np.maximum(patches, rng.uniform(0.6, 1.0) * np.exp(-(distance**3)))
    hazy = 0.70 * severity * patches * clouds * aerated
    # The faint fringe is removed, so that the mask covers all changed pixels.
    return hazy * np.clip((hazy - 0.02) / 0.03, 0.0, 1.0)


def _effusion(anatomy: Anatomy, aerated: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Fluid at the base of one lung. Its surface is a meniscus, which climbs the chest wall.
    across = rng.choice([-1.0, 1.0]) * anatomy.x
    height = rng.uniform(0.20, 0.36)
    climb = rng.uniform(0.5, 0.9)
    density = rng.uniform(0.34, 0.50)
    lung = aerated * (across > 0.0)
    base = anatomy.y[lung > 0.5].max()
    surface = base - height * (1.0 + climb * (np.clip(across - 0.25, 0.0, None) / 0.40) ** 2)
    return density * lung * np.clip((anatomy.y - surface) / 0.04, 0.0, 1.0)


def _nodule(anatomy: Anatomy, aerated: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # One to three dense balls, each within a lung.
    balls = np.zeros_like(aerated)
    depth = ndimage.distance_transform_edt(aerated > 0.5) / _UNIT
    for _ in range(int(rng.integers(1, 4))):
        radius = rng.uniform(0.09, 0.13)
        density = rng.uniform(0.60, 0.80)
        centres = np.flatnonzero((depth > radius) & (anatomy.y < 0.15))
        centre = centres[rng.integers(len(centres))]
        distance = np.hypot(
            anatomy.x - anatomy.x.flat[centre],
            anatomy.y - anatomy.y.flat[centre],
        )
        # The thickness of a ball, in parts of its diameter.
        thickness = np.sqrt(np.clip(1.0 - (distance / radius) ** 2, 0.0, None))
        balls = np.maximum(balls, density * thickness)
    return balls * aerated


def _pneumothorax(anatomy: Anatomy, aerated: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Air around a lung that has shrunk towards its root: a rim without vessels, and a thin line.
    across = rng.choice([-1.0, 1.0]) * anatomy.x
    shrinkage = rng.uniform(0.54, 0.70)
    lung = np.where(across > 0.0, anatomy.lungs, 0.0)
    # The root lies low, so the rim is widest at the apex.
    root = np.hypot(across - 0.16, anatomy.y - 0.36).argmin()
    root_pixel = np.array(np.unravel_index(root, lung.shape))
    shrunk = ndimage.affine_transform(
        lung,
        np.full(2, 1.0 / shrinkage),
        root_pixel * (1.0 - 1.0 / shrinkage),
        order=1,
    )
    side_aerated = np.where(across > 0.0, aerated, 0.0)
    rim = side_aerated * (1.0 - shrunk)
    edge = ndimage.gaussian_filter(shrunk, 1.5)
    pleura = side_aerated * 4.0 * edge * (1.0 - edge)
    return 0.34 * pleura - rim * (anatomy.markings + 0.14)


# In the order of labels. Streams 1 and 3 are those of body and film.
FINDINGS = {
    "opacities": Finding(_opacities, 0.6, presence_stream=0, drawing_stream=2),
    "effusion": Finding(_effusion, 0.5, presence_stream=4, drawing_stream=5),
    "nodule": Finding(_nodule, 0.4, presence_stream=6, drawing_stream=7),
    "pneumothorax": Finding(_pneumothorax, 1.2, presence_stream=8, drawing_stream=9),
}
