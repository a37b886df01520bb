"""One training step and one prediction, as TensorFlow functions over a strategy."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.training import input_pipeline, layers


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate, constant or scheduled, times a factor that can be changed between steps.

    Args:
      rate: constant, or a schedule.
    """

    def __init__(self, rate: float | keras.optimizers.schedules.LearningRateSchedule):
        self._rate, self._factor = rate, tf.Variable(1.0, trainable=False)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self._factor * tf.cast(
            self._rate(step) if callable(self._rate) else self._rate, tf.float32
        )

    def scale(self, factor: float) -> None:
        """Sets the factor."""
        self._factor.assign(factor)


def make_rate(config: TrainConfig, steps: int, steps_an_epoch: float) -> Rate:
    """The learning rate of a run of `steps` steps. Call it outside a strategy's scope.

    The cosine schedule rises linearly for `warmup_epochs` and falls to zero at the last step (Loshchilov & Hutter 2017).
    """
    rate = config.learning_rate
    if config.schedule == "cosine":
        warmup = float(min(round(config.warmup_epochs * steps_an_epoch), steps - 1))
        # Float counts: ints raise a dtype error inside CosineDecay's warm-up branch.
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            steps - warmup,
            0.0,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    return Rate(rate)


def make_optimizer(config: TrainConfig, rate: Rate) -> keras.optimizers.Optimizer:
    """Builds the optimizer. Call it in the strategy's scope."""
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    else:
        optimizer = keras.optimizers.Adam(rate)
    return (
        keras.optimizers.LossScaleOptimizer(optimizer)
        if config.precision == "mixed_float16"
        else optimizer
    )


def _take_gradients_as_sums(optimizer: keras.optimizers.Optimizer) -> None:
    """Keeps the optimizer from adding gradients up over replicas: the step does so before, so that clipping sees all of them.

    Twice costs a twelfth of a step of the default model on two devices. Keras has no public switch for it.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(inner, "_all_reduce_sum_gradients"):
        raise RuntimeError(
            f"Keras {keras.__version__} sums gradients elsewhere; install the one that "
            "requirements.lock names."
        )
    inner._all_reduce_sum_gradients = lambda pairs: pairs


def class_weights(labels: np.ndarray, classes: int, used: bool) -> tf.Tensor:
    """The weight of each class, [classes] float32: inverse to its frequency with a mean of 1 over the images, or all ones."""
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (classes * np.maximum(counts, 1)) if used else np.ones(classes)
    return tf.constant(weights, tf.float32)


def make_train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    config: TrainConfig,
    weights: tf.Tensor,
) -> Callable:
    """Builds the function that takes one dealt batch and updates the weights.

    Returns:
      batch → (loss, accuracy, gradient norm, learning rate), scalars: those of the global batch before the update, and the
      rate it is made with.
    """
    classes = model.output["logits"].shape[-1]
    replicas = strategy.num_replicas_in_sync
    _take_gradients_as_sums(optimizer)
    scales_loss = config.precision == "mixed_float16"

    def losses_of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        targets = tf.one_hot(labels, classes, dtype=logits.dtype)
        targets = targets * (1.0 - config.label_smoothing) + config.label_smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        return losses * tf.cast(tf.gather(weights, labels), logits.dtype)

    def on_replica(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with layers.example_seeds(batch["noise_seed"]), tf.GradientTape() as tape:
            logits = model(batch["image"], training=True)["logits"]
            loss = tf.reduce_sum(losses_of(batch["label"], logits)) / config.batch_size
            scaled = optimizer.scale_loss(loss) if scales_loss else loss
        gradients = tape.gradient(scaled, model.trainable_variables)
        gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
        scale = tf.convert_to_tensor(optimizer.dynamic_scale) if scales_loss else 1.0
        norm = tf.linalg.global_norm(gradients)
        if config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(
                gradients, config.clip_norm * scale, use_norm=norm
            )
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        right = tf.reduce_sum(
            tf.cast(tf.equal(tf.argmax(logits, 1, tf.int32), batch["label"]), tf.float32)
        )
        return loss, right / config.batch_size, norm / scale / replicas

    @tf.function(
        autograph=False
    )  # No control flow hangs on a tensor, and looking for it takes a second.
    def step(batch: dict) -> tuple[tf.Tensor, ...]:
        rate = tf.convert_to_tensor(
            optimizer.learning_rate
        )  # Evaluated outside a function it costs a millisecond.
        return *(
            strategy.reduce("sum", part, axis=None) for part in strategy.run(on_replica, (batch,))
        ), rate

    return step


def make_predict(
    model: keras.Model, strategy: tf.distribute.Strategy, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Builds the function that predicts a set held in memory, every image once, dealt out to the replicas.

    With several workers all must call it, with the same images; each gets all answers.

    Args:
      model: made in the strategy's scope.
      strategy: that of training.
      batch_size: images a replica at a time.

    Returns:
      images [n, side, side, 1] uint8 → probabilities [n, classes] float64, rows summing to 1.
    """
    everywhere = batch_size * strategy.num_replicas_in_sync

    @tf.function(autograph=False)
    def forward(images: tf.distribute.DistributedValues) -> tf.Tensor:
        logits = strategy.run(lambda part: model(part, training=False)["logits"], (images,))
        return strategy.gather(logits, axis=0)

    def dealt(batch: np.ndarray) -> tf.distribute.DistributedValues:
        def of(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group * batch_size
            return tf.constant(batch[first : first + batch_size])

        return strategy.experimental_distribute_values_from_function(of)

    def predict(images: np.ndarray) -> np.ndarray:
        classes = model.output["logits"].shape[-1]
        parts = [
            forward(dealt(batch)).numpy()[:real].astype(np.float64)
            for batch, real in input_pipeline.evaluation_batches(images, everywhere)
        ]
        return _softmax(np.concatenate(parts)) if parts else np.zeros((0, classes))

    return predict


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
