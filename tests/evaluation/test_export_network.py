"""The exported network: the same probabilities, a map that adds up to the logits, and nothing lost in saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config import TrainConfig, resolved
from trainer.evaluation import export_network
from trainer.training import models


def network(name: str, classes: int = 2) -> keras.Model:
    keras.utils.set_random_seed(3)
    model = models.build(resolved(TrainConfig(model=name, image_size=192)), classes)
    rng = np.random.default_rng(0)  # Biases and moving averages away from where they start.
    model.set_weights(
        [value + np.abs(0.05 * rng.standard_normal(value.shape)) for value in model.get_weights()]
    )
    return model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 192, 192, 1)).astype(np.float32)


@pytest.mark.parametrize("name", ["cnn", "seed_cnn", "compact"])
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_the_network_at_the_temperature(name, classes, images):
    model = network(name, classes)
    logits = model(images)["logits"]
    found = export_network.export_of(model, 192, temperature=2.5)(images)
    np.testing.assert_allclose(found["probabilities"], tf.nn.softmax(logits / 2.5), atol=1e-6)
    assert (
        found["map"].shape == (3, 192, 192, classes) and float(tf.reduce_min(found["map"])) >= 0.0
    )
    assert found["features"].shape[0] == 3


@pytest.mark.parametrize("name", ["cnn", "seed_cnn", "compact"])
def test_the_map_is_the_gradient_through_the_head_times_its_input(name, images):
    """Against TensorFlow's own automatic differentiation."""
    model = network(name)
    last = model.get_layer(export_network._LAST_MAP[name])
    trunk = keras.Model(model.input, last.output)
    features = trunk(images)
    after = model.layers[model.layers.index(last) + 1 :]
    with tf.GradientTape() as tape:
        tape.watch(features)
        x = features
        for layer in after:
            if layer.name != "probabilities":
                x = layer(x)
        difference = x[:, 1] - x[:, 0]
    expected = tf.nn.relu(tf.reduce_sum(tape.gradient(difference, features) * features, axis=-1))
    small = export_network.export_of(model, 192).get_layer("evidence")(features)["map"][..., 1]
    np.testing.assert_allclose(small, expected, rtol=1e-4, atol=1e-5)


def test_a_saved_export_gives_the_same_and_needs_no_code_of_its_own(images, tmp_path):
    export = export_network.export_of(network("cnn"), 250, temperature=1.5)
    larger = np.random.default_rng(2).integers(0, 256, (2, 250, 250, 1)).astype(np.float32)
    export.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for name, value in export(larger).items():
        np.testing.assert_allclose(again(larger)[name], value, atol=1e-6)


@pytest.mark.parametrize(
    "precision, tolerance", [("float64", 1e-5), ("mixed_bfloat16", 0.05), ("mixed_float16", 0.01)]
)
def test_networks_of_other_precision_are_exported_in_single(images, precision, tolerance):
    keras.config.set_dtype_policy(precision)
    try:
        model = models.build(
            resolved(TrainConfig(model="cnn", image_size=192, precision=precision)), 2
        )
        export = export_network.export_of(model, 192)
        expected = model(images)["probabilities"]
    finally:
        keras.config.set_dtype_policy("float32")
    computing = [
        layer
        for layer in export.get_layer("cnn_trunk").layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]
    assert {layer.compute_dtype for layer in computing} == {"float32"}
    np.testing.assert_allclose(
        export(images)["probabilities"], tf.cast(expected, tf.float32), atol=tolerance
    )


def test_an_ensemble_is_the_mean_of_its_members(images):
    members = [export_network.export_of(network(name), 192) for name in ("cnn", "compact")]
    found, single = (
        export_network.average_of(members)(images),
        [member(images) for member in members],
    )
    for name in ("probabilities", "map"):
        np.testing.assert_allclose(found[name], (single[0][name] + single[1][name]) / 2, atol=1e-6)
    assert found["features"].shape[-1] == sum(part["features"].shape[-1] for part in single)
