"""The anatomy of a phantom: lungs, tissue, bones and vessels as attenuation of the beam.

    anatomy = phantom_anatomy.draw(rng)
    anatomy.attenuation, anatomy.lungs

Lengths are fractions of half the image's side. The origin is its centre; x grows to the right, y
downwards. Anatomy is smooth, so it is drawn at `DRAWN_SIDE` and enlarged; grain and letters are
added at full size.
"""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

DRAWN_SIDE = 256  # Pixels.

_APEX = 0.26  # Distance of the lungs' highest point from the middle.
# With a margin: the film is this much wider, and the patient is moved upwards.
_WIDE_SCALE = 1.20
_WIDE_SHIFT = -0.05


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """One patient in front of the detector; arrays are [256, 256] float32 or float64.

    Attributes:
      x: coordinate of each pixel within the patient.
      y: coordinate of each pixel within the patient.
      lungs: soft mask of both lungs, 0 to 1.
      attenuation: 0 (air) to about 1.3 (spine behind the heart).
      markings: the share of the attenuation that is lung: vessels and texture.
    """

    x: np.ndarray
    y: np.ndarray
    lungs: np.ndarray
    attenuation: np.ndarray
    markings: np.ndarray


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


def draw(rng: np.random.Generator, margin: bool = False) -> Anatomy:
    """Draws a patient.

    Args:
      rng: the source of all proportions and textures.
      margin: whether the film shows more around the same patient, so that the lungs stay out of
        its corners and border.
    """
    patient = _sample_patient(rng)
    if margin:
        across, down = patient.shift
        patient = dataclasses.replace(
            patient, scale=_WIDE_SCALE * patient.scale, shift=(across, down + _WIDE_SHIFT)
        )
    x, y = _coordinates(patient, rng)  # [256, 256] each, about -1 to 1.
    lungs = _lungs(patient, x, y)
    tissue = _tissue(patient, x, y, rng)
    vessels = _vessels(rng, x.shape) * lungs
    texture = 0.012 * lungs * _texture(rng, DRAWN_SIDE // 2)
    attenuation = (
        _soft_tissue(tissue, x, y, lungs)
        + (_bones(patient, x, y) + vessels)
        + texture
        + 0.020 * _texture(rng, 14)
        + 0.008 * _texture(rng, 60)
    )
    return Anatomy(x, y, lungs, attenuation, vessels + texture)


def enlarge(values: np.ndarray, side: int) -> np.ndarray:
    """Resamples a square to [side, side] float32, bicubic."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def _sample_patient(rng: np.random.Generator) -> _Patient:
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
    # Single precision throughout takes half the time.
    line = np.linspace(-1.0, 1.0, DRAWN_SIDE, dtype=np.float32)
    x, y = np.meshgrid(line - patient.shift[0], line - patient.shift[1])  # [256, 256]
    cosine = math.cos(patient.angle) * patient.scale
    sine = math.sin(patient.angle) * patient.scale
    # No body is straight: a smooth field of 7 x 7 nodes displaces the pixels.
    bend = 0.016 * rng.standard_normal((2, 7, 7), dtype=np.float32)
    return (
        cosine * x - sine * y + enlarge(bend[0], DRAWN_SIDE),
        sine * x + cosine * y + enlarge(bend[1], DRAWN_SIDE),
    )


def _step(distance: np.ndarray, width: float) -> np.ndarray:
    # From 0 to 1 across an edge: the logistic function, safe from overflow.
    return 0.5 * (1.0 + np.tanh(distance / (2.0 * width)))


def _bump(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((distance / width) ** 2))


def _lateral_edge(patient: _Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # The distance from the middle to the rib cage, at height y.
    rise = np.clip((y - patient.apex) / (0.62 - patient.apex), 0.0, 1.0)
    right_width, left_width = np.array(patient.lung_widths, np.float32)
    width = np.where(x < 0, right_width, left_width)
    return _APEX + (width - _APEX) * (1.0 - (1.0 - rise) ** 2.6) ** 0.66


def _lungs(patient: _Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    right_bulge = 0.09 * _bump(y - 0.32, 0.22)
    # The heart and the aortic knob indent the left lung.
    left_bulge = (patient.heart - 0.02) * _step(y - 0.22, 0.10)
    knob = 0.055 * _bump(y + 0.34, 0.08)
    top = np.clip((y - patient.apex) / 0.24, 0.0, 1.0)
    masks = []
    # The right lung is at the left of the image.
    sides = ((-x, 0.125 + right_bulge), (x, 0.125 + left_bulge + knob))
    for (outward, middle), diaphragm in zip(sides, patient.diaphragm, strict=True):
        middle = middle + 0.045 * _bump(y + 0.06, 0.12)
        # Towards the apex the lungs end in an arc.
        middle = middle + (_APEX - middle) * (1.0 - np.sqrt(1.0 - (1.0 - top) ** 2))
        dome = diaphragm + 0.62 * (outward - 0.30) ** 2 + 0.25 * np.clip(outward - 0.52, 0.0, None)
        masks.append(
            _step(outward - middle, 0.013)
            * _step(_lateral_edge(patient, x, y) - outward, 0.010)
            * _step(dome - y, 0.010)
            * _step(y - patient.apex, 0.010)
        )
    return np.clip(masks[0] + masks[1], 0.0, 1.0)


def _soft_tissue(tissue: np.ndarray, x: np.ndarray, y: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    # The body with its lungs, spine, trachea and aortic knob.
    across = np.abs(x)
    # Lungs are air: the tissue before and behind them is thickest near the middle and the base.
    inside = (
        0.24
        + 0.07 * _step(y - 0.25, 0.18)
        + 0.05 * _bump(across - 0.15, 0.16)
        + 0.05 * _step(-0.55 - y, 0.08)
    )
    discs = 0.75 + 0.25 * np.cos(2 * np.pi * (y + 0.06 * x) / 0.125)
    return (
        tissue * (1.0 - lungs)
        + tissue * inside * lungs
        # The spine with its discs.
        + 0.17 * _bump(across, 0.115) * _step(y + 1.1, 0.1) * discs
        # The trachea.
        - 0.14 * _bump(x - 0.012, 0.035) * _step(-0.22 - y, 0.05)
        # The aortic knob.
        + 0.13 * _bump(np.hypot((x - 0.13) / 1.0, (y + 0.33) / 1.1), 0.085)
    )


def _texture(rng: np.random.Generator, cells: int) -> np.ndarray:
    # Smooth noise: about one hill in each of `cells` by `cells` squares.
    return enlarge(rng.standard_normal((cells, cells), dtype=np.float32), DRAWN_SIDE)


def _tissue(
    patient: _Patient, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    # Chest wall, shoulders, neck, mediastinum, heart and belly, without air.
    across = np.abs(x)
    shoulder = -0.93 + 0.34 * np.clip(across - 0.22, 0.0, None) ** 1.3
    flank = 0.95 + 0.16 * _step(-0.20 - y, 0.10)
    trunk = _step(y - shoulder, 0.030) * _step(flank - across, 0.030)
    neck = _step(0.25 - across, 0.04) * _step(-0.70 - y, 0.05)
    # More or less tissue changes the exposure of the whole chest.
    body = np.maximum(trunk, neck) * (0.62 + 0.10 * patient.tissue)
    body *= 1.0 - 0.22 * np.clip(across - 0.72, 0.0, None) / 0.28
    # The heart leans to the patient's left.
    heart = np.hypot((x - 0.10 - 0.30 * (y - 0.34)) / (patient.heart + 0.02), (y - 0.34) / 0.30)
    body += 0.16 * _bump(across, 0.17) * _step(0.95 - y, 0.1) + 0.14 * _step(1.0 - heart, 0.07)
    body += 0.16 * _step(y - 0.60, 0.07)
    # The air bubble of the stomach, below the left diaphragm.
    bubble = np.hypot(
        (x - rng.uniform(0.30, 0.42)) / 0.13,
        (y - patient.diaphragm[1] - rng.uniform(0.14, 0.20)) / 0.075,
    )
    body -= rng.uniform(0.0, 0.25) * _step(1.0 - bubble, 0.12)
    # Breasts, from none to dense.
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
    back_ribs = _rib(back, patient.spacing, patient.rib_phase, 0.031)
    front = y + 0.62 * np.clip(across, 0.0, 1.0) - 0.30
    front_ribs = _rib(front, patient.spacing, patient.rib_phase + 0.35, 0.034)
    # The collarbone, an S-shaped curve.
    collar = y + 0.56 + 0.22 * across + 0.040 * np.sin(2 * np.pi * np.clip(across, 0, 1) / 0.75)
    # A blade is a thin triangle with a denser border and spine; the arms show their heads.
    border = across - 0.66 - 0.22 * (y + 0.30)
    below = y + 0.66 - 0.25 * (across - 0.66)
    tip = 0.10 - 0.45 * (across - 0.60) - y
    plate = _step(border, 0.010) * _step(below, 0.02) * _step(tip, 0.03)
    rim = _bump(border - 0.010, 0.014) * _step(below, 0.02) * _step(tip, 0.03)
    spine = _plate(y + 0.54 + 0.28 * (across - 0.66), 0.030) * _step(border, 0.02)
    head = _step(0.125 - np.hypot(across - 0.99, y + 0.56), 0.012)
    return (
        0.120 * back_ribs * cage * _step(across - 0.06, 0.02)
        + 0.034 * front_ribs * cage * _step(across - 0.34, 0.05) * _step(y + 0.45, 0.08)
        # Ribs seen edge-on form a bright line along the cage.
        + 0.09
        * _bump(across - edge + 0.022, 0.020)
        * _step(0.66 - y, 0.05)
        * _step(y - patient.apex, 0.03)
        # The collarbones end before the shoulder.
        + 0.17 * _plate(collar, 0.032) * _step(across - 0.08, 0.015) * _step(0.84 - across, 0.03)
        + (0.045 * plate + 0.05 * rim + 0.07 * spine + 0.10 * head)
    )


def _rib(height: np.ndarray, spacing: float, phase: float, thickness: float) -> np.ndarray:
    turns = height / spacing + phase
    return _plate((turns - np.rint(turns)) * spacing, thickness)


def _plate(distance: np.ndarray, thickness: float) -> np.ndarray:
    # The shadow of a tube, whose walls are denser than its middle.
    relative = (distance / thickness) ** 2
    return np.exp(-(relative**3)) * (0.65 + 0.45 * np.minimum(relative, 1.0))


def _vessels(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    # Branches from each hilum outwards, thinning as they extend.
    canvas = Image.new("L", shape[::-1])
    pen = ImageDraw.Draw(canvas)
    for outward in (-1.0, 1.0):
        for _ in range(17):
            _branch(
                pen,
                rng,
                start=(outward * 0.17, rng.uniform(-0.12, 0.14)),
                angle=rng.uniform(-1.25, 1.25),
                outward=outward,
                width=rng.uniform(3.0, 6.0),
            )
    branches = np.asarray(canvas, np.float32) / 255.0  # [256, 256]
    # Sharp branches, and a haze of those too fine to see.
    sharp = ndimage.gaussian_filter(branches, 0.8)
    return 0.20 * sharp + 0.06 * ndimage.gaussian_filter(branches, 5.0)


def _branch(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    outward: float,
    width: float,
) -> None:
    while width > 0.7:
        angle += rng.normal(0.0, 0.16)
        end = (
            start[0] + 0.075 * outward * math.cos(angle),
            start[1] + 0.075 * math.sin(angle),
        )
        points = [(1.0 + value) * (DRAWN_SIDE / 2) for value in (*start, *end)]  # Pixels.
        pen.line(points, int(min(255, 70 + 42 * width)), max(1, round(width)))
        if rng.random() < 0.45 and width > 1.3:
            # About 34 degrees to either side.
            turn = 0.6 if rng.random() < 0.5 else -0.6
            _branch(pen, rng, end, angle + turn, outward, width * 0.6)
        start = end
        width *= 0.80
