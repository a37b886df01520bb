"""Tests of the networks: shapes, names, recipes, and layers that do not depend on the layout."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.evaluation import export_network
from trainer.training import layers, models


def build(name: str, classes: int = 2, side: int | None = None) -> keras.Model:
    config = models.resolve(TrainConfig(model=name, image_size=side))
    return models.build(config, classes)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("classes", [2, 5])
def test_network_predicts_any_number_of_classes(name, classes):
    network = build(name, classes, 200)
    images = np.random.default_rng(0).uniform(0, 255, (3, 200, 200, 1)).astype(np.float32)
    outputs = network(images)
    assert outputs["logits"].shape == (3, classes)
    np.testing.assert_allclose(outputs["probabilities"].numpy().sum(axis=1), 1.0, rtol=1e-5)


def test_help_names_what_differs_in_a_recipe():
    usual = models.resolve(TrainConfig(model="cnn"))
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(TrainConfig)}
    for model in models.names():
        config = models.resolve(TrainConfig(model=model))
        for name, text in helps.items():
            value = getattr(config, name)
            if getattr(TrainConfig(), name) is not None or value in (None, getattr(usual, name)):
                continue
            named = re.search(rf"[;:] {model} (\S+?)[.;](?: |$)", text)
            assert named, f"--{name}: the help does not name {value} of {model}"
            assert named[1] == value or float(named[1]) == value


def test_seed_cnn_is_the_reference_unchanged():
    network = build("seed_cnn")
    convolutions = [layer for layer in network.layers if layer.name.startswith("conv")]
    dense = [layer for layer in network.layers if layer.name.startswith(("dense", "logits"))]
    assert [layer.filters for layer in convolutions] == [32, 32, 64, 64, 128]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert {layer.strides for layer in convolutions} == {(1, 1)}
    assert {layer.padding for layer in convolutions} == {"valid"}
    assert [layer.units for layer in dense] == [512, 256, 128, 64, 2]
    assert network.get_layer("pool5").output.shape == (None, 13, 13, 128)
    assert network.count_params() == 11_387_554


def test_cnn_has_the_shape_of_the_reference_at_500_pixels():
    network = build("cnn")
    dense = [layer for layer in network.layers if layer.name.startswith("dense")]
    assert network.input_shape == (None, 500, 500, 1)
    assert sum(layer.name.startswith("conv") for layer in network.layers) == 5
    assert [layer.units for layer in dense] == [512, 256, 128, 64]


@pytest.mark.parametrize("name", ["cnn", "seed_cnn"])
def test_image_too_small_for_a_network_is_refused_in_one_line(name):
    with pytest.raises(UserError, match="--image_size") as caught:
        build(name, side=32)
    assert "\n" not in str(caught.value)


def test_network_with_global_pooling_takes_small_images():
    assert build("compact", side=32).output["logits"].shape == (None, 2)


@pytest.mark.parametrize("name", models.names())
def test_smallest_image_is_predicted_or_refused_in_one_line(name):
    try:
        answer = build(name, side=32).output["logits"].shape
    except UserError as error:
        answer = str(error)
    refusal = f"--image_size=32 is too small for {name}; give a larger one."
    assert answer in ((None, 2), refusal)


@pytest.mark.parametrize("function", [models.resolve, lambda config: models.build(config, 2)])
def test_unknown_model_is_answered_with_the_names(function):
    assert {"cnn", "compact", "seed_cnn"} <= set(models.names())
    with pytest.raises(UserError) as caught:
        function(TrainConfig(model="x"))
    assert str(caught.value) == (
        f"--model=x: choose one of {', '.join(models.names())}, or a network of "
        "keras.applications by its name, as densenet121."
    )


def test_model_without_a_last_map_is_refused(monkeypatch):
    monkeypatch.setattr(models, "_MODELS", dict(models._MODELS))

    # A model of a user who forgot the layer's name.
    @models.register(
        image_size=64, optimizer="adam", learning_rate=1e-3, schedule="constant", weight_decay=0.0
    )
    def flat(x, dropout):
        return keras.layers.Flatten()(x)

    with pytest.raises(RuntimeError, match="flat has no layer named last_map"):
        build("flat")


def test_a_single_feature_starts_without_a_sign():
    # A wrong one would outlast a short training.
    assert not build("opacity").get_layer("logits").kernel.numpy().any()
    assert build("compact").get_layer("logits").kernel.numpy().all()


def test_the_class_does_not_change_the_opacity_map():
    network = build("opacity")
    network.get_layer("logits").kernel.assign([[1.0, -1.0]])
    with tf.GradientTape() as tape:
        outputs = network(tf.zeros((1, 128, 128, 1)), training=False)
        loss = tf.reduce_sum(outputs["logits"][:, 0])
    weights = network.trainable_variables
    gradients = zip(weights, tape.gradient(loss, weights), strict=True)
    changed = {weight.path for weight, gradient in gradients if gradient is not None}
    assert changed == {"logits/kernel", "logits/bias"}


@pytest.mark.parametrize("setting", [{"rounds": 2}, {"teacher": "runs/first"}])
def test_only_a_model_with_an_opacity_map_learns_in_rounds(setting):
    assert models.resolve(TrainConfig(model="opacity", **setting)).paint_opacities > 0.0
    with pytest.raises(UserError, match=r"^[^\n]*--model=opacity[^\n]*$"):
        models.resolve(TrainConfig(model="compact", **setting))


@given(st.sampled_from(models.names()), st.one_of(st.none(), st.floats(1e-6, 1.0)))
def test_recipe_fills_only_what_was_left_open(name, rate):
    config = models.resolve(TrainConfig(model=name, learning_rate=rate))
    recipe = models._MODELS[name].recipe
    # Left open, so they are the recipe's.
    for setting in ("image_size", "optimizer", "schedule", "weight_decay"):
        assert getattr(config, setting) == recipe[setting] is not None
    assert config.learning_rate == (recipe["learning_rate"] if rate is None else rate)
    # Resolving again changes nothing.
    assert models.resolve(config) == config


def test_batches_of_a_data_service_are_not_cached():
    config = TrainConfig(data_service="grpc://host:1", workdir="run")
    assert models.resolve(config).cache == "none"


def test_dropout_depends_on_the_seed_of_each_example_alone():
    dropout = layers.StatelessDropout(0.4)
    ones = tf.ones([6, 500])
    seeds = tf.constant([[2, i] for i in range(6)], tf.int64)
    with layers.example_seeds(seeds):
        whole = dropout(ones, training=True).numpy()
    # A replica with a slice draws the masks of the whole batch.
    for rows in (slice(0, 2), slice(3, 6)):
        with layers.example_seeds(seeds[rows]):
            np.testing.assert_array_equal(dropout(ones[rows], training=True), whole[rows])
    assert len({row.tobytes() for row in whole}) == 6
    # Values that stay are scaled by 1 / (1 - rate).
    assert set(np.unique(whole)) == {np.float32(0.0), np.float32(1.0) / np.float32(0.6)}
    assert abs((whole == 0).mean() - 0.4) < 0.04
    # Without training nothing is dropped.
    np.testing.assert_array_equal(dropout(ones, training=False), ones)


def test_two_dropout_layers_draw_different_masks_and_need_seeds():
    seeds = tf.constant([[1, 1]], tf.int64)
    ones = tf.ones([1, 200])
    with layers.example_seeds(seeds):
        first = layers.StatelessDropout(0.5, salt=0)(ones, training=True).numpy()
        second = layers.StatelessDropout(0.5, salt=1)(ones, training=True).numpy()
    assert not np.array_equal(first, second)
    # Outside of the block there are no seeds.
    with pytest.raises(RuntimeError, match="example_seeds"):
        layers.StatelessDropout(0.5)(ones, training=True)


@given(st.integers(2, 80), st.integers(2, 80))
def test_resampling_keeps_flat_images_flat(size, side):
    weights = layers.triangle_filter(size, side)
    assert weights.shape == (side, size)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("side", [32, 57, 100, 160])
def test_resampling_equals_pillows_antialiased_bilinear(side):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100)).astype(np.uint8)
    # Pillow rounds twice, once for each axis.
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    resampled = layers.resample_images(pixels[None, ..., None], side)[0, ..., 0]
    assert np.abs(resampled.astype(int) - np.asarray(image).astype(int)).max() <= 1


def test_exported_network_agrees_with_training_on_prepared_squares(tmp_path):
    network = build("compact", side=64)
    squares = np.random.default_rng(1).integers(0, 256, (2, 100, 100, 1)).astype(np.uint8)
    export_network.build_export(network, 100).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = network(layers.resample_images(squares, 64).astype(np.float32))["probabilities"]
    probabilities = loaded(squares.astype(np.float32))["probabilities"]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_batch_normalisation_equals_keras_to_the_bit():
    values = tf.random.stateless_normal([8, 5, 5, 3], [0, 1], mean=2.0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    results = []
    # This project's layer, then Keras's; both on one replica.
    for kind in (layers.BatchNormalization, keras.layers.BatchNormalization):
        with strategy.scope():
            layer = kind(momentum=0.9, synchronized=True)
            layer.build(values.shape)

        @tf.function
        def step(layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(values)
                outputs = layer(values, training=True)
                loss = tf.reduce_sum(outputs * tf.range(3.0) * tf.square(values))
            return [outputs, *tape.gradient(loss, [values, *layer.trainable_variables])]

        tensors = [*strategy.run(step), *layer.variables]
        results.append([tensor.numpy() for tensor in tensors])
    # Outputs, three gradients and four variables.
    assert len(results[0]) == 8
    for value, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(value, expected)
