"""Loads an export and answers: probability, verdict, evidence map. ONNX and LiteRT need no TensorFlow and start at once.

Loading runs no code from the model: an export is weights, a graph of known operations, and facts as JSON and arrays.
"""

import base64
import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis.refusal import Refusal
from trainer.data import radiograph
from trainer.errors import UserError

os.environ["ORT_DISABLE_TELEMETRY"] = (
    "1"  # ONNX Runtime reports to its maker unless told not to before it is imported.
)

NAMES = {"onnx": "model.onnx", "litert": "model.tflite", "saved_model": "saved_model"}
_OUTPUTS = ("probabilities", "features", "map")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model says of one radiograph.

    Attributes:
      verdict: answered; unsure, where the probability lies between the thresholds of 0.95 sensitivity and 0.95 specificity; or
        refused.
      label: the class named; empty where the picture is refused.
      probabilities: class → probability, calibrated; also where refused, for the record and not for show.
      reason: why it is refused or unsure, in words; else empty.
      refusal_score: 0 ordinary, above 1 refused; None where the model has no refusal.
    """

    verdict: str
    label: str
    probabilities: dict[str, float]
    reason: str
    refusal_score: float | None


@dataclasses.dataclass(frozen=True)
class Model:
    """An export, ready to answer.

    Attributes:
      facts: model.json: class_names, positive_class, thresholds, unsure, synthetic, …
      refusal: what it refuses; None where that was not fitted.
      run: ([n, side, side, 1] uint8, with_map) → probabilities, features and, if wanted, map [n, side, side, classes].
    """

    facts: dict[str, Any]
    refusal: Refusal | None
    run: Callable[..., dict[str, np.ndarray]]

    @property
    def side(self) -> int:
        """Of the squares it takes, in pixels."""
        return self.facts.get("side", radiograph.STANDARD_SIDE)

    def answer(self, square: np.ndarray) -> Answer:
        """Answers for one prepared square, [side, side] or [side, side, 1] uint8, as `radiograph.standardize` gives it."""
        return self.explain(square, with_map=False)[0]

    def explain(
        self, square: np.ndarray, with_map: bool = True
    ) -> tuple[Answer, np.ndarray | None]:
        """The same, and the map of evidence for the class named: [side, side] float32, 0 or more."""
        batch = square.reshape(1, *square.shape[:2], 1)
        found = self.run(batch, with_map)
        probabilities = found["probabilities"][0].astype(np.float64)
        names = self.facts["class_names"]
        named = int(self._named(probabilities))
        score, reason = None, ""
        if self.refusal is not None:
            verdict = self.refusal.verdict(found["features"][0], batch[0])
            score, reason = float(verdict.score), verdict.reason if verdict.refused else ""
        said = {name: float(value) for name, value in zip(names, probabilities, strict=True)}
        kind, label = ("refused", "") if reason else ("answered", names[named])
        if not reason and (why := self._unsure(probabilities)):
            kind, reason = "unsure", why
        return Answer(kind, label, said, reason, score), found["map"][
            0, :, :, named
        ] if with_map else None

    def _named(self, probabilities: np.ndarray) -> int:
        positive, names = self.facts["positive_class"], self.facts["class_names"]
        if positive is None or len(names) != 2:
            return int(probabilities.argmax())
        index = names.index(positive)
        return index if probabilities[index] >= self.facts["threshold"] else 1 - index

    def _unsure(self, probabilities: np.ndarray) -> str:
        band = self.facts.get("unsure")
        if band is None:
            return (
                ""
                if probabilities.max() >= 0.5
                else "no class is more probable than all others together"
            )
        probability = probabilities[self.facts["class_names"].index(self.facts["positive_class"])]
        return (
            ""
            if not band[0] <= probability < band[1]
            else (
                f"the probability lies between {band[0]:.2f} and {band[1]:.2f}, where held-out "
                "radiographs were often called wrongly"
            )
        )


def load(path: Path) -> Model:
    """Loads the export at a path: a file or folder named as in `NAMES`, or a workdir that holds one (ONNX first).

    Raises:
      UserError: there is none, it is damaged, or a package is missing.
    """
    path = path if path.name in NAMES.values() else _in_workdir(path)
    kind = next(name for name, file in NAMES.items() if file == path.name)
    try:
        return {"onnx": _load_onnx, "litert": _load_litert, "saved_model": _load_saved_model}[kind](
            path
        )
    except ImportError as error:
        raise UserError(
            f"{path} needs the package {error.name}; install it (pip install {error.name}), or "
            "export another format with trainer.export."
        ) from error
    except Exception as error:  # Each runtime has exceptions of its own for a damaged file.
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} cannot be loaded "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); export it "
            "again with trainer.export."
        ) from error


def _in_workdir(workdir: Path) -> Path:
    for name in NAMES.values():
        if (workdir / "model" / name).exists():
            return workdir / "model" / name
    if (workdir / "model" / "model.keras").exists():
        raise UserError(
            f"{workdir} holds no export yet; make one: python -m trainer.export --workdir={workdir}"
        )
    raise UserError(
        f"{workdir} holds no finished model; run trainer.main with --workdir={workdir} to its end."
    )


def _load_onnx(path: Path) -> Model:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry(
        "session.force_spinning_stop", "1"
    )  # Threads spin within an answer only.
    settings.add_session_config_entry(
        "session.dynamic_block_base", "4"
    )  # Small parts: a busy core holds up few.
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    asked = onnxruntime.RunOptions()
    asked.add_run_config_entry("only_execute_path_to_fetches", "1")
    stored = session.get_modelmeta().custom_metadata_map
    order = [output.name for output in session.get_outputs()]

    def run(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
        wanted = [name for name in order if with_map or name != "map"]
        return dict(
            zip(
                wanted, session.run(wanted, {"image": batch.astype(np.float32)}, asked), strict=True
            )
        )

    return Model(json.loads(stored["facts"]), _unpacked(base64.b64decode(stored["refusal"])), run)


def _load_litert(path: Path) -> Model:
    from ai_edge_litert.interpreter import Interpreter

    with zipfile.ZipFile(path) as after:
        facts, refusal = json.loads(after.read("facts.json")), _unpacked(after.read("refusal.npz"))
    runner = Interpreter(str(path), num_threads=2).get_signature_runner()

    def run(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
        parts = [runner(image=image[None].astype(np.float32)) for image in batch]
        return {
            name: np.concatenate([part[name] for part in parts])
            for name in _OUTPUTS
            if with_map or name != "map"
        }

    return Model(facts, refusal, run)


def _load_saved_model(path: Path) -> Model:
    import tensorflow as tf

    facts = json.loads((path / "assets.extra" / "facts.json").read_text())
    refusal = _unpacked((path / "assets.extra" / "refusal.npz").read_bytes())
    loaded = tf.saved_model.load(str(path))

    def run(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
        found = loaded.signatures["serving_default"](image=tf.constant(batch, tf.float32))
        return {name: found[name].numpy() for name in _OUTPUTS if with_map or name != "map"}

    return Model(facts, refusal, run)


def _unpacked(data: bytes) -> Refusal | None:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return Refusal.from_arrays(found) if found else None
