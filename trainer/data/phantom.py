"""Synthetic frontal chest radiographs with known truth: lungs, and findings within them.

    phantom = draw(seed=0, index=0, label=1)    # With opacities.
    phantom.image, phantom.lung_mask, phantom.lesion_mask
    several = draw_findings(seed=0, index=0, present=(True, False, True))

No person is depicted. All but the findings follows from (seed, index) alone, so nothing outside
the lungs tells of them. The lungs partly compensate for the air that a finding displaces, so the
mean and the deviation tell hardly more than chance. `phantom_anatomy` draws the body,
`phantom_findings` the findings; the film (curve, grain, side marker and collimation) does not
depend on them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from trainer.data import phantom_anatomy
from trainer.data.phantom_anatomy import enlarge
from trainer.data.phantom_findings import FINDINGS

CLASSES = ("clear", "opacities")  # Of a set with a single label an image.
GENERATOR_VERSION = 3  # Rises with any change to the drawing.

_CHANGE_LEVEL = 0.006  # Change of attenuation within a mask, at least: about one grey level.


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


@dataclasses.dataclass(frozen=True)
class FindingsPhantom:
    """One synthetic radiograph with any number of findings, and its truth.

    Attributes:
      image: [side, side] uint8.
      lung_mask: [side, side] bool.
      finding_masks: [findings, side, side] bool, what each finding covers, without compensation.
      present: [findings] bool, in the order of `FINDINGS`.
    """

    image: np.ndarray
    lung_mask: np.ndarray
    finding_masks: np.ndarray
    present: np.ndarray


def label_of(seed: int, index: int) -> int:
    """Returns the class of example `index`: random, balanced in pairs.

    Each pair (2k, 2k + 1) holds one of each class.
    """
    return int(findings_of(seed, index, 1)[0])


def findings_of(seed: int, index: int, count: int) -> tuple[bool, ...]:
    """Returns the presence of each finding in example `index`: random and independent.

    Each finding is in one image of each pair (2k, 2k + 1), as `label_of` is. A larger `count`
    changes nothing of the earlier findings.

    Args:
      seed: from 0.
      index: from 0.
      count: number of findings, from the front of `FINDINGS`.
    """
    presence = []
    for finding in list(FINDINGS.values())[:count]:
        even = int(_stream(seed, index // 2, finding.presence_stream).integers(2))
        presence.append(bool(even ^ (index % 2)))
    return tuple(presence)


def draw(seed: int, index: int, label: int, side: int = 500) -> Phantom:
    """Draws one radiograph of a set with a single label an image.

    Args:
      seed: from 0; with `index` it decides patient, exposure, noise and the position of opacities.
      index: from 0.
      label: 0 for clear lungs, 1 for opacities in the same patient.
      side: side length of the image, in pixels, 64 to 1000.

    Raises:
      ValueError: a label, side, seed or index out of range.
    """
    if label not in (0, 1):
        raise ValueError(f"label 0 or 1, side 64 to 1000; not {label}, {side}")
    drawn = _draw(seed, index, (bool(label),), side, margin=False)
    return Phantom(drawn.image, drawn.lung_mask, drawn.finding_masks[0], label)


def draw_findings(
    seed: int, index: int, present: Sequence[bool], side: int = 500
) -> FindingsPhantom:
    """Draws one radiograph with several findings, or none.

    The film is wider than that of `draw`: an effusion would show in its corners.

    Args:
      seed: from 0; with `index` it decides patient, exposure, noise and the look of each finding.
      index: from 0.
      present: [findings], for each finding from the front of `FINDINGS`.
      side: side length of the image, in pixels, 64 to 1000.

    Raises:
      ValueError: a side, seed, index or number of findings out of range.
    """
    return _draw(seed, index, present, side, margin=True)


def _draw(
    seed: int, index: int, present: Sequence[bool], side: int, margin: bool
) -> FindingsPhantom:
    if not 64 <= side <= 1000 or min(seed, index) < 0 or len(present) > len(FINDINGS):
        raise ValueError(
            f"side 64 to 1000, seed and index from 0, at most {len(FINDINGS)} findings; not "
            f"{side}, {seed}, {index}, {len(present)}"
        )
    # One stream per purpose: a finding must not change the body, the film or another finding.
    anatomy = phantom_anatomy.draw(_stream(seed, index, 1), margin)
    # Nothing leaks over the soft edge of the lungs.
    aerated = np.clip(2.0 * anatomy.lungs - 1.0, 0.0, 1.0)
    attenuation = anatomy.attenuation
    masks = np.zeros((len(present), side, side), bool)
    # `present` may hold fewer than all findings.
    for number, (finding, is_present) in enumerate(zip(FINDINGS.values(), present, strict=False)):
        if is_present:
            change = finding.draw(anatomy, aerated, _stream(seed, index, finding.drawing_stream))
            inflation = finding.compensation * change.sum() / aerated.sum() * aerated
            attenuation = attenuation + change - inflation
            masks[number] = enlarge(np.abs(change), side) > _CHANGE_LEVEL
    return FindingsPhantom(
        image=_expose(enlarge(attenuation, side), _stream(seed, index, 3)),
        lung_mask=enlarge(anatomy.lungs, side) > 0.5,
        finding_masks=masks,
        present=np.array(present, bool),
    )


def _stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=(seed << 8) + purpose, counter=index << 64))


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
