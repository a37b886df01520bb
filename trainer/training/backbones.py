"""The networks of keras.applications as backbones of a classifier of grey images.

    features = add_layers("densenet121", x, dropout)      # [batch, 1024]
    weights = load_weights("densenet121", "imagenet")

Batch normalisation and stochastic depth become this project's layers, which do not depend on the
number of replicas or on a restart. https://keras.io/api/applications/
"""

import functools
import inspect
import itertools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training.layers import BatchNormalization, StatelessDropout, gelu

_PAGE = "https://keras.io/api/applications/"
# EfficientNet's first normalisation, which keras.applications loads from the file of weights.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_VARIANCE = (0.229**2, 0.224**2, 0.225**2)


@functools.cache
def _applications() -> dict[str, Callable[..., keras.Model]]:
    functions = inspect.getmembers(keras.applications, inspect.isfunction)
    return {name.lower(): function for name, function in functions}


def names() -> tuple[str, ...]:
    """The networks of keras.applications in lower case, sorted."""
    return tuple(sorted(_applications()))


def recipe(config: TrainConfig) -> dict[str, Any]:
    """Returns the values of the settings that the user left open.

    Args:
      config: its weights and init_from; random weights have nothing to spare from training.
    """
    weights = config.weights or ("none" if config.init_from else "imagenet")
    pretrained = weights != "none" or config.init_from is not None
    return {
        "image_size": 224,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "weight_decay": 1e-2,
        "weights": weights,
        "freeze_epochs": 1 if pretrained else 0,
        "backbone_rate": 0.1 if pretrained else 1.0,
    }


def add_layers(name: str, x: Any, dropout: float) -> Any:
    """Adds a network of keras.applications without its top, then global average pooling.

    Args:
      name: one of `names()`.
      x: [batch, side, side, 1] in 0..1.
      dropout: share of features dropped in training.

    Returns:
      [batch, features].

    Raises:
      ValueError: the image is too small for the network.
    """
    # weights=None: they are loaded at the first step alone (`warm_start`).
    application = _applications()[name](
        include_top=False, weights=None, input_shape=(*x.shape[1:3], 3)
    )
    backbone = keras.models.clone_model(application, clone_function=_make_replacement())
    scale, offset = preprocessing(name)
    x = layers.Concatenate(name="rgb")([x, x, x])  # [batch, side, side, 3]
    x = layers.Rescaling(scale, offset, name="preprocess")(x)
    x = layers.Activation("linear", name="last_map")(backbone(x))
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return StatelessDropout(dropout, name="dropout")(x)


def preprocessing(name: str) -> tuple[list[float], list[float]]:
    """Measures the preprocessing that goes with a network of keras.applications.

    Of a grey image it is a scale and an offset for each channel, whatever the order of the colours.

    Returns:
      (scale, offset), three numbers each, of grey levels in 0..1.
    """
    module: Any = inspect.getmodule(_applications()[name])
    levels = np.array([0.0, 255.0])[:, None, None, None]  # black and white
    black, white = module.preprocess_input(np.tile(levels, 3))  # each [1, 1, 3]
    return (white - black).ravel().tolist(), black.ravel().tolist()


def load_weights(name: str, source: str) -> list[np.ndarray]:
    """Loads pretrained weights, downloading those of ImageNet.

    Args:
      name: one of `names()`.
      source: imagenet, or a file in a format that keras.applications reads, without the top.

    Returns:
      The weights in the order of the backbone of `add_layers`.

    Raises:
      UserError: they cannot be downloaded, or the file is missing or of another network.
    """
    if source != "imagenet" and not Path(source).expanduser().is_file():
        raise UserError(f"--weights={source}: no such file; give imagenet, none or a file.")
    load = _download if source == "imagenet" else _read
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The weights do not depend on the image's size.
        application = load(name, source)
    weights: list[np.ndarray] = []
    for layer in application.layers:
        values = [] if _is_adapted(layer) else layer.get_weights()
        if _is_depthwise(layer):
            values[0] = values[0].swapaxes(2, 3)  # [height, width, channels, 1]
        weights += values
    return weights


def _download(name: str, source: str) -> keras.Model:
    try:
        return _applications()[name](include_top=False, weights=source)
    except Exception as error:  # Keras raises nothing narrower.
        url = re.search(r"https?://[^\s:]+", str(error))
        address = url[0] if url else f"the weights of {name} ({_PAGE})"
        file = Path(address).name if url else "FILE"
        reason = str(error).splitlines()[0].rpartition("-- ")[2]
        raise UserError(
            f"{address} cannot be downloaded ({reason}); download it by hand and give "
            f"--weights={file}, or train from random weights with --weights=none."
        ) from error


def _read(name: str, source: str) -> keras.Model:
    path = str(Path(source).expanduser())
    try:
        return _applications()[name](include_top=False, weights=path)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--weights={source} does not hold the weights of {name} without its top ({reason}); "
            "give the file whose name has notop or no_top."
        ) from error


def _make_replacement() -> Callable[[Any], Any]:
    """Makes the function that copies a layer or replaces it with this project's."""
    salts = itertools.count(1)  # The dropout before the head has salt 0.

    def replacement(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, layers.BatchNormalization):
            # A short run has few hundred steps: at 0.99 or 0.999 the moving averages lag.
            return BatchNormalization.from_config(config | {"momentum": 0.9, "synchronized": True})
        if isinstance(layer, layers.Dropout):
            whole = layer.noise_shape is not None  # stochastic depth: one draw an example
            return StatelessDropout(layer.rate, next(salts), whole, name=layer.name)
        if isinstance(layer, layers.Normalization):
            return _rescaling(layer)
        if _is_depthwise(layer):
            return layers.DepthwiseConv2D(layer.kernel_size, padding=layer.padding, name=layer.name)
        if config.get("activation") == "gelu":
            return layers.Activation(gelu, name=layer.name)
        return type(layer).from_config(config)

    return replacement


def _rescaling(layer: Any) -> layers.Layer:
    # Normalization holds tensors, which neither a checkpoint nor tf2onnx keeps.
    mean = np.array(_IMAGENET_MEAN if _is_adapted(layer) else layer.input_mean)
    variance = np.array(_IMAGENET_VARIANCE if _is_adapted(layer) else layer.input_variance)
    scale = 1.0 / np.sqrt(variance)
    return layers.Rescaling(scale.tolist(), (-mean * scale).tolist(), name=layer.name)


def _is_depthwise(layer: Any) -> bool:
    # Of ConvNeXt. Keras compiles grouped convolutions with XLA, which tf2onnx cannot convert.
    return isinstance(layer, layers.Conv2D) and layer.groups == layer.filters > 1


def _is_adapted(layer: Any) -> bool:
    # EfficientNet loads mean and variance from the file of weights.
    return isinstance(layer, layers.Normalization) and layer.input_mean is None
