"""How this project does it: batches as the loop takes them, and its training step."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tests.benchmark.rows import seconds
from trainer.config import TrainConfig, resolved
from trainer.training import augment, distribution, input_pipeline, models, steps


def batches(
    train: input_pipeline.Examples, batch: int, config: TrainConfig | None = None
) -> tf.data.Dataset:
    """The batches that training takes, in the default views (or a configuration's), with what is prepared ahead."""
    limits = augment.Limits.from_config(config or TrainConfig())
    return input_pipeline.training_batches(train, limits, batch, seed=0).prefetch(2)


class Training:
    """A network, its optimizer and its step, made as the loop makes them; float32, the configuration's strategy."""

    def __init__(self, config: TrainConfig):
        self.config = resolved(config)
        self.strategy = distribution.make_strategy(self.config)
        keras.utils.set_random_seed(self.config.seed)
        tf.config.experimental.enable_op_determinism()
        with self.strategy.scope():
            self.model = models.build(self.config, 2)
            self.optimizer = steps.make_optimizer(
                self.config, steps.make_rate(self.config, 10_000, 100.0)
            )
            self.optimizer.build(self.model.trainable_variables)
        weights = steps.class_weights(np.array([0, 1]), 2, False)
        self.step = steps.make_train_step(
            self.model, self.optimizer, self.strategy, self.config, weights
        )

    def dealt(self, train: input_pipeline.Examples):
        """An iterator of batches, as the loop has it."""
        data = input_pipeline.training_batches(
            train, augment.Limits.from_config(self.config), self.config.batch_size, 0
        )
        return distribution.deal(
            distribution.Workers.of(self.strategy), data, self.config.batch_size
        )


def step(steps: int, **settings) -> Callable[[], float]:
    """The seconds a training step takes, over `steps` steps of one batch in memory; `settings` are a TrainConfig's."""
    training = Training(TrainConfig(**settings))
    side, size = training.config.image_size, training.config.batch_size
    one = next(training.dealt(squares(size, side)))

    def several() -> None:
        for _ in range(steps):
            [float(value) for value in training.step(one)]

    several()
    return lambda: seconds(several) / steps


def squares(count: int, side: int) -> input_pipeline.Examples:
    """Examples of noise, for where the pixels do not matter."""
    rng = np.random.default_rng(0)
    names = np.array([f"{index}" for index in range(count)])
    return input_pipeline.Examples(
        rng.integers(0, 256, (count, side, side, 1), np.uint8),
        np.arange(count, dtype=np.int32) % 2,
        names,
        names,
    )
