"""Writes a model for other runtimes: ONNX, LiteRT, SavedModel; preprocessing inside, facts inside, checked against Keras.

python -m trainer.export --workdir=runs/mine --format=saved_model,litert,onnx
"""

import base64
import io
import json
import logging
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.errors import UserError
from trainer.inference import folding, runtime

FORMATS = ("onnx", "litert", "saved_model")
MOST_DIFFERENCE = 1e-4  # Of a probability, from Keras.
_OPSET = 18


def write(
    folder: Path,
    network: keras.Model,
    facts: dict[str, Any],
    refusal: dict[str, np.ndarray] | None,
    wanted: tuple[str, ...],
    squares: np.ndarray,
) -> list[str]:
    """Writes a model in the formats wanted, each with its facts and what it refuses, and compares its answers with Keras's.

    Args:
      folder: the run's model/; an earlier export is replaced.
      network: from image [batch, side, side, 1] float32 in 0..255 to probabilities, map and features.
      facts: model.json.
      refusal: the arrays of `refusal.Refusal`; None where that was not fitted.
      wanted: of `FORMATS`.
      squares: [n, side, side, 1] uint8, n ≥ 1, to compare on.

    Returns:
      one line a format: where it lies and how far it is from Keras.

    Raises:
      UserError: a probability differs by more than 1e-4 (nothing is left behind), or a package is missing.
    """
    expected = np.concatenate(
        [network(square[None].astype(np.float32))["probabilities"].numpy() for square in squares]
    )
    lines = []
    for name in wanted:
        path = folder / runtime.NAMES[name]
        with tempfile.TemporaryDirectory(dir=folder) as place:
            made = Path(place) / runtime.NAMES[name]
            {"onnx": _onnx, "litert": _litert, "saved_model": _saved_model}[name](
                made, network, facts, refusal
            )
            found = runtime.load(made)
            said = np.concatenate([found.run(square[None])["probabilities"] for square in squares])
            difference = float(np.abs(said - expected).max())
            if difference > MOST_DIFFERENCE:
                raise UserError(
                    f"the {name} export differs from Keras by {difference:.2g} in a probability, "
                    f"more than {MOST_DIFFERENCE:g}; use another --format."
                )
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(made, path)
        lines.append(
            f"{path}: agrees with Keras to {difference:.1g} in every probability, on "
            f"{len(squares)} images"
        )
    return lines


def _forward(network: keras.Model, batch: int | None):
    """The network as a TensorFlow function of `image`; each output under its name."""
    side = network.input_shape[1]
    signature = [tf.TensorSpec([batch, side, side, 1], tf.float32, name="image")]
    return tf.function(lambda image: network(image, training=False), input_signature=signature)


def _onnx(
    path: Path, network: keras.Model, facts: dict[str, Any], refusal: dict[str, np.ndarray] | None
) -> None:
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    forward = _forward(network, None)
    model, _ = tf2onnx.convert.from_function(
        forward, input_signature=forward.input_signature, opset=_OPSET
    )
    folding.fold_scaling(model)
    onnx.helper.set_model_props(
        model, {"facts": json.dumps(facts), "refusal": base64.b64encode(_packed(refusal)).decode()}
    )
    onnx.save(model, path)


def _litert(
    path: Path, network: keras.Model, facts: dict[str, Any], refusal: dict[str, np.ndarray] | None
) -> None:
    with tempfile.TemporaryDirectory() as place:
        _save(Path(place) / "model", network, batch=1)
        converted = tf.lite.TFLiteConverter.from_saved_model(str(Path(place) / "model")).convert()
    path.write_bytes(converted)
    with zipfile.ZipFile(
        path, "a"
    ) as after:  # As TensorFlow Lite's metadata does: a zip after the model's own bytes.
        after.writestr("facts.json", json.dumps(facts))
        after.writestr("refusal.npz", _packed(refusal))


def _saved_model(
    path: Path, network: keras.Model, facts: dict[str, Any], refusal: dict[str, np.ndarray] | None
) -> None:
    _save(path, network, batch=None)
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "facts.json").write_text(json.dumps(facts))
    (path / "assets.extra" / "refusal.npz").write_bytes(_packed(refusal))


def _save(path: Path, network: keras.Model, batch: int | None) -> None:
    module = tf.Module()
    module.variables_kept = [variable.value for variable in network.variables]
    module.forward = _forward(network, batch)
    tf.saved_model.save(module, str(path), signatures=module.forward.get_concrete_function())


def _packed(arrays: dict[str, np.ndarray] | None) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **(arrays or {}))
    return file.getvalue()
