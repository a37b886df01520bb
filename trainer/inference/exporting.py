"""Exports of a model to ONNX, LiteRT and SavedModel, each compared with Keras.

An export holds the preprocessing within the graph, the facts and the arrays of the refusal:

    exporting.write(folder, network, facts, refusal.to_arrays(), ("onnx",), squares)
"""

import base64
import io
import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.errors import UserError
from trainer.inference import formats, runtime

MAX_DIFFERENCE = 1e-4  # of a probability, from Keras


def write(
    folder: Path,
    network: keras.Model,
    facts: dict[str, Any],
    refusal: dict[str, Any] | None,
    names: tuple[str, ...],
    squares: np.ndarray,
) -> list[str]:
    """Writes a model in several formats and compares each with Keras.

    Args:
      folder: the run's model/; an earlier export is replaced.
      network: from image [batch, side, side, 1] float32 in 0..255 to probabilities, map and
        features.
      facts: model.json.
      refusal: the arrays of `refusal.Refusal`; None where that was not fitted.
      names: of formats, keys of `FORMATS`.
      squares: [n, side, side, 1] uint8, n ≥ 1, to compare on.

    Returns:
      One line a format: its path and its difference from Keras.

    Raises:
      UserError: a probability differs by more than 1e-4 (that export is not kept), or a package is
        missing.
    """
    file = io.BytesIO()
    np.savez_compressed(file, **(refusal or {}))
    metadata = {"facts.json": json.dumps(facts).encode(), "refusal.npz": file.getvalue()}
    # One square at a time: LiteRT exports have a batch of one.
    batches = [square[None] for square in squares]  # each [1, side, side, 1]
    expected = np.concatenate(
        [network(batch.astype(np.float32))["probabilities"] for batch in batches]
    )  # [n, classes]
    lines = []
    for name in names:
        path = folder / formats.FILE_NAMES[name]
        # In the same folder, so that the file system can move the export in one step.
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            export = Path(temporary) / path.name
            FORMATS[name](export, network, metadata)
            run = runtime.load(export).run
            probabilities = np.concatenate([run(batch)["probabilities"] for batch in batches])
            difference = float(np.abs(probabilities - expected).max())
            if difference > MAX_DIFFERENCE:
                raise UserError(
                    f"the {name} export differs from Keras by {difference:.2g} in a probability, "
                    f"more than {MAX_DIFFERENCE:g}; use another --format."
                )
            if path.is_dir():
                shutil.rmtree(path)
            export.replace(path)
        lines.append(
            f"{path}: agrees with Keras to {difference:.1g} in every probability, "
            f"on {len(squares)} images"
        )
    return lines


def _write_onnx(path: Path, network: keras.Model, metadata: dict[str, bytes]) -> None:
    # imported lazily: slow
    import onnx
    import tf2onnx

    from trainer.inference import folding

    # Every conversion would warn about names of outputs.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    forward = _forward_function(network, None)
    model, _ = tf2onnx.convert.from_function(
        forward, input_signature=forward.input_signature, opset=18
    )
    folding.fold_scaling(model)
    # Properties of an ONNX model are text.
    onnx.helper.set_model_props(
        model,
        {
            "facts": metadata["facts.json"].decode(),
            "refusal": base64.b64encode(metadata["refusal.npz"]).decode(),
        },
    )
    onnx.save(model, path)


def _write_litert(path: Path, network: keras.Model, metadata: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        saved_model = str(Path(temporary) / "model")
        _save_tensorflow(saved_model, network, batch=1)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved_model).convert())
    # A zip after the model's bytes, as TensorFlow Lite's own metadata:
    # https://ai.google.dev/edge/litert/conversion/tensorflow/metadata
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in metadata.items():
            archive.writestr(name, content)


def _write_saved_model(path: Path, network: keras.Model, metadata: dict[str, bytes]) -> None:
    _save_tensorflow(str(path), network, batch=None)
    # TensorFlow's folder for files that it does not read itself.
    folder = path / "assets.extra"
    folder.mkdir()
    for name, content in metadata.items():
        (folder / name).write_bytes(content)


# The file of each format is in formats.FILE_NAMES, its loader in runtime.py.
FORMATS: dict[str, Callable[[Path, keras.Model, dict[str, bytes]], None]] = {
    "onnx": _write_onnx,
    "litert": _write_litert,
    "saved_model": _write_saved_model,
}


def _save_tensorflow(path: str, network: keras.Model, batch: int | None) -> None:
    module = tf.Module()
    # A variable that the module does not own is not saved.
    module.network_variables = [variable.value for variable in network.variables]
    module.forward = _forward_function(network, batch)
    tf.saved_model.save(module, path, signatures=module.forward.get_concrete_function())


def _forward_function(network: keras.Model, batch: int | None) -> Any:
    # Returns the network as a tf.function of `image`, [batch, side, side, 1] float32.
    return tf.function(
        lambda image: network(image, training=False),
        input_signature=[
            tf.TensorSpec([batch, *network.input_shape[1:]], tf.float32, name="image"),
        ],
    )
