"""Loading of exports and prediction: probability, verdict and evidence map.

    model = runtime.load(Path("runs/mine"))
    prediction, square, evidence = model.explain_radiograph(radiograph.read("chest.dcm"))

ONNX and LiteRT exports need no TensorFlow. Loading runs no code from the model: an export is
weights, a graph of standard operators, facts as JSON, and arrays.
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

from trainer import tf_startup
from trainer.analysis.refusal import Refusal
from trainer.data import radiograph, views
from trainer.data.radiograph import Radiograph
from trainer.errors import UserError
from trainer.inference import decisions, formats
from trainer.workdir import Workdir, locate, unfinished_error

# ONNX Runtime reads it while it is imported; without it, it reports to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_Run = Callable[..., dict[str, np.ndarray]]

# with_map → outputs of the graph; the map takes longest.
_OUTPUT_NAMES = {
    False: ["probabilities", "features"],
    True: ["probabilities", "features", "map"],
}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's prediction for one radiograph.

    Attributes:
      verdict: answered, refused, or unsure: the probability lies between the thresholds of 0.95
        sensitivity and of 0.95 specificity.
      label: the predicted class, or findings with | between them; empty where the image is
        refused.
      probabilities: class → calibrated probability; of a refused image only for the record.
      reason: of a refusal or of unsure, in words; else empty.
    """

    verdict: str
    label: str
    probabilities: dict[str, float]
    reason: str


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded export.

    Attributes:
      facts: model.json: class_names, positive_class, threshold, unsure, synthetic, …
      refusal: detector of images to refuse; None where that was not fitted.
      run: ([n, side, side, 1] uint8, with_map=False) → "probabilities" [n, classes], "features"
        [n, channels] and, with_map, "map" [n, side, side, classes].
    """

    facts: dict[str, Any]
    refusal: Refusal | None
    run: _Run

    @property
    def side(self) -> int:
        """Side length of the input square, in pixels."""
        return self.facts.get("side", radiograph.STANDARD_SIDE)

    @property
    def view(self) -> str:
        """The view that the input square shows: whole or lungs."""
        return self.facts.get("view", {}).get("name", views.WHOLE)

    @property
    def multi_label(self) -> bool:
        """Tells whether an image may have several findings."""
        return decisions.is_multi_label(self.facts)

    @property
    def opacity_map(self) -> dict[str, Any] | None:
        """The class whose map shows opacities, and the value of a complete one; None without."""
        return self.facts.get("opacity_map")

    def predict_radiograph(self, image: Radiograph) -> Prediction:
        """Predicts for one radiograph, the result of `radiograph.read`."""
        return self.explain_radiograph(image, with_map=False)[0]

    def explain_radiograph(
        self, image: Radiograph, with_map: bool = True
    ) -> tuple[Prediction, views.Square, dict[str, np.ndarray]]:
        """Predicts for one radiograph, and maps the evidence or the opacities.

        Args:
          image: the result of `radiograph.read`.
          with_map: whether the map is computed.

        Returns:
          (prediction: refused where no lungs are found; the square that the network saw; maps of
          that square as from `explain`).
        """
        square = views.make_square(image, self.side, self.view)
        prediction, evidence = self.explain(square.pixels, with_map)
        has_lungs = square.has_lungs
        if self.view == views.WHOLE and self.refusal is not None:
            has_lungs = views.shows_lungs(image)
        if not has_lungs:
            prediction = Prediction("refused", "", prediction.probabilities, views.NO_LUNGS)
        return prediction, square, evidence

    def predict(self, square: np.ndarray) -> Prediction:
        """Predicts for one square, [side, side] or [side, side, 1] uint8.

        Args:
          square: as `views.make_square` gives it.
        """
        return self.explain(square, with_map=False)[0]

    def explain(
        self, square: np.ndarray, with_map: bool = True
    ) -> tuple[Prediction, dict[str, np.ndarray]]:
        """Predicts and maps the evidence for the predicted class, or the opacities.

        Args:
          square: as for `predict`.
          with_map: whether the map is computed.

        Returns:
          (prediction, class → map [side, side] float32, 0 or more). The predicted class has a map,
          or every finding; in a model with an opacity map that class, whatever is predicted.
        """
        batch = square.reshape(1, *square.shape[:2], 1)  # [1, side, side, 1]
        outputs = self.run(batch, with_map)
        probabilities = outputs["probabilities"][0].astype(np.float64)  # [classes]
        names = self.facts["class_names"]
        called = decisions.called(probabilities, self.facts)
        verdict, reason = self._verdict(probabilities, outputs["features"][0], batch[0])
        label = "" if verdict == "refused" else decisions.label(called, self.facts)
        by_class = dict(zip(names, probabilities.tolist(), strict=True))
        mapped = called
        if self.opacity_map:
            mapped = [names.index(self.opacity_map["class"])]
        elif self.multi_label:
            mapped = list(range(len(names)))
        maps = {names[index]: outputs["map"][0, :, :, index] for index in mapped if with_map}
        return Prediction(verdict, label, by_class, reason), maps

    def _verdict(
        self, probabilities: np.ndarray, features: np.ndarray, image: np.ndarray
    ) -> tuple[str, str]:
        # Returns the verdict and its reason; `image` is [side, side, 1] uint8.
        if self.refusal is not None:
            refusal = self.refusal.verdict(features, image)
            if refusal.refused:
                return "refused", refusal.reason
        reason = decisions.unsure_reason(probabilities, self.facts)
        return ("unsure" if reason else "answered", reason)


def load(path: Path) -> Model:
    """Loads an export.

    Args:
      path: a file or folder named as in `formats.FILE_NAMES`, or a workdir with one (ONNX
        first), or any file in that.

    Raises:
      UserError: there is no export, it is damaged, it expects images prepared in another way, or a
        package is missing.
    """
    if path.name not in _LOADERS or not path.exists():
        path = _find_export(locate(path))
    try:
        metadata, run = _LOADERS[path.name](path)
        facts = json.loads(metadata["facts.json"])
        with np.load(io.BytesIO(metadata["refusal.npz"]), allow_pickle=False) as file:
            # None is written as no array.
            refusal = Refusal.from_arrays(dict(file)) if file.files else None
    except ImportError as error:
        package = "-e '.[litert]'" if path.name == formats.FILE_NAMES["litert"] else error.name
        raise UserError(
            f"{path} needs the package {error.name}; install it (pip install {package}), or export "
            "another format with trainer.export."
        ) from error
    # Each runtime has its own exceptions for a damaged file.
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(
            f"{path} cannot be loaded ({lines[0]}); export it again with trainer.export."
        ) from error
    _check_preprocessing(path, facts)
    return Model(facts, refusal, run)


def _check_preprocessing(path: Path, facts: dict[str, Any]) -> None:
    version = facts.get("preprocessing")
    # Other images than in training would give wrong probabilities without any sign of it.
    if version != radiograph.PREPROCESSING_VERSION:
        raise UserError(
            f"{path} expects images of preprocessing version {version}, and this program makes "
            f"version {radiograph.PREPROCESSING_VERSION}; train again with trainer.main, "
            "or use the release that trained it."
        )
    view = facts.get("view")
    if view is not None and view != views.describe(view["name"]):
        raise UserError(
            f"{path} expects lungs from version {view['segmenter']} of the segmenter; train again "
            "with trainer.main, or use the release that trained it."
        )


def _find_export(workdir: Path) -> Path:
    for name in formats.FILE_NAMES.values():
        path = workdir / "model" / name
        if path.exists():
            return path
    if Workdir(workdir).finished:
        raise UserError(
            f"{workdir} holds no export yet; make one: python -m trainer.export --workdir={workdir}"
        )
    if workdir.is_file():
        raise UserError(
            f"{workdir} lies in no run, and no export is called so; give the folder of a finished "
            f"run, or one of {', '.join(formats.FILE_NAMES.values())}."
        )
    raise unfinished_error(workdir)


def _load_onnx(path: Path) -> tuple[dict[str, Any], _Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads spin only while a prediction runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Small blocks: a busy core delays few of them.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    run_options = onnxruntime.RunOptions()
    # The map is not computed where it is not fetched.
    run_options.add_run_config_entry("only_execute_path_to_fetches", "1")
    properties = session.get_modelmeta().custom_metadata_map
    metadata = {
        "facts.json": properties["facts"],
        "refusal.npz": base64.b64decode(properties["refusal"]),
    }

    def run(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
        names = _OUTPUT_NAMES[with_map]
        inputs = {"image": batch.astype(np.float32)}
        return dict(zip(names, session.run(names, inputs, run_options), strict=True))

    return metadata, run


def _load_litert(path: Path) -> tuple[dict[str, Any], _Run]:
    from ai_edge_litert.interpreter import Interpreter

    # exporting.py appends a zip to the model.
    with zipfile.ZipFile(path) as archive:
        metadata = {name: archive.read(name) for name in archive.namelist()}
    runner = Interpreter(str(path), num_threads=2).get_signature_runner()

    def run(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
        # The graph takes one image at a time.
        outputs = [runner(image=image[None].astype(np.float32)) for image in batch]
        return {
            name: np.concatenate([output[name] for output in outputs])
            for name in _OUTPUT_NAMES[with_map]
        }

    return metadata, run


def _load_saved_model(path: Path) -> tuple[dict[str, Any], _Run]:
    tf_startup.start_tensorflow()
    import tensorflow as tf

    metadata = {file.name: file.read_bytes() for file in (path / "assets.extra").iterdir()}
    loaded = tf.saved_model.load(str(path))

    def run(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
        outputs = loaded.signatures["serving_default"](image=tf.constant(batch, tf.float32))
        return {name: outputs[name].numpy() for name in _OUTPUT_NAMES[with_map]}

    return metadata, run


# File name → function; the names of the formats are in formats.FILE_NAMES.
_LOADERS: dict[str, Callable[[Path], tuple[dict[str, Any], _Run]]] = {
    formats.FILE_NAMES["onnx"]: _load_onnx,
    formats.FILE_NAMES["litert"]: _load_litert,
    formats.FILE_NAMES["saved_model"]: _load_saved_model,
}
