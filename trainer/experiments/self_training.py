"""Self-training: a round learns the opacity maps that the round before gives positive images.

    find_opacities = self_training.teacher(run)
    opacities = find_opacities(images)

The first round sees painted opacities alone. Its maps mark real ones; trained on these marks beside
paint, the next round learns what they look like. Where the maps mark one source more than another,
it can learn the source too. (Self-training: Xie 2020, arXiv:1911.04252.)
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.data.run import Run
from trainer.errors import UserError
from trainer.evaluation import saved_model
from trainer.training import input_pipeline, models

_BATCH_SIZE = 32


def round_before(config: TrainConfig) -> TrainConfig:
    """Makes the configuration of the round before the last, a member of the workdir."""
    rounds = config.rounds - 1
    assert config.workdir is not None
    workdir = Path(config.workdir) / "members" / f"round_{rounds}"
    return dataclasses.replace(config, rounds=rounds, workdir=str(workdir))


def teacher(run: Run) -> Callable[[np.ndarray], np.ndarray] | None:
    """Loads the network of the teacher, or of the round before; None if there is neither.

    Returns:
      A function from images [n, side, side, 1] uint8, of the network's side, to their opacity maps,
      [n, side, side, 1] uint8 in 0..255.

    Raises:
      UserError: the teacher is not finished, or has no opacity map of this side.
    """
    config = run.config
    if config.rounds > 1:
        folder = Path(str(round_before(config).workdir))
    elif config.teacher:
        folder = Path(config.teacher).expanduser()
    else:
        return None
    trunks = _trunks(saved_model.load(folder).network, config.model)
    if not trunks or trunks[0].input_shape[1] != config.image_size:
        raise UserError(
            f"{folder} has no opacity map of side {config.image_size}; give the --teacher of a run "
            f"with --model={config.model} --image_size={config.image_size}."
        )

    @tf.function
    def forward(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        maps = [trunk(images, training=False) / models.OPACITY_SCALE for trunk in trunks]
        mean = tf.add_n(maps) / len(maps)
        return tf.image.resize(mean, images.shape[1:3])  # [batch, side, side, 1] in 0..1

    def find_opacities(images: np.ndarray) -> np.ndarray:
        maps = [
            forward(tf.constant(batch)).numpy()[:count]
            for batch, count in input_pipeline.evaluation_batches(images, _BATCH_SIZE)
        ]
        if not maps:
            return np.zeros_like(images)
        return np.round(255.0 * np.concatenate(maps)).astype(np.uint8)

    return find_opacities


def _trunks(network: keras.Model, name: str) -> list[keras.Model]:
    """Lists the networks up to the map in an export, one a member; before them is resampling."""
    nested = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    trunks = [layer for layer in nested if layer.name == f"{name}_trunk"]
    return trunks or [trunk for layer in nested for trunk in _trunks(layer, name)]
