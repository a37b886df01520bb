"""The fast path and the plain path give the same losses where their arithmetic is meant to be the same."""

import keras
import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig, resolved
from trainer.training import distribution, models, steps

SIDE, STEPS, BATCH = 100, 20, 4


def batches() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.uniform(0, 255, (BATCH, SIDE, SIDE, 1)).astype(np.float32),
            "label": rng.integers(0, 2, BATCH).astype(np.int32),
            "noise_seed": rng.integers(0, 2**31, (BATCH, 2)),
        }
        for _ in range(STEPS)
    ]


def plain() -> keras.Model:
    """seed_cnn as the reference writes it: ReLU within the convolution, before pooling; probabilities out."""
    layers = [keras.Input((SIDE, SIDE, 1)), keras.layers.Rescaling(1.0 / 255.0)]
    for filters in (32, 32, 64, 64, 128):
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers += [
        keras.layers.Flatten(),
        *(keras.layers.Dense(units, activation="relu") for units in (512, 256, 128, 64)),
        keras.layers.Dense(2),
    ]
    return keras.Sequential(layers)


def test_seed_cnn_in_our_step_trains_as_plain_keras_does():
    config = resolved(
        TrainConfig(
            model="seed_cnn",
            image_size=SIDE,
            batch_size=BATCH,
            dropout=0.0,
            strategy="one_device",
            precision="float64",
        )
    )
    keras.config.set_dtype_policy(config.precision)
    try:
        strategy = distribution.make_strategy(config)
        ours, other = models.build(config, 2), plain()
    finally:
        keras.config.set_dtype_policy("float32")
    other.set_weights(ours.get_weights())
    optimizer = steps.make_optimizer(config, steps.make_rate(config, STEPS, 1.0))
    optimizer.build(ours.trainable_variables)
    step = steps.make_train_step(
        ours, optimizer, strategy, config, steps.class_weights(np.array([0, 1]), 2, False)
    )
    other.compile(
        keras.optimizers.Adam(config.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    found = [
        float(step({name: tf.constant(value) for name, value in batch.items()})[0])
        for batch in batches()
    ]
    expected = [float(other.train_on_batch(batch["image"], batch["label"])) for batch in batches()]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(set(found)) == STEPS
