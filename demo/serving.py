"""The content of the page and its API: pure functions from files to plain values and images.

served = serving.open_run(Path("runs/mine"))
serving.as_json(served, serving.predict(served, Path("chest.dcm")))
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.data import archive, lungs, radiograph
from trainer.errors import UserError
from trainer.inference import batch, formats, overlay, runtime, sources
from trainer.inference.sources import Source
from trainer.inference.tested import Predictions, read_predictions
from trainer.workdir import locate

MAX_FILES = 200
_MAX_TITLE_NAMES = 4  # Of findings, in the page's title.


@dataclasses.dataclass(frozen=True)
class Served:
    """A finished run, opened for the page.

    Attributes:
      model: the export.
      metrics: metrics.json.
      evaluation: evaluation/test/evaluation.json, or empty.
      audit: audit/audit.json, or empty.
      folder: the workdir.
      tested: the predictions on test; None where there are none.
    """

    model: runtime.Model
    metrics: dict[str, Any]
    evaluation: dict[str, Any]
    audit: dict[str, Any]
    folder: Path
    tested: Predictions | None = None

    @property
    def title(self) -> str:
        """The question that the model answers."""
        names = self.model.facts["class_names"]
        if self.model.multi_label:
            shown = ", ".join(names[:_MAX_TITLE_NAMES])
            return f"{shown}{' …' if len(names) > _MAX_TITLE_NAMES else ''}?"
        return f"{' or '.join(names)}?"

    @property
    def calibrated(self) -> list[str]:
        """The classes or findings whose temperature was fitted and kept."""
        names = self.model.facts["class_names"]
        fitted = self.model.facts.get("calibration") or {}
        # Findings have a temperature each, classes one together.
        each = fitted.get("findings") or dict.fromkeys(names, fitted)
        return [name for name in names if each[name].get("kept")]

    @property
    def has_predictive_values(self) -> bool:
        """Tells whether test says what an answer means: of several classes none is positive."""
        tested = self.tested
        return tested is not None and (tested.multi_label or tested.positive_index is not None)

    @property
    def warnings(self) -> list[str]:
        """Sentences to show above every prediction."""
        warnings = []
        if self.model.facts["synthetic"]:
            warnings.append(
                "This model was trained on synthetic data: drawn images, not radiographs of "
                "people. Its answers say nothing about patients."
            )
        comparison = self.metrics.get("comparison", {})
        if comparison.get("warns"):
            warnings.append(comparison["sentence"])
        return warnings


@dataclasses.dataclass(frozen=True)
class Result:
    """The prediction for one radiograph, with its images.

    Attributes:
      prediction: of the model.
      film: [height, width] uint8, the radiograph in its own aspect ratio.
      evidence: class or finding → map of its square, [side, side] float32, 0 or more; empty for a
        refused image.
      box: of that square, as shares of the film.
      lungs: [height, width] bool, both lungs; None where they were not found.
      full: the evidence of a complete opacity, where the model maps opacities; else 0.
    """

    prediction: runtime.Prediction
    film: np.ndarray
    evidence: dict[str, np.ndarray]
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    lungs: np.ndarray | None = None
    full: float = 0.0

    @property
    def first_shown(self) -> str | None:
        """The class or finding whose map is shown first: the most probable; None without maps."""
        probabilities = self.prediction.probabilities
        return max(self.evidence, key=lambda name: probabilities[name], default=None)

    def evidence_on_film(self, name: str | None) -> np.ndarray | None:
        """Returns a map at the size of the film, [height, width] float32; None without one.

        Args:
          name: class or finding; the first shown where it has no map.
        """
        shown = name if name in self.evidence else self.first_shown
        if shown is None:
            return None
        return overlay.onto_film(self.evidence[shown], self.film, self.box)


def open_run(folder: Path) -> Served:
    """Opens a finished run, or the one that a file lies in.

    Raises:
      UserError: the run is not finished or holds no export.
    """
    model = runtime.load(folder)
    folder = locate(folder)
    names = ("metrics.json", "evaluation/test/evaluation.json", "audit/audit.json")
    # A run may have been trained without an audit.
    metrics, evaluation, audit = [
        json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).exists() else {}
        for name in names
    ]
    path = folder / "predictions" / "test.csv"
    tested = read_predictions(path, model.facts["positive_class"]) if path.exists() else None
    return Served(model, metrics, evaluation, audit, folder, tested)


def newest_run(runs: Path = Path("runs")) -> Path:
    """Returns the newest finished run below a folder.

    Raises:
      UserError: there is none.
    """
    # A run's first export is ONNX: trainer.main writes it.
    finished = [
        path
        for path in runs.glob("*/metrics.json")
        if (path.parent / "model" / formats.FILE_NAMES["onnx"]).exists()
    ]
    if not finished:
        raise UserError("no finished run under runs/; make one: make train")
    return max(finished, key=lambda path: path.stat().st_mtime).parent


def predict(served: Served, path: Path) -> Result:
    """Reads one file and predicts for it.

    Raises:
      UserError: the file is no radiograph; the message does not hold its name.
    """
    if archive.recognize_file(path):
        raise UserError(
            "the file is an archive; send it under “Many files”, or to the endpoint classify_batch."
        )
    # A file name may hold a patient's name; messages and logs must not.
    image = radiograph.read(path, name="the file")
    prediction, square, evidence = served.model.explain_radiograph(image)
    film = radiograph.shrink(image, overlay.LONGEST)
    opacity_map = served.model.opacity_map
    return Result(
        prediction=prediction,
        film=film,
        evidence={} if prediction.verdict == "refused" else evidence,
        box=square.box,
        lungs=_find_lungs(film),
        full=opacity_map["full"] if opacity_map else 0.0,
    )


def _find_lungs(film: np.ndarray) -> np.ndarray | None:
    # [height, width] uint8 → [height, width] bool.
    fields = lungs.find(radiograph.standardize(film)[None, ..., None])
    if not fields.certain[0]:
        return None
    size = (film.shape[1], film.shape[0])
    return np.array(Image.fromarray(fields.masks[0]).resize(size, Image.Resampling.NEAREST))


def as_json(served: Served, result: Result) -> dict[str, Any]:
    """Converts a prediction to the API's JSON; a refused image has no probabilities."""
    prediction = result.prediction
    return {
        "verdict": prediction.verdict,
        "label": prediction.label or None,
        "probabilities": None if prediction.verdict == "refused" else prediction.probabilities,
        "reason": prediction.reason,
        "threshold": served.model.facts.get("threshold"),
        "unsure": served.model.facts.get("unsure"),
        "synthetic": served.model.facts["synthetic"],
        "warnings": served.warnings,
        "medical_device": False,
    }


