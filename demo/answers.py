"""What the page and its API say of a file: pure functions from bytes on disk to plain values and pictures."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from trainer.data import radiograph
from trainer.errors import UserError
from trainer.inference import batch, runtime
from trainer.inference.runtime import Answer, Model

MOST_FILES = 200
_SHOWN_NAME = "the file"  # Names may hold a patient's; they are never logged or put into a message.


@dataclasses.dataclass(frozen=True)
class Served:
    """A finished run as the page serves it.

    Attributes:
      model: the export.
      metrics: metrics.json.
      evaluation: evaluation/test/evaluation.json, or empty.
      audit: audit/audit.json, or empty.
      folder: the workdir.
    """

    model: Model
    metrics: dict[str, Any]
    evaluation: dict[str, Any]
    audit: dict[str, Any]
    folder: Path

    @property
    def warnings(self) -> list[str]:
        """What must stand above every answer."""
        found = []
        if self.model.facts["synthetic"]:
            found.append(
                "This model was trained on synthetic data: drawn images, not radiographs of "
                "people. Its answers say nothing about patients."
            )
        comparison = self.metrics.get("comparison", {})
        if comparison.get("warns"):
            found.append(comparison["sentence"])
        return found


@dataclasses.dataclass(frozen=True)
class Seen:
    """One radiograph, answered.

    Attributes:
      answer: what the model says.
      square: [side, side] uint8, as the model saw it.
      evidence: [side, side] float32, 0 or more; None where it is refused.
    """

    answer: Answer
    square: np.ndarray
    evidence: np.ndarray | None


def open_run(folder: Path) -> Served:
    """Opens a finished run.

    Raises:
      UserError: it is not finished or holds no export.
    """
    model = runtime.load(folder)
    values = [
        json.loads(path.read_text()) if (path := folder / name).exists() else {}
        for name in ("metrics.json", "evaluation/test/evaluation.json", "audit/audit.json")
    ]
    return Served(model, *values, folder)


def newest_run(runs: Path = Path("runs")) -> Path:
    """The newest finished run under runs/.

    Raises:
      UserError: there is none.
    """
    finished = [
        path.parents[1]
        for path in runs.glob("*/model/model.onnx")
        if (path.parents[1] / "metrics.json").exists()
    ]
    if not finished:
        raise UserError("no finished run under runs/; make one: make train")
    return max(finished, key=lambda path: (path / "metrics.json").stat().st_mtime)


def see(served: Served, path: Path) -> Seen:
    """Reads one file with the one reader and answers for it.

    Raises:
      UserError: it is no radiograph that can be read; the message does not hold its name.
    """
    square = radiograph.standardize(radiograph.read(path, name=_SHOWN_NAME), served.model.side)
    answer, evidence = served.model.explain(square)
    return Seen(answer, square, None if answer.verdict == "refused" else evidence)


def as_json(served: Served, seen: Seen) -> dict[str, Any]:
    """An answer as the API gives it: verdict, label, probabilities (none where refused), reason, threshold, warnings, …"""
    answer = seen.answer
    return {
        "verdict": answer.verdict,
        "label": answer.label or None,
        "probabilities": None if answer.verdict == "refused" else answer.probabilities,
        "reason": answer.reason,
        "threshold": served.model.facts.get("threshold"),
        "unsure": served.model.facts.get("unsure"),
        "synthetic": served.model.facts["synthetic"],
        "warnings": served.warnings,
        "medical_device": False,
    }


def described(served: Served) -> dict[str, Any]:
    """The model as the API describes it: classes, scores with intervals, controls."""
    metrics = served.metrics
    return {
        "model": metrics.get("model"),
        "dataset": metrics.get("dataset", {}).get("name"),
        "class_names": served.model.facts["class_names"],
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


def files_in(paths: list[Path]) -> list[batch.Source]:
    """The files of an upload, zips opened.

    Raises:
      UserError: more than the limit.
    """
    try:
        found = list(batch.sources(paths))
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError("a zip cannot be opened; unpack it and send its files.") from error
    if len(found) > MOST_FILES:
        raise UserError(
            f"{len(found)} files are too many for one batch; send at most {MOST_FILES}, or use "
            "trainer.predict."
        )
    return found


def rows(served: Served, found: list[batch.Source], tick=lambda done: None) -> list[list[str]]:
    """A row a file: name within the upload, label, verdict, one probability a class, reason."""
    header = batch.header(served.model)
    table = []
    for number, source in enumerate(found, start=1):
        shown = dataclasses.replace(source, name=Path(source.name).name)
        row = next(batch.rows(served.model, [shown]))
        table.append([row[name] for name in header])
        tick(number / len(found))
    return table


def windowed(square: np.ndarray, width: float, level: float) -> np.ndarray:
    """Grey levels stretched so that `width` levels around `level` fill the range: [side, side] uint8."""
    low = level - width / 2
    return np.clip((square.astype(np.float32) - low) * (255.0 / max(width, 1.0)), 0, 255).astype(
        np.uint8
    )


def overlay(square: np.ndarray, evidence: np.ndarray, opacity: float) -> np.ndarray:
    """The map over the radiograph in colours that colour-blind eyes tell apart: [side, side, 3] uint8."""
    strength = evidence / evidence.max() if evidence.max() > 0 else np.zeros_like(evidence)
    colours = colormaps["plasma"](strength)[..., :3] * 255.0
    alpha = (opacity * strength)[..., None]
    return np.rint(square[..., None] * (1.0 - alpha) + colours * alpha).astype(np.uint8)


def predictive_values(served: Served, prevalence: float) -> tuple[float, float] | None:
    """(PPV, NPV) in 0..1 at a prevalence in 0..1, from test sensitivity and specificity; None where these are not known."""
    scores = served.metrics.get("test", {})
    values = [scores.get(name, {}).get("value") for name in ("sensitivity", "specificity")]
    if None in values:
        return None
    sensitivity, specificity = values
    positive = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    negative = prevalence * (1 - sensitivity) + (1 - prevalence) * specificity
    return (
        prevalence * sensitivity / positive if positive else float("nan"),
        (1 - prevalence) * specificity / negative if negative else float("nan"),
    )
