"""Builds what a run trains with: network, optimizer, training step and prediction.

state = create_train_state(config, strategy, classes, steps, steps_per_epoch, labels)
metrics = state.train_step(batch)          # loss, accuracy, gradient_norm, learning_rate
probabilities = state.predict(images)      # [n, classes]
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from scipy import special

from trainer import compat
from trainer.config import TrainConfig
from trainer.training import input_pipeline, layers, losses, models, warm_start

_PREDICTION_BATCH = 32  # images for each replica


class ScaledLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate or schedule times a factor that can change between steps.

    Args:
      rate: constant, or a schedule.
    """

    def __init__(self, rate: float | keras.optimizers.schedules.LearningRateSchedule):
        self._rate = rate
        self._factor = tf.Variable(1.0, trainable=False)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate at a step, [] float32."""
        rate = self._rate(step) if callable(self._rate) else self._rate
        return self._factor * tf.cast(rate, tf.float32)

    def scale(self, factor: float) -> None:
        """Sets the factor."""
        self._factor.assign(factor)


@dataclasses.dataclass(frozen=True)
class TrainState:
    """A network with everything that trains it.

    Attributes:
      model: from `models.build`, in the strategy's scope.
      optimizer: built for the model's variables.
      learning_rate: of the optimizer.
      train_step: from `make_train_step`.
      predict: from `make_predict`.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    learning_rate: ScaledLearningRate
    train_step: Callable[[dict], dict[str, tf.Tensor]]
    predict: Callable[[input_pipeline.Images], np.ndarray]


def create_train_state(
    config: TrainConfig,
    strategy: tf.distribute.Strategy,
    classes: int,
    steps: int,
    steps_per_epoch: float,
    labels: np.ndarray,
    positive: int | None = None,
) -> TrainState:
    """Seeds everything and builds the network, its optimizer and its step.

    It sets Keras's global seed and dtype policy. Only the caller can say whether operations must be
    deterministic (`tf.config.experimental.enable_op_determinism`), which changes results.

    Args:
      config: resolved.
      strategy: from `distribution.make_strategy`.
      classes: number of classes or findings.
      steps: length of the run.
      steps_per_epoch: images divided by the batch size.
      labels: [n] int, of the training split; the weights of the classes follow from them. Of
        several findings an image [n, findings] int, 1, 0 or -1 (unknown).
      positive: the class of an image that opacities were painted into.
    """
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    learning_rate = make_learning_rate(config, steps, steps_per_epoch)
    with strategy.scope():
        model = models.build(config, classes, multi_label=labels.ndim == 2)
        optimizer = make_optimizer(config, learning_rate)
        optimizer.build(model.trainable_variables)
    train_step = make_train_step(
        model,
        optimizer,
        strategy,
        config,
        losses.class_weights(
            losses.expected_counts(labels, classes, config.paint_opacities or 0.0, positive),
            # Paint alone would decide how frequent the positive class is.
            config.class_weights or models.is_source_free(config),
        ),
    )
    return TrainState(
        model=model,
        optimizer=optimizer,
        learning_rate=learning_rate,
        train_step=warm_start.slow_trunk(
            train_step, model, optimizer, strategy, config, len(labels)
        ),
        predict=make_predict(model, strategy),
    )


def make_learning_rate(
    config: TrainConfig, steps: int, steps_per_epoch: float
) -> ScaledLearningRate:
    """Makes the learning rate, outside a strategy's scope.

    The cosine schedule rises linearly for `warmup_epochs` and falls to zero at the last step
    (Loshchilov & Hutter 2017).
    """
    peak = config.learning_rate
    if config.schedule != "cosine":
        return ScaledLearningRate(peak)
    # Float counts: ints raise a dtype error inside CosineDecay's warm-up branch.
    warmup = float(min(round(config.warmup_epochs * steps_per_epoch), steps - 1))
    return ScaledLearningRate(
        keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else peak,
            steps - warmup,
            alpha=0.0,
            warmup_target=peak if warmup else None,
            warmup_steps=warmup,
        )
    )