def describe_model(served: Served) -> dict[str, Any]:
    """Describes the model for the API: classes, scores with intervals, controls."""
    metrics = served.metrics
    return {
        "model": metrics.get("model"),
        "dataset": metrics.get("dataset", {}).get("name"),
        "class_names": served.model.facts["class_names"],
        "multi_label": served.model.multi_label,
        "positive_class": served.model.facts["positive_class"],
        "synthetic": served.model.facts["synthetic"],
        "temperature": served.model.facts.get("temperature"),
        "threshold": served.model.facts.get("threshold"),
        "unsure": served.model.facts.get("unsure"),
        "test": metrics.get("test"),
        "controls": metrics.get("controls"),
        "comparison": metrics.get("comparison", {}).get("sentence"),
        "warnings": served.warnings,
        "medical_device": False,
    }


def list_upload(paths: list[Path]) -> list[Source]:
    """Lists the files of an upload, zips opened, named without their folders.

    Raises:
      UserError: there are more than `MAX_FILES`.
    """
    listed = list(sources.list_sources(paths))
    if len(listed) > MAX_FILES:
        raise UserError(
            f"{len(listed)} files are too many for one batch; send at most {MAX_FILES}, "
            "or use trainer.predict."
        )
    # The folders are the server's.
    return [dataclasses.replace(source, name=Path(source.name).name) for source in listed]


def predict_rows(
    served: Served,
    listed: list[Source],
    progress: Callable[[float], object] = lambda _: None,
) -> list[dict[str, str]]:
    """Predicts for each file of an upload.

    Args:
      served: the run.
      listed: the files, as `list_upload` gives them.
      progress: called with the share that is done, in 0..1, after each file.

    Returns:
      One row a file, its keys ordered as `batch.columns`.
    """
    rows = []
    for row in batch.predict_rows(served.model, listed):
        rows.append(row)
        progress(len(rows) / len(listed))
    return rows
