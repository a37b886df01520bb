"""Keeps a run's state on disk: the newest checkpoints to resume from, and the best weights so far."""

import hashlib
from pathlib import Path

import keras
import tensorflow as tf

_KEPT = 3


class Checkpoints:
    """The checkpoints of one workdir.

    No iterator state is saved: the pipeline can start at any step, so model, optimizer and step are everything.

    Args:
      folder: where they are kept.
      model, optimizer: what is saved and restored, in place.
    """

    def __init__(self, folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer):
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        state = tf.train.Checkpoint(model=model, optimizer=optimizer, step=self._step)
        self._manager = tf.train.CheckpointManager(state, str(folder), max_to_keep=_KEPT, checkpoint_name="step")
        self._weights = tf.train.Checkpoint(model=model)
        self._best = str(folder / "best")

    def restore(self) -> int:
        """Restores the newest checkpoint and returns its step; 0 where there is none."""
        self._manager.restore_or_initialize()
        return int(self._step.numpy())

    def save(self, step: int) -> None:
        """Saves the state after `step` steps; saving the same step twice does nothing the second time."""
        if self._manager.latest_checkpoint and int(self._step.numpy()) == step:
            return
        self._step.assign(step)
        self._manager.save(checkpoint_number=step)

    def save_best(self) -> None:
        """Keeps the model's present weights as the best so far."""
        self._weights.write(self._best)

    def restore_best(self) -> None:
        """Puts the best weights back into the model."""
        self._weights.read(self._best).expect_partial()


def weights_sha256(model: keras.Model) -> str:
    """SHA-256 over all of a model's weights, in order, as hexadecimal: equal for two runs that agree bit for bit."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(value.tobytes())
    return digest.hexdigest()
