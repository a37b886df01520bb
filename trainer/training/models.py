"""The networks, each registered by its name with its recipe beside it.

`build(config, classes)` makes the network of a configuration, `backbones` those of
keras.applications. To add a model, write one function under `@register(...)`: it takes the scaled
image and the dropout rate and returns features. Its last feature map is a layer named `last_map`.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training import backbones
from trainer.training.layers import BatchNormalization, BiasReLU, StatelessDropout

_LAST_MAP = "last_map"
_PROBABILITIES = "probabilities"
OPACITY_LOGITS = "opacity_logits"
OPACITY_SCALE = 16.0  # last_map of `opacity` over the opacity's share, which is in 0..1

# In every recipe that has no other value; the augmentation is the reference's.
_PLAIN = {
    "view": "whole",
    "paint_opacities": 0.0,
    "weights": "none",
    "freeze_epochs": 0,
    "backbone_rate": 1.0,
    **dict.fromkeys(("rotation", "shift", "brightness", "contrast", "tone", "gamma"), 0.0),
    **dict.fromkeys(("coarsen", "blur", "sharpen", "noise", "jpeg"), 0.0),
    "shear": 0.2,
    "zoom": 0.2,
}


@dataclasses.dataclass(frozen=True)
class _Model:
    add_layers: Callable[[Any, float], Any]  # (image in 0..1, dropout rate) → [batch, features]
    recipe: dict[str, Any]
    source_free: bool


_MODELS: dict[str, _Model] = {}


def register(*, source_free: bool = False, **recipe: Any) -> Callable[[Callable], Callable]:
    """Registers the decorated function as the model of its name.

    Args:
      source_free: whether the model is trained on the images of the negative classes alone; paint
        makes some of them positive.
      **recipe: the value of each setting where the user gives none: image_size, optimizer,
        learning_rate, schedule, weight_decay; and of those in `_PLAIN` what differs.
    """

    def add_to_models(function: Callable) -> Callable:
        _MODELS[function.__name__] = _Model(function, _PLAIN | recipe, source_free)
        return function

    return add_to_models


def names() -> tuple[str, ...]:
    """The registered models, sorted by name."""
    return tuple(sorted(_MODELS))


def resolve(config: TrainConfig) -> TrainConfig:
    """Fills the settings left open (None) from the model's recipe.

    Batches from --data_service are not cached on this machine: cache becomes none.

    Raises:
      UserError: no model has that name, or it has no opacity map or no weights to load.
    """
    if (config.rounds > 1 or config.teacher) and not is_source_free(config):
        raise UserError(
            "--rounds and --teacher need a model with an opacity map; give --model=opacity."
        )
    if config.model in _MODELS and config.weights not in (None, "none"):
        raise UserError(
            f"--weights is for networks of keras.applications; --model={config.model} can start "
            "from a run of its own with --init_from=WORKDIR."
        )
    changes = {
        name: value
        for name, value in _model(config).recipe.items()
        if getattr(config, name) is None
    }
    if config.data_service:
        changes["cache"] = "none"
    if is_source_free(config):
        changes["select"] = "last"  # Validation holds positive images.
    return dataclasses.replace(config, **changes)


def is_source_free(config: TrainConfig) -> bool:
    """Tells whether the model is trained on the images of the negative classes alone."""
    return _model(config).source_free


def build(config: TrainConfig, classes: int, multi_label: bool = False) -> keras.Model:
    """Builds the network of a resolved configuration.

    Args:
      config: resolved.
      classes: number of classes or findings.
      multi_label: whether an image may have several findings; each then has its own probability.

    Returns:
      A model from [batch, image_size, image_size, 1] in 0..255 to a dict: logits and probabilities,
      [batch, classes] float32 (float64 at that precision); of a model with a layer of that name,
      opacity_logits [batch, height, width, 1].

    Raises:
      UserError: no model has that name, or the image is too small for its poolings.
      RuntimeError: the model has no layer named last_map.
    """
    model = _model(config)
    image = keras.Input((config.image_size, config.image_size, 1), name="image")
    x = layers.Rescaling(1.0 / 255.0, name="rescale")(image)  # [batch, side, side, 1] in 0..1
    try:
        x = model.add_layers(x, config.dropout)  # [batch, features]
    except ValueError as error:
        raise UserError(
            f"--image_size={config.image_size} is too small for {config.model}; give a larger one."
        ) from error
    # A softmax in half precision loses the small probabilities.
    dtype = "float64" if config.precision == "float64" else "float32"
    # A single feature starts without a sign: a short training cannot turn a wrong one.
    start = "zeros" if x.shape[-1] == 1 else "glorot_uniform"
    logits = layers.Dense(classes, kernel_initializer=start, name="logits", dtype=dtype)(x)
    activation = layers.Softmax(name=_PROBABILITIES, dtype=dtype)
    if multi_label:
        activation = layers.Activation("sigmoid", name=_PROBABILITIES, dtype=dtype)
    outputs = {"logits": logits, _PROBABILITIES: activation(logits)}
    network = keras.Model(image, outputs, name=config.model)
    if any(layer.name == OPACITY_LOGITS for layer in network.layers):
        outputs[OPACITY_LOGITS] = network.get_layer(OPACITY_LOGITS).output
        network = keras.Model(image, outputs, name=config.model)
    if all(layer.name != _LAST_MAP for layer in network.layers):
        raise RuntimeError(
            f"the model {network.name} has no layer named {_LAST_MAP}; give this name to the layer "
            "of its last feature map, from which the evidence maps are made."
        )
    return network


def is_multi_label(model: keras.Model) -> bool:
    """Tells whether each output of a network has its own probability."""
    return not isinstance(model.get_layer(_PROBABILITIES), layers.Softmax)


def without_strategy(model: keras.Model, config: TrainConfig) -> keras.Model:
    """Copies a network for one process alone; several workers must all call it.

    Returns:
      A model with the same weights; `model` itself where one process trained it.
    """
    if config.strategy != "multi_worker":
        return model
    copy = build(config, model.output["logits"].shape[-1], is_multi_label(model))
    copy.set_weights(model.get_weights())
    return copy


@register(
    image_size=500, optimizer="adam", learning_rate=1e-3, schedule="constant", weight_decay=0.0
)
def seed_cnn(x: Any, dropout: float) -> Any:
    """The reference network, unchanged: five unpadded 3x3 convolutions.

    Each is followed by bias, ReLU and 2x2 max-pooling. Pooling comes first here, which gives the
    same values (see `BiasReLU`).
    """
    for index, filters in enumerate((32, 32, 64, 64, 128), start=1):
        x = layers.Conv2D(filters, 3, use_bias=False, name=f"conv{index}")(x)
        x = layers.MaxPooling2D(name=f"pool{index}")(x)  # halves height and width
        x = BiasReLU(name=_LAST_MAP if index == 5 else f"relu{index}")(x)
    return _dense_head(StatelessDropout(dropout, name="dropout")(x))


@register(image_size=500, optimizer="adam", learning_rate=1e-3, schedule="cosine", weight_decay=0.0)
def cnn(x: Any, dropout: float) -> Any:
    """The reference's shape, with a strided first convolution and batch normalisation.

    Max-pooling and ReLU commute, so pooling comes first: the same result for a quarter of the work.
    """
    stages = ((16, 5, 3), (32, 3, 1), (64, 3, 1), (64, 3, 1), (128, 3, 1))
    for index, (filters, size, stride) in enumerate(stages, start=1):
        x = _convolve(x, filters, size, stride, f"conv{index}")
        x = layers.MaxPooling2D(name=f"pool{index}")(x)  # halves height and width
        x = _normalise(x, f"norm{index}")
        x = layers.ReLU(name=_LAST_MAP if index == 5 else f"relu{index}")(x)
    return _dense_head(StatelessDropout(dropout, name="dropout")(x))


@register(
    image_size=256, optimizer="adamw", learning_rate=2e-3, schedule="cosine", weight_decay=1e-2
)
def compact(x: Any, dropout: float) -> Any:
    """A small residual network (He 2016) with global average pooling.

    Only one dense layer follows the pooling, so the class activation map is exact (Zhou 2016).
    """
    x = _convolve(x, 24, 5, 2, "stem")
    x = layers.MaxPooling2D(name="stem_pool")(x)  # [batch, side / 4, side / 4, 24]
    x = layers.ReLU(name="stem_relu")(_normalise(x, "stem_norm"))
    for index, (filters, stride) in enumerate(((32, 1), (64, 2), (128, 2), (128, 2)), start=1):
        name = f"block{index}"
        # Two convolutions of 3x3.
        y = _convolve(x, filters, 3, stride, f"{name}_conv1")
        y = layers.ReLU(name=f"{name}_relu1")(_normalise(y, f"{name}_norm1"))
        y = _normalise(_convolve(y, filters, 3, 1, f"{name}_conv2"), f"{name}_norm2")
        # Where the shape changes, a 1x1 convolution brings the input to the new one.
        if x.shape[-1] != filters or stride != 1:
            x = layers.Conv2D(filters, 1, stride, use_bias=False, name=f"{name}_skip")(x)
            x = _normalise(x, f"{name}_skip_norm")
        x = layers.Add(name=f"{name}_add")([x, y])  # the skip connection
        x = layers.ReLU(name=_LAST_MAP if index == 4 else f"{name}_relu2")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)  # [batch, 128]
    return StatelessDropout(dropout, name="dropout")(x)


@register(
    image_size=128,
    optimizer="adamw",
    learning_rate=2e-3,
    schedule="cosine",
    weight_decay=1e-2,
    view="lungs",
    paint_opacities=0.6,
    source_free=True,
    # Strong: exposure and texture differ between hospitals.
    rotation=8.0,
    shear=3.0,
    zoom=0.18,
    shift=0.06,
    brightness=0.08,
    contrast=0.35,
    tone=1.8,
    gamma=0.6,
    blur=1.8,
    sharpen=1.8,
    noise=12.0,
    coarsen=0.6,
    jpeg=3.0,
)
def opacity(x: Any, dropout: float) -> Any:
    """A U-Net (Ronneberger 2015, arXiv:1505.04597) whose output is where an opacity is.

    Its last map is that output, at a quarter of the input's resolution; the only feature is its
    mean.
    """
    x = layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False, name="contrast")(x)
    x = _normalise(_convolve(x, 16, 5, 2, "stem"), "stem_norm")
    x = layers.ReLU(name="stem_relu")(x)  # [batch, side / 2, side / 2, 16]
    scales = []
    for index, filters in enumerate((24, 40, 64, 64), start=1):
        x = layers.MaxPooling2D(name=f"down{index}_pool")(x)  # halves height and width
        x = _twice(x, filters, f"down{index}")
        scales.append(x)
    x = StatelessDropout(dropout / 2, name="dropout")(x)
    for index, (filters, detail) in enumerate(
        zip((64, 40, 24), scales[-2::-1], strict=True), start=1
    ):
        x = _normalise(_convolve(x, filters, 1, 1, f"up{index}_conv1"), f"up{index}_norm1")
        x = layers.ReLU(name=f"up{index}_relu1")(x)
        # To the size of the detail: an odd one was halved with rounding.
        x = layers.Resizing(*detail.shape[1:3], name=f"up{index}_enlarge")(x)
        x = layers.Add(name=f"up{index}_add")([x, detail])
        x = _normalise(_convolve(x, filters, 3, 1, f"up{index}_conv2"), f"up{index}_norm2")
        x = layers.ReLU(name=f"up{index}_relu2")(x)
    # Rare at first: most pixels show no opacity.
    rare = keras.initializers.Constant(-2.0)
    logits = layers.Conv2D(1, 1, bias_initializer=rare, name=OPACITY_LOGITS)(x)
    # The map learns from what is painted alone, not from the class.
    shares = keras.ops.stop_gradient(layers.Activation("sigmoid", name="opacity")(logits))
    # Scaled, so that the mean of a few per cent moves the class.
    return layers.GlobalAveragePooling2D(name="features")(
        layers.Rescaling(OPACITY_SCALE, name=_LAST_MAP)(shares)
    )


def _twice(x: Any, filters: int, name: str) -> Any:
    # Two convolutions of 3x3, each normalised.
    for index in (1, 2):
        x = _normalise(_convolve(x, filters, 3, 1, f"{name}_conv{index}"), f"{name}_norm{index}")
        x = layers.ReLU(name=f"{name}_relu{index}")(x)
    return x


def _convolve(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    # No bias: the normalisation that follows has one.
    return layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        name=name,
    )(x)


def _normalise(x: Any, name: str) -> Any:
    # A short run has few hundred steps: at the default momentum of 0.99 the moving averages lag.
    return BatchNormalization(momentum=0.9, synchronized=True, name=name)(x)


def _dense_head(x: Any) -> Any:
    x = layers.Flatten(name="flatten")(x)  # [batch, height * width * channels]
    for units in (512, 256, 128, 64):
        x = layers.Dense(units, activation="relu", name=f"dense{units}")(x)
    return x


def _model(config: TrainConfig) -> _Model:
    if config.model in _MODELS:
        return _MODELS[config.model]
    if config.model in backbones.names():
        add_layers = functools.partial(backbones.add_layers, config.model)
        return _Model(add_layers, _PLAIN | backbones.recipe(config), source_free=False)
    nearest = difflib.get_close_matches(config.model.lower(), (*names(), *backbones.names()))
    raise UserError(
        f"--model={config.model}: choose one of {', '.join(nearest or names())}, or a network of "
        "keras.applications by its name, as densenet121."
    )
