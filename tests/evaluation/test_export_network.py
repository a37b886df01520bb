"""The exported network: probabilities, maps that add up to the logits, saving and precision."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.evaluation import export_network
from trainer.training import models

SIDE = 192


def build_network(name: str, classes: int = 2, precision: str = "float32") -> keras.Model:
    """Builds a network with weights of a fixed seed."""
    keras.utils.set_random_seed(3)
    config = TrainConfig(model=name, image_size=SIDE, precision=precision)
    return models.build(models.resolve(config), classes)


def perturb_weights(model: keras.Model) -> keras.Model:
    """Moves biases and moving averages away from their initial values."""
    rng = np.random.default_rng(0)
    weights = model.get_weights()
    model.set_weights(
        [value + np.abs(0.05 * rng.standard_normal(value.shape)) for value in weights]
    )
    return model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Images of noise, [3, 192, 192, 1] float32 in 0..255."""
    noise = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 1))
    return noise.astype(np.float32)


@pytest.mark.parametrize("name", ["cnn", "seed_cnn", "compact"])
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_the_network_at_the_temperature(
    name: str, classes: int, images: np.ndarray
) -> None:
    model = perturb_weights(build_network(name, classes))
    logits = model(images)["logits"]
    outputs = export_network.build_export(model, SIDE, temperature=2.5)(images)
    np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(logits / 2.5), atol=1e-6)
    assert outputs["map"].shape == (3, 192, 192, classes)
    assert float(tf.reduce_min(outputs["map"])) >= 0.0
    assert outputs["features"].shape[0] == 3


@pytest.mark.parametrize("name", ["cnn", "compact"])
def test_findings_have_their_own_probabilities_temperatures_and_maps(
    name: str, images: np.ndarray
) -> None:
    config = models.resolve(TrainConfig(model=name, image_size=SIDE))
    model = perturb_weights(models.build(config, 3, multi_label=True))
    assert models.is_multi_label(model)
    temperatures = [1.0, 2.0, 0.5]
    outputs = export_network.build_export(model, SIDE, temperatures)(images)
    logits = model(images)["logits"] / tf.constant(temperatures)
    np.testing.assert_allclose(outputs["probabilities"], tf.sigmoid(logits), atol=1e-6)
    assert outputs["map"].shape == (3, SIDE, SIDE, 3)
    # The map of a finding is the gradient of its logit alone.
    trunk = keras.Model(model.input, model.get_layer("last_map").output)
    feature_map = tf.constant(trunk(images))
    head = keras.Model(model.get_layer("last_map").output, model.output["logits"])
    for index in range(3):
        with tf.GradientTape() as tape:
            tape.watch(feature_map)
            logit = head(feature_map)[:, index]
        gradient = tape.gradient(logit, feature_map)
        expected = tf.nn.relu(tf.reduce_sum(gradient * feature_map, axis=-1))
        enlarged = export_network.Enlarge(SIDE)(expected[..., None])[..., 0]
        scale = float(tf.reduce_max(tf.abs(enlarged))) + 1e-9
        np.testing.assert_allclose(outputs["map"][..., index] / scale, enlarged / scale, atol=1e-4)


@pytest.mark.parametrize("name", ["cnn", "seed_cnn", "compact"])
def test_map_is_the_gradient_through_the_head_times_its_input(
    name: str, images: np.ndarray
) -> None:
    """Compares with TensorFlow's automatic differentiation."""
    model = perturb_weights(build_network(name))
    last_map = model.get_layer("last_map")
    trunk = keras.Model(model.input, last_map.output)
    features = trunk(images)  # [3, height, width, channels]
    head = model.layers[model.layers.index(last_map) + 1 :]
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = features
        for layer in head:
            if layer.name != "probabilities":
                logits = layer(logits)
        difference = logits[:, 1] - logits[:, 0]  # [3]
    gradient = tape.gradient(difference, features)
    # Evidence against the class is left out.
    expected = tf.nn.relu(tf.reduce_sum(gradient * features, axis=-1))  # [3, height, width]
    export = export_network.build_export(model, SIDE)
    # Before it is enlarged to the side of the image.
    evidence = export.get_layer("evidence")(features)["map"][..., 1]
    np.testing.assert_allclose(evidence, expected, rtol=1e-4, atol=1e-5)


def test_a_saved_export_computes_the_same_and_loads_in_safe_mode(tmp_path: Path) -> None:
    model = perturb_weights(build_network("cnn"))
    # Another side than the network's: the export resamples.
    export = export_network.build_export(model, 250, temperature=1.5)
    noise = np.random.default_rng(2).integers(0, 256, (2, 250, 250, 1))
    images = noise.astype(np.float32)
    path = tmp_path / "model.keras"
    export.save(path)
    loaded = keras.saving.load_model(path, safe_mode=True)  # Runs no code from the file.
    for name, value in export(images).items():
        np.testing.assert_allclose(loaded(images)[name], value, atol=1e-6)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float64", 1e-5), ("mixed_bfloat16", 0.05), ("mixed_float16", 0.01)],
)
def test_networks_of_other_precision_are_exported_in_float32(
    images: np.ndarray, precision: str, tolerance: float
) -> None:
    # As a training run sets it for the whole process.
    keras.config.set_dtype_policy(precision)
    try:
        model = build_network("cnn", precision=precision)
        export = export_network.build_export(model, SIDE)
        expected = model(images)["probabilities"]
    finally:
        keras.config.set_dtype_policy("float32")
    dtypes = {
        layer.compute_dtype
        for layer in export.get_layer("cnn_trunk").layers
        if not isinstance(layer, keras.layers.InputLayer)  # It computes nothing.
    }
    assert dtypes == {"float32"}
    probabilities = export(images)["probabilities"]
    np.testing.assert_allclose(probabilities, tf.cast(expected, tf.float32), atol=tolerance)


def test_an_ensemble_averages_its_members(images: np.ndarray) -> None:
    members = [
        export_network.build_export(perturb_weights(build_network(name)), SIDE)
        for name in ("cnn", "compact")
    ]
    outputs = export_network.build_ensemble(members)(images)
    first, second = (member(images) for member in members)
    for name in ("probabilities", "map"):
        np.testing.assert_allclose(outputs[name], (first[name] + second[name]) / 2, atol=1e-6)
    # Features stand side by side.
    channels = first["features"].shape[-1] + second["features"].shape[-1]
    assert outputs["features"].shape[-1] == channels
