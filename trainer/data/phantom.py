"""Draws synthetic frontal chest radiographs with known truth: lungs, and in one class patchy opacities. Not of any person.

Everything but the opacities is drawn from (seed, index) alone, so that nothing outside the lungs tells the classes apart.
What opacities take of the lungs' air, spared lung makes up for in part: mean and deviation then say next to nothing.
Lengths are fractions of half the image's side; the origin is its centre; x grows to the right, y downwards.
"""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

CLASSES = ("clear", "opacities")
GENERATOR_VERSION = 3  # Rises with any change to the drawing.

_APEX = 0.26  # How far from the middle the lungs reach highest.
_DRAWN_SIDE = 256  # Anatomy is smooth: it is drawn at this side and enlarged; grain and letters are added at full side.
_LESION_LEVEL = 0.006  # Attenuation above which a pixel counts as lesion: about one grey level.
_MADE_UP_FOR = 0.6  # Of the opacities' attenuation. 0 raises the mean, 1 the deviation; between, both hardly move.


@dataclasses.dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph and what is known of it.

    Attributes:
      image: [side, side] uint8.
      lung_mask, lesion_mask: [side, side] bool.
      label: index into `CLASSES`.
    """

    image: np.ndarray
    lung_mask: np.ndarray
    lesion_mask: np.ndarray
    label: int


@dataclasses.dataclass(frozen=True)
class _Patient:
    """The proportions of one patient and the position before the detector."""

    angle: float
    scale: float
    shift: tuple[float, float]
    lung_widths: tuple[float, float]
    apex: float
    diaphragm: tuple[float, float]
    heart: float
    spacing: float
    rib_phase: float
    rib_slope: float
    tissue: float


def label_of(seed: int, index: int) -> int:
    """The class of example `index`: random, but each pair (2k, 2k + 1) holds one of each."""
    first = int(_stream(seed, index // 2, 0).integers(2))
    return first ^ (index % 2)


def draw(seed: int, index: int, label: int, side: int = 500) -> Phantom:
    """Draws one radiograph.

    Args:
      seed, index: choose the patient, the exposure, the noise and the place of the opacities.
      label: 0 for clear lungs, 1 for opacities in the same patient.
      side: of the image in pixels, 64 to 1000.

    Raises:
      ValueError: a label, side, seed or index out of range.
    """
    if label not in (0, 1) or not 64 <= side <= 1000 or min(seed, index) < 0:
        raise ValueError(
            f"label 0 or 1, side 64 to 1000, seed and index from 0; not {label}, {side}, {seed}, "
            f"{index}"
        )
    body, lesions, film = (_stream(seed, index, purpose) for purpose in (1, 2, 3))
    patient = _draw_patient(body)
    x, y = _coordinates(patient, body)
    lungs = _lungs(patient, x, y)
    field = np.clip(lungs[0] + lungs[1], 0.0, 1.0)
    attenuation = _attenuation(patient, x, y, lungs, body)
    aerated = np.clip(2.0 * field - 1.0, 0.0, 1.0)  # Nothing leaks over the soft edge of the lungs.
    opacity = _opacities(x, y, aerated, lesions) if label else np.zeros_like(x)
    inflation = _MADE_UP_FOR * opacity.sum() / aerated.sum() * aerated
    image = _expose(_enlarge(attenuation + opacity - inflation, side), film)
    return Phantom(
        image, _enlarge(field, side) > 0.5, _enlarge(opacity, side) > _LESION_LEVEL, label
    )


def _stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=(seed << 8) + purpose, counter=index << 64))


def _draw_patient(rng: np.random.Generator) -> _Patient:
    def around(middle: float, half: float) -> float:
        return float(rng.uniform(middle - half, middle + half))

    width = around(0.72, 0.05)
    return _Patient(
        angle=around(0.0, 0.06),
        scale=around(1.0, 0.09),
        shift=(around(0.0, 0.05), around(0.0, 0.05)),
        lung_widths=(width + around(0.0, 0.025), width + around(0.0, 0.025)),
        apex=around(-0.80, 0.05),
        diaphragm=(around(0.50, 0.10), around(0.54, 0.10)),
        heart=around(0.30, 0.07),
        spacing=around(0.158, 0.012),
        rib_phase=around(0.0, 0.5),
        rib_slope=around(0.42, 0.10),
        tissue=around(1.0, 0.25),
    )


def _coordinates(patient: _Patient, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel lies in the patient, who is bent a little, as no body is a drawing made with compasses."""
    line = np.linspace(
        -1.0, 1.0, _DRAWN_SIDE, dtype=np.float32
    )  # Single precision throughout: half the time.
    x, y = np.meshgrid(line - patient.shift[0], line - patient.shift[1])
    c, s = math.cos(patient.angle) * patient.scale, math.sin(patient.angle) * patient.scale
    bend = 0.016 * rng.standard_normal((2, 7, 7), dtype=np.float32)
    return c * x - s * y + _enlarge(bend[0], _DRAWN_SIDE), s * x + c * y + _enlarge(
        bend[1], _DRAWN_SIDE
    )


