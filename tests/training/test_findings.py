"""The training step of several findings an image: loss, accuracy, weights, unknown labels."""

import dataclasses

import keras
import numpy as np
import pytest

from trainer.config import TrainConfig
from trainer.training import distribution, losses, models, steps

SIDE = 64
BATCH = 4
CONFIG = models.resolve(
    TrainConfig(
        model="compact",
        image_size=SIDE,
        batch_size=BATCH,
        dropout=0.0,
        epochs=1,
        warmup_epochs=0.0,
    )
)
LABELS = np.array([[1, 0, 0], [0, 1, -1], [1, -1, 0], [-1, -1, -1]], np.int8)


def make_batch(labels: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(0, 255, (BATCH, SIDE, SIDE, 1)).astype(np.float32),
        "label": labels.astype(np.int32),
        "noise_seed": rng.integers(0, 2**31, (BATCH, 2)),
    }


def take_step(labels: np.ndarray, config: TrainConfig = CONFIG) -> tuple[dict, keras.Model]:
    """Takes one step from fixed weights; returns metrics and network."""
    strategy = distribution.make_strategy(dataclasses.replace(config, strategy="one_device"))
    state = steps.create_train_state(config, strategy, 3, 10, 5.0, LABELS)
    metrics = state.train_step(make_batch(labels))
    return {name: float(value) for name, value in metrics.items()}, state.model


def test_loss_is_the_mean_binary_cross_entropy_of_known_labels():
    strategy = distribution.make_strategy(dataclasses.replace(CONFIG, strategy="one_device"))
    state = steps.create_train_state(CONFIG, strategy, 3, 10, 5.0, LABELS)
    batch = make_batch(LABELS)
    logits = np.asarray(state.model(batch["image"], training=True)["logits"], np.float64)
    entropies = np.log1p(np.exp(-np.where(LABELS == 1, logits, -logits)))
    expected = (entropies * (LABELS >= 0)).sum() / LABELS.size
    metrics, _ = take_step(LABELS)
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4)
    right = ((logits >= 0) == (LABELS == 1)) & (LABELS >= 0)
    shares = right.sum(axis=1) / np.maximum((LABELS >= 0).sum(axis=1), 1)
    assert metrics["accuracy"] == pytest.approx(shares.mean())


def test_an_unknown_label_moves_no_weight():
    """Checks that only the bias of an unlabelled finding stays."""
    labels = LABELS.copy()
    labels[:, 2] = -1
    _, model = take_step(labels)
    bias = model.get_layer("logits").bias.numpy()  # [3], 0 at the start.
    assert bias[2] == 0.0
    assert (bias[:2] != 0.0).all()


def test_class_weights_average_to_one_over_the_known_images_of_each_finding():
    counts = losses.expected_counts(LABELS, 3)
    np.testing.assert_array_equal(counts, [[1, 2], [1, 1], [2, 0]])
    weights = losses.class_weights(counts, used=True).numpy()
    np.testing.assert_allclose((weights * counts).sum(axis=1)[:2] / counts.sum(axis=1)[:2], 1.0)
    plain, _ = take_step(LABELS)
    weighted, _ = take_step(LABELS, dataclasses.replace(CONFIG, class_weights=True))
    assert plain["loss"] != weighted["loss"]


def test_predictions_are_probabilities_of_each_finding():
    strategy = distribution.make_strategy(dataclasses.replace(CONFIG, strategy="one_device"))
    model = models.build(CONFIG, 3, multi_label=True)
    images = np.random.default_rng(1).integers(0, 255, (5, SIDE, SIDE, 1)).astype(np.uint8)
    predicted = steps.make_predict(model, strategy)(images)
    expected = model(images.astype(np.float32))["probabilities"]
    np.testing.assert_allclose(predicted, keras.ops.convert_to_numpy(expected), atol=1e-6)
