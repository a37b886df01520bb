"""The networks, each registered by its name with its recipe beside it.

`build(config, classes)` makes the network of a configuration. To add a model, write one function
under `@register(...)`: it takes the scaled image and the dropout rate and returns features. Its
last feature map is a layer named `last_map`, which `evaluation.export_network` reads.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training.layers import BatchNormalization, BiasReLU, StatelessDropout

_LAST_MAP = "last_map"


@dataclasses.dataclass(frozen=True)
class _Model:
    add_layers: Callable[[Any, float], Any]  # (image in 0..1, dropout rate) → [batch, features]
    recipe: dict[str, Any]


_MODELS: dict[str, _Model] = {}


def register(
    *, image_size: int, optimizer: str, learning_rate: float, schedule: str, weight_decay: float
) -> Callable[[Callable], Callable]:
    """Registers the decorated function as the model of its name.

    The arguments are the recipe: the value of each setting where the user gives none.
    """

    def add_to_models(function: Callable) -> Callable:
        _MODELS[function.__name__] = _Model(
            function,
            recipe={
                "image_size": image_size,
                "optimizer": optimizer,
                "learning_rate": learning_rate,
                "schedule": schedule,
                "weight_decay": weight_decay,
            },
        )
        return function

    return add_to_models


def names() -> tuple[str, ...]:
    """The registered models, sorted by name."""
    return tuple(sorted(_MODELS))


def resolve(config: TrainConfig) -> TrainConfig:
    """Fills the settings left open (None) from the model's recipe.

    Batches from --data_service are not cached on this machine: cache becomes none.

    Raises:
      UserError: no model has that name.
    """
    changes = {
        name: value
        for name, value in _model(config).recipe.items()
        if getattr(config, name) is None
    }
    if config.data_service:
        changes["cache"] = "none"
    return dataclasses.replace(config, **changes)


def build(config: TrainConfig, classes: int) -> keras.Model:
    """Builds the network of a resolved configuration.

    Returns:
      A model from [batch, image_size, image_size, 1] in 0..255 to a dict: logits and probabilities,
      [batch, classes] float32 (float64 at that precision).

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
    logits = layers.Dense(classes, name="logits", dtype=dtype)(x)
    network = keras.Model(
        image,
        outputs={
            "logits": logits,
            "probabilities": layers.Softmax(name="probabilities", dtype=dtype)(logits),
        },
        name=config.model,
    )
    if all(layer.name != _LAST_MAP for layer in network.layers):
        raise RuntimeError(
            f"the model {network.name} has no layer named {_LAST_MAP}; give this name to the layer "
            "of its last feature map, from which the evidence maps are made."
        )
    return network


def without_strategy(model: keras.Model, config: TrainConfig) -> keras.Model:
    """Copies a network for one process alone; several workers must all call it.

    Returns:
      A model with the same weights; `model` itself where one process trained it.
    """
    if config.strategy != "multi_worker":
        return model
    copy = build(config, model.output["logits"].shape[-1])
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
    if config.model not in _MODELS:
        raise UserError(f"--model={config.model}: choose one of {', '.join(names())}.")
    return _MODELS[config.model]
