"""Exports in layers of Keras alone, so that they load where this project is not installed.

    to_plain(network).save("model.keras")
    network = from_plain(keras.saving.load_model("model.keras"))

A plain network gives probabilities and features. The map of the evidence is a layer of this
project, which `from_plain` adds.
"""

import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import layers

from trainer.analysis.calibration import Divisor
from trainer.evaluation import export_network
from trainer.evaluation.export_network import EvidenceHead
from trainer.training import warm_start
from trainer.training.layers import (
    BatchNormalization,
    BiasReLU,
    Resample,
    StatelessDropout,
    gelu,
    triangle_filter,
)

FIXED = "resample_"
"""Prefix of the names of layers whose weights are not learnt."""

_RESAMPLED = "resample"  # The last layer of the resampling.
_LAST_MAP = "last_map"
_TEMPERATURE = "temperature"


@contextlib.contextmanager
def _single_precision() -> Iterator[None]:
    """Makes layers of the block float32; a training run sets its own precision for all layers."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


@_single_precision()
def to_plain(network: keras.Model) -> keras.Model:
    """Copies an export into layers of Keras.

    Args:
      network: from `export_network.build_export` or `build_ensemble`.

    Returns:
      A model from image [batch, side, side, 1] float32 in 0..255 to a dict: probabilities
      [batch, classes], and features [batch, channels].
    """
    heads = [layer for layer in network.layers if isinstance(layer, EvidenceHead)]
    image = keras.Input(network.input_shape[1:], name="image", dtype="float32")
    if not heads:
        members = [
            to_plain(layer)(image) for layer in network.layers if isinstance(layer, keras.Model)
        ]
        joined = {
            "probabilities": layers.Average(name="probabilities")(
                [member["probabilities"] for member in members]
            ),
            "features": layers.Concatenate(name="features")(
                [member["features"] for member in members]
            ),
        }
        return keras.Model(image, joined, name=network.name)
    (head,) = heads
    trunk = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    x = image
    if trunk.input_shape[1] != image.shape[1]:
        x = _resample(image, trunk.input_shape[1])
    x = layers.Activation("linear", name=_LAST_MAP)(_copy(trunk, _plain_layer)(x))
    return keras.Model(image, _add_head(x, head), name=network.name)


@_single_precision()
def from_plain(network: keras.Model) -> keras.Model:
    """Adds the map to a plain network, in the form of `export_network.build_export`.

    Exports of earlier versions, which have it already, stay as they are.

    Raises:
      ValueError: the network is no export.
    """
    if not isinstance(network.output, dict):
        raise ValueError("it is not an export")
    if "map" in network.output:
        return network
    nested = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    names = [layer.name for layer in network.layers]
    if _LAST_MAP not in names:
        return export_network.build_ensemble([from_plain(member) for member in nested])
    (trunk,) = nested
    # The layers of the file itself: another product of matrices would round other pixels.
    x = network.get_layer(_RESAMPLED).output if _RESAMPLED in names else network.input
    dense = warm_start.head(network)
    divisor: Divisor = 1.0
    if _TEMPERATURE in names:
        divisor = (1.0 / np.asarray(network.get_layer(_TEMPERATURE).scale)).tolist()
    head = EvidenceHead(
        [layer.units for layer in dense],
        "flatten" not in names,
        divisor,
        not isinstance(network.get_layer("probabilities"), layers.Softmax),
        name="evidence",
        dtype="float32",
    )
    last_map = _copy(trunk, _own_layer)(x)
    return export_network.add_map(network.input, last_map, head, dense, network.name)


def _resample(image: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """Resizes squares as `Resample` does: rows, then columns, then whole levels."""
    size = image.shape[1]
    x = layers.Reshape((size, size), name=f"{FIXED}squeeze")(image)
    for axis in ("rows", "columns"):
        if axis == "rows":
            x = layers.Permute((2, 1), name=f"{FIXED}transpose")(x)
        dense = layers.Dense(side, use_bias=False, trainable=False, name=f"{FIXED}{axis}")
        x = dense(x)
        dense.set_weights([triangle_filter(size, side).T])
        if axis == "rows":
            x = layers.Permute((2, 1), name=f"{FIXED}transpose_back")(x)
    x = keras.ops.round(x)
    return layers.Reshape((side, side, 1), name=_RESAMPLED)(x)


def _add_head(last_map: keras.KerasTensor, head: EvidenceHead) -> dict[str, keras.KerasTensor]:
    """Adds the dense layers of a head and its temperature; returns probabilities and features."""
    features = layers.GlobalAveragePooling2D(name="features")(last_map)
    x = features if head.pooled else layers.Flatten(name="flatten")(last_map)
    for index, (kernel, bias) in enumerate(zip(head.kernels, head.biases, strict=True), start=1):
        last = index == len(head.kernels)
        dense = layers.Dense(
            kernel.shape[1], None if last else "relu", name="logits" if last else f"dense{index}"
        )
        x = dense(x)
        dense.set_weights([kernel.numpy(), bias.numpy()])
    if head.temperature != 1.0:
        scale = (1.0 / np.asarray(head.temperature)).tolist()
        x = layers.Rescaling(scale, name=_TEMPERATURE)(x)
    if head.multi_label:
        probabilities = layers.Activation("sigmoid", name="probabilities")(x)
    else:
        probabilities = layers.Softmax(name="probabilities")(x)
    return {"probabilities": probabilities, "features": features}


def _copy(
    model: keras.Model, replacement: Callable[[keras.Operation], keras.Operation]
) -> keras.Model:
    """Copies a network with other layers in place of some, and its weights."""
    copy = keras.models.clone_model(model, clone_function=replacement, recursive=True)
    _set_weights(model, copy)
    return copy


def _set_weights(model: keras.Model, copy: keras.Model) -> None:
    for layer in model.layers:
        other = copy.get_layer(layer.name)
        if isinstance(layer, keras.Model):
            _set_weights(layer, other)
            continue
        weights = layer.get_weights()
        if isinstance(layer, BiasReLU):
            weights = [np.ones((1, 1, len(weights[0]), 1), np.float32), *weights]
        elif isinstance(other, BiasReLU):
            weights = weights[1:]
        other.set_weights(weights)


def _plain_layer(layer: keras.Operation) -> keras.Operation:
    """Returns a layer of Keras that gives the same values in inference."""
    config = layer.get_config()
    if isinstance(layer, BatchNormalization):
        return layers.BatchNormalization.from_config(config | {"synchronized": False})
    if isinstance(layer, StatelessDropout):
        shape = (None, 1, 1, 1) if layer.whole else None
        return layers.Dropout(layer.rate, shape, name=layer.name)
    if isinstance(layer, BiasReLU):
        # Times one, plus the bias: the same numbers.
        return layers.DepthwiseConv2D(1, activation="relu", trainable=True, name=layer.name)
    if isinstance(layer, Resample):
        raise TypeError("resampling stands before the network, see to_plain")
    if getattr(layer, "activation", None) is gelu:
        return layers.Activation("gelu", name=layer.name)
    return type(layer).from_config(config)


def _own_layer(layer: keras.Operation) -> keras.Operation:
    """Returns the layer of this project that exports and warm starts need."""
    if isinstance(layer, layers.DepthwiseConv2D) and layer.activation is keras.activations.relu:
        return BiasReLU(name=layer.name)
    if isinstance(layer, layers.Activation) and layer.activation is keras.activations.gelu:
        return layers.Activation(gelu, name=layer.name)  # tf2onnx cannot convert that of Keras.
    return type(layer).from_config(layer.get_config())
