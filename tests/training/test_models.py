"""The networks: shapes, names, any number of classes, and dropout and resampling that do not depend on the layout."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.config import MODELS, TrainConfig, resolved
from trainer.evaluation import export_network
from trainer.training import layers, models


def build(name: str, classes: int = 2, side: int | None = None):
    return models.build(resolved(TrainConfig(model=name, image_size=side)), classes)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [2, 5])
def test_each_network_gives_probabilities_over_any_number_of_classes(name, classes):
    network = build(name, classes, 200)
    found = network(np.random.default_rng(0).uniform(0, 255, (3, 200, 200, 1)).astype(np.float32))
    assert found["logits"].shape == (3, classes)
    np.testing.assert_allclose(found["probabilities"].numpy().sum(axis=1), 1.0, rtol=1e-5)


def test_seed_cnn_is_the_reference_to_the_letter():
    network = build("seed_cnn")
    convolutions = [layer for layer in network.layers if layer.name.startswith("conv")]
    assert [layer.filters for layer in convolutions] == [32, 32, 64, 64, 128]
    assert all(
        layer.kernel_size == (3, 3) and layer.strides == (1, 1) and layer.padding == "valid"
        for layer in convolutions
    )
    assert [
        layer.units for layer in network.layers if layer.name.startswith(("dense", "logits"))
    ] == [512, 256, 128, 64, 2]
    assert network.get_layer("pool5").output.shape == (None, 13, 13, 128)
    assert network.count_params() == 11_387_554


def test_cnn_has_the_references_shape_at_500_pixels():
    network = build("cnn")
    assert network.input_shape == (None, 500, 500, 1)
    assert sum(layer.name.startswith("conv") for layer in network.layers) == 5
    assert [layer.units for layer in network.layers if layer.name.startswith("dense")] == [
        512,
        256,
        128,
        64,
    ]


@pytest.mark.parametrize("name", MODELS)
def test_a_side_too_small_for_a_network_is_refused_in_one_line(name):
    from trainer.errors import UserError

    if name == "compact":
        assert build(name, side=32).output["logits"].shape == (None, 2)
        return
    with pytest.raises(UserError, match="--image_size"):
        build(name, side=32)


def test_dropout_is_a_function_of_each_examples_seed_alone():
    dropout = layers.StatelessDropout(0.4)
    ones, seeds = tf.ones([6, 500]), tf.constant([[2, i] for i in range(6)], tf.int64)
    with layers.example_seeds(seeds):
        whole = dropout(ones, training=True).numpy()
    for part in (slice(0, 2), slice(3, 6)):
        with layers.example_seeds(seeds[part]):
            np.testing.assert_array_equal(dropout(ones[part], training=True), whole[part])
    assert len({row.tobytes() for row in whole}) == 6
    assert set(np.unique(whole)) == {np.float32(0.0), np.float32(1.0) / np.float32(0.6)}
    assert abs((whole == 0).mean() - 0.4) < 0.04
    np.testing.assert_array_equal(dropout(ones, training=False), ones)


def test_two_dropout_layers_draw_different_masks_and_need_seeds():
    seeds, ones = tf.constant([[1, 1]], tf.int64), tf.ones([1, 200])
    with layers.example_seeds(seeds):
        first, second = (
            layers.StatelessDropout(0.5, salt)(ones, training=True).numpy() for salt in (0, 1)
        )
    assert not np.array_equal(first, second)
    with pytest.raises(RuntimeError, match="example_seeds"):
        layers.StatelessDropout(0.5)(ones, training=True)


@given(st.integers(2, 80), st.integers(2, 80))
def test_resampling_keeps_flat_images_flat(size, side):
    weights = layers.triangle_filter(size, side)
    assert weights.shape == (side, size) and (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("side", [32, 57, 100, 160])
def test_resampling_is_pillows_antialiased_bilinear(side):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100)).astype(np.uint8)
    expected = np.asarray(
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    ).astype(int)
    found = layers.resample_images(pixels[None, ..., None], side)[0, ..., 0].astype(int)
    assert np.abs(found - expected).max() <= 1


def test_the_saved_network_takes_prepared_squares_and_agrees_with_training(tmp_path):
    import keras

    network = build("compact", side=64)
    squares = np.random.default_rng(1).integers(0, 256, (2, 100, 100, 1)).astype(np.uint8)
    export_network.export_of(network, 100).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = network(layers.resample_images(squares, 64).astype(np.float32))["probabilities"]
    np.testing.assert_allclose(
        loaded(squares.astype(np.float32))["probabilities"], expected, atol=1e-6
    )


def test_batch_normalisation_is_that_of_keras_to_the_bit():
    import keras

    values = tf.random.stateless_normal([8, 5, 5, 3], [0, 1], mean=2.0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    found = []
    for kind in (layers.BatchNormalization, keras.layers.BatchNormalization):
        with strategy.scope():
            layer = kind(momentum=0.9, synchronized=True)
            layer.build(values.shape)

        @tf.function
        def step(layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(values)
                out = layer(values, training=True)
                loss = tf.reduce_sum(out * tf.range(3.0) * tf.square(values))
            return [out, *tape.gradient(loss, [values, *layer.trainable_variables])]

        found.append(
            [
                *(part.numpy() for part in strategy.run(step)),
                *(weight.numpy() for weight in layer.variables),
            ]
        )
    assert len(found[0]) == 8
    for ours, other in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, other)
