"""Maps of evidence over the radiograph, as the page shows them and predict writes them.

picture = overlay(film, onto_film(evidence, film, square.box), opacity=0.6)
folder = MapFolder(Path("maps"), model)
"""

import re
from pathlib import Path, PurePosixPath

import numpy as np
from matplotlib import colormaps
from PIL import Image

from trainer.data import radiograph
from trainer.data.radiograph import Radiograph
from trainer.data.views import Square
from trainer.errors import UserError
from trainer.inference.runtime import Model, Prediction

LONGEST = 1000
"""Longer side of a drawn radiograph, in pixels."""

OPACITY = 0.6
"""Of the strongest evidence over the radiograph."""

_MAX_NAME = 100  # Bytes of a file's own name, and of a finding's, in the name of a picture.


def overlay(
    film: np.ndarray, evidence: np.ndarray, opacity: float, full: float = 0.0
) -> np.ndarray:
    """Draws the evidence over the radiograph in a palette for colour-blind eyes.

    Args:
      film: [height, width] uint8.
      evidence: [height, width] float32, 0 or more.
      opacity: of the strongest evidence, in 0..1.
      full: value of the strongest colour; evidence whose maximum is higher is scaled to that.

    Returns:
      [height, width, 3] uint8.
    """
    # A map without evidence must not divide by 0.
    strength = evidence / (max(evidence.max(), full) or 1.0)
    colours = colormaps["plasma"](strength)[..., :3] * 255.0  # [height, width, 3]
    alpha = (opacity * strength)[..., None]  # [height, width, 1]
    return np.rint(film[..., None] * (1.0 - alpha) + colours * alpha).astype(np.uint8)


def onto_film(
    evidence: np.ndarray, film: np.ndarray, box: tuple[float, float, float, float]
) -> np.ndarray:
    """Resizes the map of a square to its box on the film.

    Args:
      evidence: [side, side] float32.
      film: [height, width].
      box: of the square, as shares of the film.

    Returns:
      [height, width] float32, 0 outside the box.
    """
    height, width = film.shape
    x0, y0, x1, y1 = np.rint(np.array(box) * (width, height, width, height)).astype(int)
    stretched = Image.fromarray(evidence).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
    placed = np.zeros(film.shape, np.float32)
    placed[y0:y1, x0:x1] = np.asarray(stretched)
    return placed


class MapFolder:
    """A folder of pictures: the map of each answered radiograph over the film.

    Files are called NUMBER_NAME.png by the row of the table and the file, with the finding where
    there are several.
    """

    def __init__(self, folder: Path, model: Model, overwrite: bool = False) -> None:
        """Makes the folder.

        Args:
          folder: for the pictures.
          model: whose maps are drawn.
          overwrite: whether the folder may hold files.

        Raises:
          UserError: the folder holds files or cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not overwrite and any(folder.iterdir()):
                raise UserError(
                    f"{folder} holds files; give another --maps, or --overwrite to replace them."
                )
        except OSError as error:
            raise UserError(
                f"cannot write to {folder} ({error.strerror}); give another --maps."
            ) from error
        self._folder = folder
        self._model = model
        self._parts = _name_findings(model.facts["class_names"])

    def write(
        self,
        number: int,
        name: str,
        image: Radiograph,
        answer: tuple[Prediction, Square, dict[str, np.ndarray]],
    ) -> list[str]:
        """Draws the maps of one radiograph.

        Args:
          number: of its row.
          name: of its source.
          image: the radiograph.
          answer: as `Model.explain_radiograph` gives it.

        Returns:
          The names of the pictures: one; of several findings one for each that is called, or for
          the most probable one. None where the image is refused.

        Raises:
          UserError: a picture cannot be written.
        """
        prediction, square, evidence = answer
        if prediction.verdict == "refused":
            return []
        film = radiograph.shrink(image, LONGEST)
        opacity_map = self._model.opacity_map
        full = opacity_map["full"] if opacity_map else 0.0
        written = []
        for finding in self._shown(prediction, evidence):
            placed = onto_film(evidence[finding], film, square.box)
            picture = Image.fromarray(overlay(film, placed, OPACITY, full))
            parts = [f"{number:05d}", _safe(PurePosixPath(name).stem)]
            parts += [self._parts[finding]] if self._model.multi_label else []
            file = "_".join(parts) + ".png"
            try:
                picture.save(self._folder / file)
            except OSError as error:
                raise UserError(
                    f"cannot write {self._folder / file} ({error.strerror}); give another --maps."
                ) from error
            written.append(file)
        return written

    def _shown(self, prediction: Prediction, evidence: dict[str, np.ndarray]) -> list[str]:
        if not self._model.multi_label:
            return list(evidence)
        called = [name for name in prediction.label.split("|") if name in evidence]
        return called or [max(evidence, key=lambda name: prediction.probabilities[name])]


def _name_findings(findings: list[str]) -> dict[str, str]:
    """Maps each finding to its part of a file name; no two to the same one, in any letter case."""
    parts = [_safe(finding) for finding in findings]
    if len({text.casefold() for text in parts}) < len(parts):  # As <3cm and >3cm.
        parts = [f"{index}-{text}" for index, text in enumerate(parts)]
    return dict(zip(findings, parts, strict=True))


def _safe(text: str) -> str:
    safe = re.sub(r"[^\w.-]+", "-", text)
    return safe.encode("utf-8")[:_MAX_NAME].decode("utf-8", "ignore")
