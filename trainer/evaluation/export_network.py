"""The network as saved: preprocessing, calibrated probabilities, evidence maps and features.

    network = build_export(model, side=500, temperature=1.2)

The map is a forward operation, so every runtime computes it and none needs a gradient.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from trainer.analysis.calibration import Divisor
from trainer.training import models, warm_start
from trainer.training.layers import Resample, triangle_filter


def build_export(model: keras.Model, side: int, temperature: Divisor = 1.0) -> keras.Model:
    """Builds the network that is saved, with copies of the weights of `model`.

    Args:
      model: from `models.build`.
      side: side length of the prepared images, in pixels.
      temperature: divisor of the logits (Guo 2017), or those of the findings; 1 for none.

    Returns:
      A model from image [batch, side, side, 1] float32 in 0..255 to a dict: probabilities
      [batch, classes], calibrated; map [batch, side, side, classes] ≥ 0, the evidence for each
      class in logits a cell of the feature map; features [batch, channels], the spatial means
      of the last feature map.
    """
    # Cut at the last feature map, from which the head computes maps besides logits.
    name = model.name
    model = _in_float32(model)
    trunk = warm_start.trunk(model)
    dense = warm_start.head(model)
    pooled = any(isinstance(layer, layers.GlobalAveragePooling2D) for layer in model.layers)
    units = [layer.units for layer in dense]
    multi_label = models.is_multi_label(model)
    head = EvidenceHead(units, pooled, temperature, multi_label, name="evidence", dtype="float32")

    image = keras.Input((side, side, 1), name="image", dtype="float32")
    network_side = model.input_shape[1]
    # Resampling is part of the network, so callers pass prepared images whatever the model.
    x = image
    if network_side != side:
        x = Resample(network_side, name="resample", dtype="float32")(x)
    return add_map(image, trunk(x), head, dense, f"{name}_export")


def add_map(
    image: keras.KerasTensor,
    last_map: keras.KerasTensor,
    head: "EvidenceHead",
    dense: list[layers.Dense],
    name: str,
) -> keras.Model:
    """Builds an export from a network up to its last feature map.

    Args:
      image: [batch, side, side, 1], the input.
      last_map: [batch, height, width, channels], the output.
      head: not yet built.
      dense: layers whose weights the head gets.
      name: of the export.
    """
    x = layers.Activation("linear", name="last_map", dtype="float32")(last_map)
    outputs = dict(head(x))
    # In the order in which `EvidenceHead.build` creates them.
    head.set_weights([value for layer in dense for value in layer.get_weights()])
    outputs["map"] = Enlarge(image.shape[1], name="map", dtype="float32")(outputs["map"])
    return keras.Model(image, outputs, name=name)


def build_ensemble(models: list[keras.Model]) -> keras.Model:
    """Builds the mean of several exports: probabilities and maps averaged, features joined."""
    image = keras.Input(models[0].input_shape[1:], name="image", dtype="float32")
    members = [
        keras.Model(model.input, model.output, name=f"member{index}")(image)
        for index, model in enumerate(models)
    ]
    outputs = {
        name: layers.Average(name=name)([member[name] for member in members])
        for name in ("probabilities", "map")
    }
    features = [member["features"] for member in members]
    outputs["features"] = layers.Concatenate(name="features")(features)
    return keras.Model(image, outputs, name="ensemble_export")


def opacity_evidence(network: keras.Model, positive: int) -> float:
    """Computes the map's value for the positive class where the opacity is complete.

    Args:
      network: an export of a model with an opacity map, or the mean of several.
      positive: index of that class.

    Returns:
      In logits a cell; 0 where opacities speak against the class.
    """
    values = []
    for trunk, head in trunks_and_heads(network):
        kernel = head.kernels[-1].numpy()[0]  # [classes]
        contrast = kernel[positive] - np.delete(kernel, positive).mean()
        height, width = trunk.output_shape[1:3]
        values.append(max(float(contrast) * models.OPACITY_SCALE / (height * width), 0.0))
    return float(np.mean(values))


def trunks_and_heads(network: keras.Model) -> list[tuple[keras.Model, "EvidenceHead"]]:
    """Cuts an export into trunk and head; an ensemble gives several pairs."""
    nested = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    heads = [layer for layer in network.layers if isinstance(layer, EvidenceHead)]
    if heads:
        return [(nested[-1], heads[0])]
    return [pair for member in nested for pair in trunks_and_heads(member)]


def _in_float32(model: keras.Model) -> keras.Model:
    """Converts a network to single precision, which every runtime supports."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def cast(layer: keras.Operation) -> keras.Operation:
        # Operations that are no layers have no precision of their own.
        dtype = {"dtype": "float32"} if isinstance(layer, layers.Layer) else {}
        return type(layer).from_config(layer.get_config() | dtype)

    # Weights are float32 at every precision but float64, which is rounded.
    copy = keras.models.clone_model(model, clone_function=cast, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


@keras.saving.register_keras_serializable("trainer")
class EvidenceHead(layers.Layer):
    """A stack of dense layers that also computes evidence maps of its input.

    ReLU follows each layer but the last. The map of class c is the gradient of (logit c minus the
    mean logit of the other classes) through the stack, times the input, summed over channels:
    HiResCAM (Draelos & Carin 2020, arXiv:2011.08891). Between two kinks of the ReLUs the stack is
    linear, so a cell's value is exactly its contribution to that difference. After global average
    pooling it is the class activation map of Zhou 2016 (doi:10.1109/CVPR.2016.319). Negative values
    are set to zero. Of several findings an image the map of one is the gradient of its logit alone.

    Args:
      units: of each dense layer; the last number is that of the classes.
      pooled: whether the input is averaged over space first, else flattened.
      temperature: divisor of the logits, or one for each finding.
      multi_label: whether each logit has its own probability; else a softmax joins them.
    """

    def __init__(
        self,
        units: list[int],
        pooled: bool,
        temperature: Divisor = 1.0,
        multi_label: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = list(units)
        self.pooled = pooled
        # As JSON holds them: a number or a list.
        self.temperature = np.asarray(temperature, np.float64).tolist()
        self.multi_label = multi_label

    def build(self, input_shape: tuple) -> None:
        """Creates kernel and bias of each dense layer."""
        width = input_shape[-1] if self.pooled else int(np.prod(input_shape[1:]))
        self.kernels = []
        self.biases = []
        for index, units in enumerate(self.units, start=1):
            kernel = self.add_weight(shape=(width, units), name=f"kernel{index}", trainable=False)
            bias = self.add_weight(shape=(units,), name=f"bias{index}", trainable=False)
            self.kernels.append(kernel)
            self.biases.append(bias)
            width = units

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes probabilities, features and map [batch, height, width, classes].

        Args:
          inputs: [batch, height, width, channels].
        """
        features = tf.reduce_mean(inputs, axis=[1, 2])  # [batch, channels]
        x = features
        if not self.pooled:
            x = tf.reshape(inputs, [-1, self.kernels[0].shape[0]])
        gates = []  # 1 where a ReLU passes its input, else 0.
        for kernel, bias in list(zip(self.kernels, self.biases, strict=True))[:-1]:
            x = tf.nn.relu(tf.matmul(x, kernel) + bias)
            gates.append(tf.sign(x))
        logits = tf.matmul(x, self.kernels[-1]) + self.biases[-1]
        logits /= tf.constant(self.temperature, tf.float32)
        if self.multi_label:
            probabilities = tf.nn.sigmoid(logits)
            maps = [self._map(inputs, gates, index) for index in range(self.units[-1])]
        else:
            probabilities = tf.nn.softmax(logits)
            maps = [self._map(inputs, gates, index) for index in range(self.units[-1] - 1)]
            maps.append(-tf.add_n(maps))  # Over the classes they sum to zero: no gradient needed.
        return {
            "probabilities": probabilities,
            "features": features,
            "map": tf.nn.relu(tf.stack(maps, axis=-1)),
        }

    def _map(self, inputs: tf.Tensor, gates: list[tf.Tensor], index: int) -> tf.Tensor:
        """Computes the signed map of one class, [batch, height, width]."""
        classes = self.units[-1]
        contrast = np.zeros((1, classes), np.float32)
        if not self.multi_label:
            contrast[:] = -1.0 / (classes - 1)
        contrast[0, index] = 1.0
        gradient = tf.matmul(tf.constant(contrast), self.kernels[-1], transpose_b=True)
        for gate, kernel in zip(reversed(gates), reversed(self.kernels[:-1]), strict=True):
            gradient = tf.matmul(gradient * gate, kernel, transpose_b=True)
        height, width, channels = inputs.shape[1:]
        if self.pooled:
            gradient = tf.reshape(gradient, [-1, 1, 1, channels]) / float(height * width)
        else:
            gradient = tf.reshape(gradient, [-1, height, width, channels])
        return tf.reduce_sum(gradient * inputs, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "pooled": self.pooled,
            "temperature": self.temperature,
            "multi_label": self.multi_label,
        }


@keras.saving.register_keras_serializable("trainer")
class Enlarge(layers.Layer):
    """Enlarges maps [batch, height, width, classes] to squares, bilinearly.

    Args:
      side: of the squares, in pixels.
    """

    def __init__(self, side: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.side = side

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Enlarges by two matrix products, one for rows and one for columns."""
        height, width, classes = inputs.shape[1:]
        rows = tf.constant(triangle_filter(height, self.side))  # [side, height]
        # Each weight stands once a class, so that the maps need no transposition.
        kernel = np.kron(triangle_filter(width, self.side).T, np.eye(classes))
        columns = tf.constant(kernel, tf.float32)  # [width * classes, side * classes]
        wide = tf.matmul(tf.reshape(inputs, [-1, width * classes]), columns)
        enlarged = tf.matmul(rows, tf.reshape(wide, [-1, height, self.side * classes]))
        return tf.reshape(enlarged, [-1, self.side, self.side, classes])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns (batch, side, side, classes)."""
        return (input_shape[0], self.side, self.side, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Returns the argument of the constructor."""
        return {**super().get_config(), "side": self.side}
