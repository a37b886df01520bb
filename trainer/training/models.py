"""The networks: functional, with named layers; each takes grey squares in 0..255 and ends in logits and probabilities.

`build` gives the network training works on (the square of --image_size in); `explained.export_of` makes of it what is saved.
"""

import keras
from keras import layers

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training.layers import BatchNormalization, BiasReLU, StatelessDropout


def build(config: TrainConfig, classes: int) -> keras.Model:
    """Builds the network a resolved configuration names.

    Returns:
      A model from [batch, image_size, image_size, 1] (0..255) to a dict: logits and probabilities, [batch, classes] float32.

    Raises:
      UserError: the square is too small for the network's poolings.
    """
    image = keras.Input((config.image_size, config.image_size, 1), name="image")
    x = layers.Rescaling(1.0 / 255.0, name="rescale")(image)
    try:
        x = {"cnn": cnn, "seed_cnn": seed_cnn, "compact": compact}[config.model](x, config.dropout)
    except ValueError as error:
        raise UserError(
            f"--image_size={config.image_size} is too small for {config.model}; give a larger one."
        ) from error
    head = "float64" if config.precision == "float64" else "float32"
    logits = layers.Dense(classes, name="logits", dtype=head)(x)
    probabilities = layers.Softmax(name="probabilities", dtype=head)(logits)
    return keras.Model(image, {"logits": logits, "probabilities": probabilities}, name=config.model)


def without_strategy(model: keras.Model, config: TrainConfig) -> keras.Model:
    """The same network with the same weights, for one process alone. Several workers must all call it."""
    if config.strategy != "multi_worker":
        return model
    alone = build(config, model.output["logits"].shape[-1])
    alone.set_weights(model.get_weights())
    return alone


def seed_cnn(x, dropout: float):
    """The reference to the letter: five 3x3 convolutions without padding, bias, ReLU and 2x2 max-pooling after each.

    Pooling comes before bias and ReLU, which gives the same: see `BiasReLU`.
    """
    for index, filters in enumerate((32, 32, 64, 64, 128), start=1):
        x = layers.Conv2D(filters, 3, use_bias=False, name=f"conv{index}")(x)
        x = layers.MaxPooling2D(name=f"pool{index}")(x)
        x = BiasReLU(name=f"relu{index}")(x)
    return _dense_head(StatelessDropout(dropout, name="dropout")(x))


def cnn(x, dropout: float):
    """The reference's shape with a strided first convolution, batch normalisation, and pooling before the activation.

    Max-pooling and ReLU commute, so pooling first gives the same result for a quarter of the work.
    """
    stages = ((16, 5, 3), (32, 3, 1), (64, 3, 1), (64, 3, 1), (128, 3, 1))
    for index, (filters, size, stride) in enumerate(stages, start=1):
        x = layers.Conv2D(
            filters, size, stride, padding="same", use_bias=False, name=f"conv{index}"
        )(x)
        x = layers.MaxPooling2D(name=f"pool{index}")(x)
        x = layers.ReLU(name=f"relu{index}")(_normalised(x, f"norm{index}"))
    return _dense_head(StatelessDropout(dropout, name="dropout")(x))


def compact(x, dropout: float):
    """A small residual network (He 2016) with global average pooling, so that its class activation map is exact."""
    x = layers.Conv2D(24, 5, 2, padding="same", use_bias=False, name="stem")(x)
    x = layers.MaxPooling2D(name="stem_pool")(x)
    x = layers.ReLU(name="stem_relu")(_normalised(x, "stem_norm"))
    for index, (filters, stride) in enumerate(((32, 1), (64, 2), (128, 2), (128, 2)), start=1):
        x = _residual(x, filters, stride, f"block{index}")
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return StatelessDropout(dropout, name="dropout")(x)


def _residual(x, filters: int, stride: int, name: str):
    y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    y = layers.ReLU(name=f"{name}_relu1")(_normalised(y, f"{name}_norm1"))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv2")(y)
    y = _normalised(y, f"{name}_norm2")
    if x.shape[-1] != filters or stride != 1:
        x = layers.Conv2D(filters, 1, stride, use_bias=False, name=f"{name}_skip")(x)
        x = _normalised(x, f"{name}_skip_norm")
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, y]))


def _normalised(x, name: str):
    # A short run sees few hundred steps: the default momentum of 0.99 would leave the moving averages behind.
    return BatchNormalization(momentum=0.9, synchronized=True, name=name)(x)


def _dense_head(x):
    x = layers.Flatten(name="flatten")(x)
    for units in (512, 256, 128, 64):
        x = layers.Dense(units, activation="relu", name=f"dense{units}")(x)
    return x