def make_optimizer(
    config: TrainConfig, learning_rate: ScaledLearningRate
) -> keras.optimizers.Optimizer:
    """Makes the optimizer, in the strategy's scope."""
    if config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=config.weight_decay)
        # Only the weights of convolutions and dense layers decay.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    else:
        optimizer = keras.optimizers.Adam(learning_rate)
    if config.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def make_train_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    config: TrainConfig,
    weights: tf.Tensor,
) -> Callable[[dict], dict[str, tf.Tensor]]:
    """Makes the function that updates the weights on one distributed batch.

    Args:
      model: made in the strategy's scope.
      optimizer: made in the strategy's scope, and built.
      strategy: of training.
      config: its batch_size, precision, label_smoothing and clip_norm.
      weights: [classes] float32, of the classes in the loss; of findings [findings, 2].

    Returns:
      A function from a batch to scalars: loss, accuracy and gradient_norm of the global batch
      before the update, and the learning_rate of the update.
    """
    multi_label = models.is_multi_label(model)
    example_losses = losses.finding_losses if multi_label else losses.class_losses
    scales_loss = config.precision == "mixed_float16"
    compat.sum_gradients_in_step(optimizer)

    def replica_step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with layers.example_seeds(batch["noise_seed"]), tf.GradientTape() as tape:
            outputs = model(batch["image"], training=True)
            logits = outputs["logits"]  # [batch, classes]
            of_examples = example_losses(batch["label"], logits, weights, config.label_smoothing)
            if models.OPACITY_LOGITS in outputs:
                of_examples += losses.opacity_losses(
                    batch["opacity"], outputs[models.OPACITY_LOGITS]
                )
            loss = tf.reduce_sum(of_examples) / config.batch_size  # the replicas' share of the mean
            scaled_loss = optimizer.scale_loss(loss) if scales_loss else loss
        gradients = tape.gradient(scaled_loss, model.trainable_variables)
        gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
        scale = tf.convert_to_tensor(optimizer.dynamic_scale) if scales_loss else 1.0
        norm = tf.linalg.global_norm(gradients)  # of the global batch, on each replica
        if config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm * scale, norm)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        if multi_label:
            correct = losses.finding_accuracies(batch["label"], logits)  # [batch]
        else:
            correct = tf.equal(tf.argmax(logits, 1, tf.int32), batch["label"])  # [batch]
        return {
            "loss": loss,
            "accuracy": tf.reduce_sum(tf.cast(correct, tf.float32)) / config.batch_size,
            "gradient_norm": norm / scale / strategy.num_replicas_in_sync,  # all are summed
        }

    @tf.function(autograph=False)  # no control flow depends on a tensor
    def train_step(batch: dict) -> dict[str, tf.Tensor]:
        # Outside a function its evaluation costs a millisecond.
        learning_rate = tf.convert_to_tensor(optimizer.learning_rate)
        metrics = strategy.run(replica_step, (batch,)).items()
        sums = {name: strategy.reduce("sum", value, None) for name, value in metrics}
        return sums | {"learning_rate": learning_rate}

    return train_step


def make_predict(
    model: keras.Model, strategy: tf.distribute.Strategy
) -> Callable[[input_pipeline.Images], np.ndarray]:
    """Makes the function that predicts a set of images.

    With several workers all must call it, with the same images; each gets all predictions.

    Args:
      model: made in the strategy's scope.
      strategy: of training.

    Returns:
      A function from images [n, side, side, 1] uint8 to probabilities [n, classes] float64, whose
      rows sum to 1; of findings each is a probability by itself.
    """
    batch_size = _PREDICTION_BATCH * strategy.num_replicas_in_sync

    @tf.function(autograph=False)
    def forward(batch: tf.distribute.DistributedValues) -> tf.Tensor:
        return strategy.gather(
            strategy.run(lambda images: model(images, training=False)["logits"], (batch,)),
            axis=0,
        )  # [global batch, classes]

    def predict(images: input_pipeline.Images) -> np.ndarray:
        if not len(images):
            return np.zeros((0, model.output["logits"].shape[-1]))
        logits = []
        for batch, count in input_pipeline.evaluation_batches(images, batch_size):
            # [replicas, batch, side, side, 1]
            slices = np.split(batch, strategy.num_replicas_in_sync)
            distributed = strategy.experimental_distribute_values_from_function(
                lambda context, slices=slices: tf.constant(slices[context.replica_id_in_sync_group])
            )
            # The rest is padding.
            logits.append(forward(distributed).numpy()[:count].astype(np.float64))
        powers = np.concatenate(logits)
        if models.is_multi_label(model):
            return special.expit(powers)
        powers = np.exp(powers - powers.max(axis=1, keepdims=True))  # [n, classes]
        return powers / powers.sum(axis=1, keepdims=True)

    return predict
