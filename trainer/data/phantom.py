"""Synthetic frontal chest radiographs with known truth: lungs, and patchy opacities in one class.

    phantom = draw(seed=0, index=0, label=1)
    phantom.image, phantom.lung_mask, phantom.lesion_mask

No person is depicted. All but the opacities follows from (seed, index) alone, so nothing outside
the lungs separates the classes. Spared lung partly compensates for the air that opacities displace,
so the mean and the deviation separate the classes hardly better than chance. `phantom_anatomy`
draws the body; the film (curve, grain, side marker and collimation) does not depend on the label.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from trainer.data import phantom_anatomy
from trainer.data.phantom_anatomy import Anatomy, enlarge

CLASSES = ("clear", "opacities")
GENERATOR_VERSION = 3  # Rises with any change to the drawing.

_LESION_LEVEL = 0.006  # Attenuation of a lesion pixel, at least: about one grey level.
# Share of the opacities' attenuation that spared lung compensates for. 0 would change the mean, 1
# the deviation; between, both hardly change.
_COMPENSATION = 0.6


@dataclasses.dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph and its truth.

    Attributes:
      image: [side, side] uint8.
      lung_mask: [side, side] bool.
      lesion_mask: [side, side] bool.
      label: index into `CLASSES`.
    """

    image: np.ndarray
    lung_mask: np.ndarray
    lesion_mask: np.ndarray
    label: int


def label_of(seed: int, index: int) -> int:
    """Returns the class of example `index`: random, balanced in pairs.

    Each pair (2k, 2k + 1) holds one of each class.
    """
    return int(_stream(seed, index // 2, 0).integers(2)) ^ (index % 2)


def draw(seed: int, index: int, label: int, side: int = 500) -> Phantom:
    """Draws one radiograph.

    Args:
      seed: from 0; with `index` it decides patient, exposure, noise and the position of opacities.
      index: from 0.
      label: 0 for clear lungs, 1 for opacities in the same patient.
      side: side length of the image, in pixels, 64 to 1000.

    Raises:
      ValueError: a label, side, seed or index out of range.
    """
    if label not in (0, 1) or not 64 <= side <= 1000 or min(seed, index) < 0:
        raise ValueError(
            f"label 0 or 1, side 64 to 1000, seed and index from 0; not {label}, {side}, {seed}, "
            f"{index}"
        )
    # One stream per purpose: opacities must not change the body or the film.
    body_rng, lesion_rng, film_rng = (_stream(seed, index, purpose) for purpose in (1, 2, 3))
    anatomy = phantom_anatomy.draw(body_rng)
    # Nothing leaks over the soft edge of the lungs.
    aerated = np.clip(2.0 * anatomy.lungs - 1.0, 0.0, 1.0)
    opacity = _opacities(anatomy, aerated, lesion_rng) if label else np.zeros_like(anatomy.x)
    inflation = _COMPENSATION * opacity.sum() / aerated.sum() * aerated
    attenuation = enlarge(anatomy.attenuation + opacity - inflation, side)
    return Phantom(
        image=_expose(attenuation, film_rng),
        lung_mask=enlarge(anatomy.lungs, side) > 0.5,
        lesion_mask=enlarge(opacity, side) > _LESION_LEVEL,
        label=label,
    )


def _stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=(seed << 8) + purpose, counter=index << 64))


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


def _expose(attenuation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # From [side, side] float32, 0 for air to about 1.3, to a film, [side, side] uint8.
    side = len(attenuation)
    level = rng.uniform(-0.10, 0.16)
    contrast = rng.uniform(0.72, 1.12)
    gamma = rng.uniform(0.75, 1.45)
    film = (np.clip(attenuation * contrast + level, 0.0, 1.4) / 1.15) ** gamma
    # The shoulder of the film: whites saturate gradually.
    film = film / np.sqrt(np.sqrt(1.0 + np.square(np.square(film))))
    noise = rng.standard_normal((side, side), dtype=np.float32)
    strength = rng.uniform(0.006, 0.022)
    grain = strength * ndimage.gaussian_filter(noise, 0.0012 * side) * (0.4 + film)
    # The marker lies under the blades.
    film = _collimate(_add_marker(film + grain, rng), rng)
    return np.clip(np.rint(film * 255.0), 0, 255).astype(np.uint8)


def _add_marker(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # All samples are drawn first, so that the stream is the same with and without a marker.
    letter = "RL"[rng.integers(2)]
    chance = rng.random()
    left, top = rng.uniform(0.03, 0.09, 2)
    if chance < 0.4:
        return film
    side = len(film)
    canvas = Image.new("L", (side, side))
    # The patient's right side is at the left of the image.
    x = left if letter == "R" else 0.92 - left
    ImageDraw.Draw(canvas).text(
        (x * side, top * side), letter, fill=255, font_size=max(8, int(0.055 * side))
    )
    # Lead absorbs all: the letter is white on any background.
    return np.maximum(film, 0.95 * np.asarray(canvas, np.float32) / 255.0)


def _collimate(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    widths = rng.uniform(0.0, 0.035, 4) * len(film)
    if rng.random() < 0.6:
        return film
    top, bottom, left, right = widths.astype(int)
    # Behind the blades 6 % of the brightness remains.
    transmission = np.full_like(film, 0.06)
    transmission[top : len(film) - bottom, left : len(film) - right] = 1.0
    return film * transmission
