"""Starts from the weights of another network, and spares them in training.

    note = WarmStart("runs/first", trunk, dense, class_names).apply(network, class_names)
    train_step = slow_trunk(train_step, network, optimizer, strategy, config, examples)

The trunk of a network is all up to its layer `last_map`; the head is what follows.
"""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training import input_pipeline


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """The weights that a network starts from.

    Attributes:
      source: where they come from, in the words of the flag.
      trunk: weights of the trunk, in its order.
      dense: kernel and bias of each dense layer of the head; empty for none.
      class_names: that the last dense layer tells apart.
    """

    source: str
    trunk: list[np.ndarray]
    dense: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    class_names: tuple[str, ...] = ()

    def apply(self, network: keras.Model, class_names: tuple[str, ...]) -> str:
        """Sets the weights of a network, in the strategy's scope.

        The last layer of the head is kept where the classes are the same, in any order; the others
        where their shapes are the same: those of a flattened map depend on the image's size.

        Returns:
          One line on what was kept.

        Raises:
          UserError: the trunk has other shapes.
        """
        try:
            trunk(network).set_weights(self.trunk)
        except ValueError as error:
            raise UserError(
                f"{self.source} has not the layers of --model={network.name} "
                f"({str(error).splitlines()[0]}); give the --model that it was trained with."
            ) from error
        dense = head(network)
        kept = list(zip(dense, self.dense, strict=False))
        if sorted(class_names) == sorted(self.class_names):
            order = [self.class_names.index(name) for name in class_names]
            layer, (kernel, bias) = kept[-1]
            kept[-1] = (layer, (kernel[:, order], bias[order]))
        else:
            kept = kept[:-1]
        if any(layer.kernel.shape != kernel.shape for layer, (kernel, _) in kept):
            kept = []
        for layer, values in kept:
            layer.set_weights(values)
        return f"starts from {self.source}, with {len(dense) - len(kept)} new layer(s) in the head"


def trunk(network: keras.Model) -> keras.Model:
    """The layers up to the last feature map."""
    last_map = network.get_layer("last_map").output
    return keras.Model(network.input, last_map, name=f"{network.name}_trunk")


def head(network: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers after the last feature map, in order."""
    index = network.layers.index(network.get_layer("last_map"))
    return [layer for layer in network.layers[index:] if isinstance(layer, keras.layers.Dense)]


def slow_trunk(
    train_step: Callable[[dict], dict[str, tf.Tensor]],
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    config: TrainConfig,
    examples: int,
) -> Callable[[dict], dict[str, tf.Tensor]]:
    """Makes each step change the trunk less, and in the first epochs not at all.

    The update itself is scaled, with its weight decay: Adam divides a factor of the gradient out.
    Moving averages of batch normalisation follow the images, and Adam's of the gradient are filled,
    from the first step. The factor depends on the step alone, so a resumed run has the same.

    Args:
      train_step: from `steps.make_train_step`.
      network: made in the strategy's scope.
      optimizer: of the network; it counts the steps.
      strategy: of training.
      config: its freeze_epochs, backbone_rate and batch_size.
      examples: number of training images.

    Returns:
      `train_step` itself where the trunk is trained as the head is.
    """
    rate = config.backbone_rate or 1.0
    if not config.freeze_epochs and rate == 1.0:
        return train_step
    frozen_steps = input_pipeline.number_of_steps(
        examples, config.freeze_epochs or 0, config.batch_size
    )
    weights = [variable.value for variable in trunk(network).trainable_variables]

    def move(weight: tf.Variable, old: tf.Tensor, factor: tf.Tensor) -> None:
        weight.assign(old + tf.cast(factor, old.dtype) * (weight - old))

    @tf.function(autograph=False)
    def slowed_step(batch: dict) -> dict[str, tf.Tensor]:
        factor = tf.where(tf.convert_to_tensor(optimizer.iterations) < frozen_steps, 0.0, rate)
        before = [tf.identity(weight) for weight in weights]
        metrics = train_step(batch)
        for weight, old in zip(weights, before, strict=True):
            strategy.extended.update(weight, move, args=(old, factor))
        return metrics

    return slowed_step
