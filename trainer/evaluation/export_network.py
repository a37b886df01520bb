"""The network as it is exported: preprocessing before it; after it calibrated probabilities, evidence maps and features.

The map is written as forward operations, so every runtime gives it and none needs a gradient.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from trainer.training.layers import Resample, triangle_filter

# The last feature map of each network; what follows it is a stack of dense layers.
_LAST_MAP = {"cnn": "relu5", "seed_cnn": "relu5", "compact": "block4_relu2"}


def export_of(model: keras.Model, side: int, temperature: float = 1.0) -> keras.Model:
    """Builds the network that is saved: its weights are copies of those of `model`.

    Args:
      model: as `models.build` gives it.
      side: of the prepared squares, in pixels.
      temperature: what logits are divided by (Guo 2017); 1 for none.

    Returns:
      A model from image [batch, side, side, 1] float32 in 0..255 to a dict: probabilities [batch, classes], calibrated;
      map [batch, side, side, classes] ≥ 0, where in the image the evidence for each class lies, in logits a cell of the feature
      map; features [batch, channels], the means of the last feature map over all places.
    """
    name, model = model.name, _in_float32(model)
    trunk = keras.Model(model.input, model.get_layer(_LAST_MAP[name]).output, name=f"{name}_trunk")
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    pooled = any(isinstance(layer, layers.GlobalAveragePooling2D) for layer in model.layers)
    head = EvidenceHead(
        [layer.units for layer in dense], pooled, temperature, name="evidence", dtype="float32"
    )
    image = keras.Input((side, side, 1), name="image", dtype="float32")
    network_side = model.input_shape[1]
    x = (
        image
        if network_side == side
        else Resample(network_side, name="resample", dtype="float32")(image)
    )
    found = head(layers.Activation("linear", name="last_map", dtype="float32")(trunk(x)))
    head.set_weights([value for layer in dense for value in layer.get_weights()])
    outputs = {
        "probabilities": found["probabilities"],
        "features": found["features"],
        "map": Enlarge(side, name="map", dtype="float32")(found["map"]),
    }
    return keras.Model(image, outputs, name=f"{name}_export")


def _in_float32(model: keras.Model) -> keras.Model:
    """The network with all arithmetic in single precision, which every runtime knows; itself where it is so already."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    cast = keras.models.clone_model(
        model,
        clone_function=lambda layer: layer.__class__.from_config(
            {**layer.get_config(), "dtype": "float32"}
        ),
    )
    cast.set_weights(model.get_weights())
    return cast


def average_of(models: list[keras.Model]) -> keras.Model:
    """An ensemble: the mean of the members' probabilities and maps, their features side by side."""
    image = keras.Input(models[0].input_shape[1:], name="image", dtype="float32")
    found = [
        keras.Model(member.input, member.output, name=f"member{index}")(image)
        for index, member in enumerate(models)
    ]
    outputs = {
        name: layers.Average(name=name)([part[name] for part in found])
        for name in ("probabilities", "map")
    }
    outputs["features"] = layers.Concatenate(name="features")([part["features"] for part in found])
    return keras.Model(image, outputs, name="ensemble_export")


@keras.saving.register_keras_serializable("trainer")
class EvidenceHead(layers.Layer):
    """A stack of dense layers with ReLU between them, that also says which places of its input speak for which class.

    The map of class c is the gradient of (logit c minus the mean logit of the other classes) through the stack, times the
    input, summed over channels: HiResCAM (Draelos & Carin 2020, arXiv:2011.08891). Between two kinks of the ReLUs the stack
    is linear, so a place's value is exactly what it adds to that difference; after global average pooling it is the
    class activation map of Zhou 2016 (doi:10.1109/CVPR.2016.319). Negative values are set to zero.

    Args:
      units: of each dense layer; the last number is that of the classes.
      pooled: whether the input is averaged over places first, else flattened.
      temperature: what logits are divided by before the softmax.
    """

    def __init__(self, units: list[int], pooled: bool, temperature: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.pooled, self.temperature = list(units), pooled, float(temperature)

    def build(self, input_shape: tuple) -> None:
        width = input_shape[-1] if self.pooled else int(np.prod(input_shape[1:]))
        self.kernels, self.biases = [], []
        for index, units in enumerate(self.units, start=1):
            self.kernels.append(
                self.add_weight(shape=(width, units), name=f"kernel{index}", trainable=False)
            )
            self.biases.append(
                self.add_weight(shape=(units,), name=f"bias{index}", trainable=False)
            )
            width = units

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """[batch, height, width, channels] → probabilities, features, and map [batch, height, width, classes]."""
        features = tf.reduce_mean(inputs, axis=[1, 2])
        x = features if self.pooled else tf.reshape(inputs, [-1, self.kernels[0].shape[0]])
        open_gates = []
        for kernel, bias in list(zip(self.kernels, self.biases, strict=True))[:-1]:
            x = tf.nn.relu(tf.matmul(x, kernel) + bias)
            open_gates.append(tf.sign(x))
        logits = tf.matmul(x, self.kernels[-1]) + self.biases[-1]
        maps = [self._map(inputs, open_gates, index) for index in range(self.units[-1] - 1)]
        maps.append(
            -tf.add_n(maps)
        )  # Over the classes they sum to zero, so the last needs no gradient.
        return {
            "probabilities": tf.nn.softmax(logits / self.temperature),
            "features": features,
            "map": tf.nn.relu(tf.stack(maps, axis=-1)),
        }

    def _map(self, inputs: tf.Tensor, open_gates: list[tf.Tensor], index: int) -> tf.Tensor:
        classes = self.units[-1]
        contrast = np.full((1, classes), -1.0 / (classes - 1), np.float32)
        contrast[0, index] = 1.0
        gradient = tf.matmul(tf.constant(contrast), self.kernels[-1], transpose_b=True)
        for gate, kernel in zip(reversed(open_gates), reversed(self.kernels[:-1]), strict=True):
            gradient = tf.matmul(gradient * gate, kernel, transpose_b=True)
        height, width, channels = inputs.shape[1:]
        if self.pooled:
            gradient = tf.reshape(gradient, [-1, 1, 1, channels]) / float(height * width)
        else:
            gradient = tf.reshape(gradient, [-1, height, width, channels])
        return tf.reduce_sum(gradient * inputs, axis=-1)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "pooled": self.pooled,
            "temperature": self.temperature,
        }


@keras.saving.register_keras_serializable("trainer")
class Enlarge(layers.Layer):
    """Enlarges maps [batch, height, width, classes] to `side` x `side` bilinearly, as two matrix products."""

    def __init__(self, side: int, **kwargs):
        super().__init__(**kwargs)
        self.side = side

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        height, width, classes = inputs.shape[1:]
        rows = tf.constant(triangle_filter(height, self.side))
        # The classes of a place lie side by side, so a matrix with each weight once a class saves turning the map around.
        columns = tf.constant(
            np.kron(triangle_filter(width, self.side).T, np.eye(classes)), tf.float32
        )
        wide = tf.matmul(tf.reshape(inputs, [-1, width * classes]), columns)
        return tf.reshape(
            tf.matmul(rows, tf.reshape(wide, [-1, height, self.side * classes])),
            [-1, self.side, self.side, classes],
        )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.side, self.side, input_shape[-1])

    def get_config(self) -> dict:
        return {**super().get_config(), "side": self.side}