def _step(distance: np.ndarray, width: float) -> np.ndarray:
    """0 to 1 across an edge of this width; exact logistic, written so that it cannot overflow."""
    return 0.5 * (1.0 + np.tanh(distance / (2.0 * width)))


def _bump(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((distance / width) ** 2))


def _lateral_edge(patient: _Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far from the middle the rib cage's inside lies at height y, on the side of x."""
    rise = np.clip((y - patient.apex) / (0.62 - patient.apex), 0.0, 1.0)
    width = np.where(x < 0, *np.float32(patient.lung_widths))
    return _APEX + (width - _APEX) * (1.0 - (1.0 - rise) ** 2.6) ** 0.66


def _dome(patient: _Patient, outward: np.ndarray, right: bool) -> np.ndarray:
    """The height of the diaphragm."""
    top = patient.diaphragm[0] if right else patient.diaphragm[1]
    return top + 0.62 * (outward - 0.30) ** 2 + 0.25 * np.clip(outward - 0.52, 0.0, None)


def _lungs(patient: _Patient, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Soft masks in 0..1 of the patient's right lung (at the left of the image) and left lung."""
    found = []
    top = np.clip((y - patient.apex) / 0.24, 0.0, 1.0)
    for outward, right in ((-x, True), (x, False)):
        bulge = (
            0.09 * _bump(y - 0.32, 0.22)
            if right
            else (patient.heart - 0.02) * _step(y - 0.22, 0.10)
        )
        knob = 0.0 if right else 0.055 * _bump(y + 0.34, 0.08)
        middle = 0.125 + bulge + knob + 0.045 * _bump(y + 0.06, 0.12)
        middle = middle + (_APEX - middle) * (1.0 - np.sqrt(1.0 - (1.0 - top) ** 2))
        found.append(
            _step(outward - middle, 0.013)
            * _step(_lateral_edge(patient, x, y) - outward, 0.010)
            * _step(_dome(patient, outward, right) - y, 0.010)
            * _step(y - patient.apex, 0.010)
        )
    return found[0], found[1]


def _attenuation(
    patient: _Patient,
    x: np.ndarray,
    y: np.ndarray,
    lungs: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """How much the body weakens the beam, roughly 0 (air) to 1.3 (spine behind the heart)."""
    across = np.abs(x)
    field = np.clip(lungs[0] + lungs[1], 0.0, 1.0)
    tissue = _tissue(patient, x, y, rng)
    # Lungs are air: what is left in front of and behind them is thickest towards the middle and the base.
    inside = (
        0.24
        + 0.07 * _step(y - 0.25, 0.18)
        + 0.05 * _bump(across - 0.15, 0.16)
        + 0.05 * _step(-0.55 - y, 0.08)
    )
    total = tissue * (1.0 - field) + tissue * inside * field
    total += (
        0.17
        * _bump(across, 0.115)
        * _step(y + 1.1, 0.1)
        * (0.75 + 0.25 * np.cos(2 * np.pi * (y + 0.06 * x) / 0.125))
    )
    total -= 0.14 * _bump(x - 0.012, 0.035) * _step(-0.22 - y, 0.05)
    total += 0.13 * _bump(np.hypot((x - 0.13) / 1.0, (y + 0.33) / 1.1), 0.085)
    total += _bones(patient, x, y) + _vessels(rng, x.shape) * field
    return (
        total
        + 0.012 * field * _texture(rng, _DRAWN_SIDE // 2)
        + 0.020 * _texture(rng, 14)
        + 0.008 * _texture(rng, 60)
    )


def _texture(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Uneven tissue: smooth noise with about one hill in each of `cells` by `cells` places."""
    return _enlarge(rng.standard_normal((cells, cells), dtype=np.float32), _DRAWN_SIDE)


def _tissue(
    patient: _Patient, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Chest wall, shoulders, neck, mediastinum, heart and belly, without what the lungs take away."""
    across = np.abs(x)
    shoulder = -0.93 + 0.34 * np.clip(across - 0.22, 0.0, None) ** 1.3
    trunk = _step(y - shoulder, 0.030) * _step(0.95 + 0.16 * _step(-0.20 - y, 0.10) - across, 0.030)
    neck = _step(0.25 - across, 0.04) * _step(-0.70 - y, 0.05)
    body = np.maximum(trunk, neck) * (0.62 + 0.10 * patient.tissue)
    body *= 1.0 - 0.22 * np.clip(across - 0.72, 0.0, None) / 0.28
    heart = np.hypot((x - 0.10 - 0.30 * (y - 0.34)) / (patient.heart + 0.02), (y - 0.34) / 0.30)
    body += 0.16 * _bump(across, 0.17) * _step(0.95 - y, 0.1) + 0.14 * _step(1.0 - heart, 0.07)
    body += 0.16 * _step(y - 0.60, 0.07)
    bubble = np.hypot(
        (x - rng.uniform(0.30, 0.42)) / 0.13,
        (y - patient.diaphragm[1] - rng.uniform(0.14, 0.20)) / 0.075,
    )
    body -= rng.uniform(0.0, 0.25) * _step(1.0 - bubble, 0.12)
    breast = _bump(np.hypot((across - 0.42) / 1.1, (y - 0.34) / 0.9), rng.uniform(0.22, 0.32))
    return body + rng.uniform(0.0, 0.10) * breast


def _bones(patient: _Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    across = np.abs(x)
    edge = _lateral_edge(patient, x, y) + 0.05
    cage = (
        _step(edge - across, 0.010) * _step(0.72 - y, 0.05) * _step(y - patient.apex - 0.02, 0.03)
    )
    # All ribs of a kind at once: the distance to the nearest of a family of parallel curves.
    back = y + 0.10 * np.sin(np.pi * np.clip(across, 0, 0.8) / 0.62) - patient.rib_slope * across**2
    front = y + 0.62 * np.clip(across, 0.0, 1.0) - 0.30
    total = (
        0.120
        * _rib(back, patient.spacing, patient.rib_phase, 0.031)
        * cage
        * _step(across - 0.06, 0.02)
    )
    total += (
        0.034
        * _rib(front, patient.spacing, patient.rib_phase + 0.35, 0.034)
        * cage
        * _step(across - 0.34, 0.05)
        * _step(y + 0.45, 0.08)
    )
    total += (
        0.09
        * _bump(across - edge + 0.022, 0.020)
        * _step(0.66 - y, 0.05)
        * _step(y - patient.apex, 0.03)
    )
    collar = y + 0.56 + 0.22 * across + 0.040 * np.sin(2 * np.pi * np.clip(across, 0, 1) / 0.75)
    total += 0.17 * _plate(collar, 0.032) * _step(across - 0.08, 0.015) * _step(0.84 - across, 0.03)
    return total + _shoulders(across, y)


def _shoulders(across: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shoulder blades, a thin triangle with a denser border and spine each, and the heads of the arms."""
    border = across - 0.66 - 0.22 * (y + 0.30)
    below, tip = y + 0.66 - 0.25 * (across - 0.66), 0.10 - 0.45 * (across - 0.60) - y
    plate = _step(border, 0.010) * _step(below, 0.02) * _step(tip, 0.03)
    rim = _bump(border - 0.010, 0.014) * _step(below, 0.02) * _step(tip, 0.03)
    spine = _plate(y + 0.54 + 0.28 * (across - 0.66), 0.030) * _step(border, 0.02)
    head = _step(0.125 - np.hypot(across - 0.99, y + 0.56), 0.012)
    return 0.045 * plate + 0.05 * rim + 0.07 * spine + 0.10 * head


def _rib(height: np.ndarray, spacing: float, phase: float, thickness: float) -> np.ndarray:
    turns = height / spacing + phase
    return _plate((turns - np.rint(turns)) * spacing, thickness)


def _plate(distance: np.ndarray, thickness: float) -> np.ndarray:
    """The shadow of a tube: its walls are denser than its middle."""
    relative = (distance / thickness) ** 2
    return np.exp(-(relative**3)) * (0.65 + 0.45 * np.minimum(relative, 1.0))


def _vessels(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Branches from each hilum outwards, thinning as they go."""
    canvas = Image.new("L", shape[::-1])
    pen, unit = ImageDraw.Draw(canvas), shape[0] / 2
    for outward in (-1.0, 1.0):
        for _ in range(17):
            place = outward * 0.17, rng.uniform(-0.12, 0.14)
            _branch(pen, rng, unit, place, rng.uniform(-1.25, 1.25), outward, rng.uniform(3.0, 6.0))
    drawn = np.asarray(canvas, np.float32) / 255.0
    return 0.20 * ndimage.gaussian_filter(drawn, 0.8) + 0.06 * ndimage.gaussian_filter(drawn, 5.0)


def _branch(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    unit: float,
    place: tuple[float, float],
    angle: float,
    outward: float,
    width: float,
) -> None:
    while width > 0.7:
        angle += rng.normal(0.0, 0.16)
        end = place[0] + 0.075 * outward * math.cos(angle), place[1] + 0.075 * math.sin(angle)
        pen.line(
            [(1.0 + value) * unit for value in (*place, *end)],
            int(min(255, 70 + 42 * width)),
            max(1, round(width)),
        )
        if rng.random() < 0.45 and width > 1.3:
            _branch(
                pen,
                rng,
                unit,
                end,
                angle + (0.6 if rng.random() < 0.5 else -0.6),
                outward,
                width * 0.6,
            )
        place, width = end, width * 0.80


def _opacities(
    x: np.ndarray, y: np.ndarray, aerated: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Patchy, hazy attenuation, mostly in the periphery and at the base of both lungs."""
    patches = np.zeros_like(x)
    severity = rng.uniform(0.55, 1.0)
    clouds = ndimage.gaussian_filter(rng.standard_normal(x.shape, dtype=np.float32), 5.0)
    clouds = 0.75 + 0.35 * np.clip(clouds / clouds.std(), -1.5, 1.5)
    for number in range(int(rng.integers(4, 9))):
        outward = (-1.0, 1.0)[number % 2] if rng.random() < 0.85 else rng.choice([-1.0, 1.0])
        place = outward * rng.triangular(0.25, 0.60, 0.66), rng.triangular(-0.35, 0.40, 0.48)
        size = rng.uniform(0.10, 0.19), rng.uniform(0.09, 0.17)
        patch = np.exp(-(np.hypot((x - place[0]) / size[0], (y - place[1]) / size[1]) ** 3))
        patches = np.maximum(patches, rng.uniform(0.6, 1.0) * patch)
    hazy = 0.70 * severity * patches * clouds * aerated
    return hazy * np.clip(
        (hazy - 0.02) / 0.03, 0.0, 1.0
    )  # The faint fringe goes, so that the mask holds all that changed.


def _enlarge(values: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(
        Image.fromarray(values.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    )


def _expose(attenuation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From attenuation to a film: exposure, contrast curve, grain, marker and collimation, none of which sees the label."""
    side = len(attenuation)
    level, contrast, curve = (
        rng.uniform(-0.10, 0.16),
        rng.uniform(0.72, 1.12),
        rng.uniform(0.75, 1.45),
    )
    film = (np.clip(attenuation * contrast + level, 0.0, 1.4) / 1.15) ** curve
    film = film / np.sqrt(
        np.sqrt(1.0 + np.square(np.square(film)))
    )  # The shoulder of the film: whites run out gently.
    noise = rng.standard_normal((side, side), dtype=np.float32)
    film = film + rng.uniform(0.006, 0.022) * ndimage.gaussian_filter(noise, 0.0012 * side) * (
        0.4 + film
    )
    film = _collimate(_mark(film, rng), rng)
    return np.clip(np.rint(film * 255.0), 0, 255).astype(np.uint8)


def _mark(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Burns a side marker into a corner, at random in both classes."""
    letter, chance, corner = "RL"[rng.integers(2)], rng.random(), rng.uniform(0.03, 0.09, 2)
    if chance < 0.4:
        return film
    side = len(film)
    canvas = Image.new("L", (side, side))
    place = (corner[0] if letter == "R" else 0.92 - corner[0]) * side, corner[1] * side
    ImageDraw.Draw(canvas).text(place, letter, fill=255, font_size=max(8, int(0.055 * side)))
    return np.maximum(film, 0.95 * np.asarray(canvas, np.float32) / 255.0)


def _collimate(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darkens strips at the borders, as the collimator's blades do."""
    widths, chance = rng.uniform(0.0, 0.035, 4) * len(film), rng.random()
    if chance < 0.6:
        return film
    top, bottom, left, right = widths.astype(int)
    open_part = np.full_like(film, 0.06)
    inside = slice(top, len(film) - bottom), slice(left, len(film) - right)
    open_part[inside] = 1.0
    return film * open_part
