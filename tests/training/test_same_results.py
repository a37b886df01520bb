"""Test of the training step: it gives the losses of plain Keras."""

import keras
import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.training import distribution, models, steps

SIDE = 100
STEPS = 20
BATCH = 4


def make_batches() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.uniform(0, 255, (BATCH, SIDE, SIDE, 1)).astype(np.float32),
            "label": rng.integers(0, 2, BATCH).astype(np.int32),
            "noise_seed": rng.integers(0, 2**31, (BATCH, 2)),
        }
        for _ in range(STEPS)
    ]


def build_reference() -> keras.Model:
    """seed_cnn as the reference writes it: ReLU in the convolution, before pooling."""
    # No dropout: its masks would differ.
    layers = [keras.Input((SIDE, SIDE, 1)), keras.layers.Rescaling(1.0 / 255.0)]
    for filters in (32, 32, 64, 64, 128):
        layers.append(keras.layers.Conv2D(filters, 3, activation="relu"))
        layers.append(keras.layers.MaxPooling2D())
    layers.append(keras.layers.Flatten())
    for units in (512, 256, 128, 64):
        layers.append(keras.layers.Dense(units, activation="relu"))
    layers.append(keras.layers.Dense(2))
    return keras.Sequential(layers)


def test_seed_cnn_trains_as_plain_keras_does():
    config = models.resolve(
        TrainConfig(
            model="seed_cnn",
            image_size=SIDE,
            batch_size=BATCH,
            dropout=0.0,
            strategy="one_device",
            precision="float64",
        )
    )
    # float64, so that rounding does not hide a difference.
    strategy = distribution.make_strategy(config)
    try:
        state = steps.create_train_state(config, strategy, 2, STEPS, 1.0, np.array([0, 1]))
        reference = build_reference()
    finally:
        # The policy is global: other tests need the default.
        keras.config.set_dtype_policy("float32")
    reference.set_weights(state.model.get_weights())
    # Without XLA, as our step.
    reference.compile(
        keras.optimizers.Adam(config.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    losses = []
    expected = []
    for batch in make_batches():
        tensors = {name: tf.constant(values) for name, values in batch.items()}
        losses.append(float(state.train_step(tensors)["loss"]))
        expected.append(float(reference.train_on_batch(batch["image"], batch["label"])))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    # The weights change at every step.
    assert len(set(losses)) == STEPS
