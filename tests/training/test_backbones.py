"""Tests of the networks of keras.applications: preprocessing, layers, files of weights, exports."""

import inspect
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import run_command
from tests.inference.conftest import FACTS
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.evaluation import export_network
from trainer.inference import exporting
from trainer.training import backbones, layers, models, warm_start

SIDE = 96  # Xception and Inception take no smaller one than 75.
SMALL = ("mobilenetv3small", "efficientnetb0")
# One of each family that is not among the small ones.
FAMILIES = (
    *("convnexttiny", "densenet121", "efficientnetv2b0", "inceptionresnetv2", "inceptionv3"),
    *("mobilenet", "mobilenetv2", "nasnetmobile", "resnet50", "resnet50v2", "vgg16", "xception"),
)
FAMILY_PARAMETERS = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)]


def application(name: str) -> keras.Model:
    """Builds a network as keras.applications does, with weights that are no initial values."""
    keras.utils.set_random_seed(1)
    network = backbones._applications()[name](
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3)
    )
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = layer.get_weights()
            layer.set_weights([value + rng.uniform(0.0, 0.3, value.shape) for value in values])
        elif isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            # As the published files of EfficientNet, together with the Rescaling that follows.
            deviation = np.array([0.229, 0.224, 0.225])
            layer.load_own_variables(
                {"0": np.array([0.485, 0.456, 0.406]), "1": deviation**2, "2": np.array(0)}
            )
    return network


def build(name: str, side: int = SIDE) -> keras.Model:
    config = TrainConfig(model=name, image_size=side, weights="none")
    return models.build(models.resolve(config), 2)


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """Images of noise, [2, side, side, 1] float32 in 0..255."""
    noise = np.random.default_rng(2).integers(0, 256, (2, SIDE, SIDE, 1))
    return noise.astype(np.float32)


def test_names_are_those_of_keras():
    assert {"densenet121", "efficientnetv2b0", "mobilenetv3small"} <= set(backbones.names())
    assert len(backbones.names()) == 40
    assert not set(backbones.names()) & set(models.names())


@pytest.mark.parametrize("name", backbones.names())
def test_preprocessing_is_that_of_keras_on_a_grey_picture_in_three_channels(name):
    levels = np.arange(256.0)[:, None, None, None]
    module = inspect.getmodule(backbones._applications()[name])
    expected = module.preprocess_input(np.tile(levels, 3))
    scale, offset = backbones.preprocessing(name)
    np.testing.assert_allclose(levels / 255.0 * scale + offset, expected, atol=1e-9)


@pytest.mark.parametrize("name", FAMILY_PARAMETERS)
def test_network_is_that_of_keras_with_the_weights_of_a_file(name, grey, tmp_path):
    expected = application(name)
    expected.save_weights(tmp_path / "backbone.weights.h5")
    network = build(name)
    weights = backbones.load_weights(name, str(tmp_path / "backbone.weights.h5"))
    warm_start.WarmStart("the file", weights).apply(network, ("a", "b"))
    module = inspect.getmodule(backbones._applications()[name])
    outputs = expected(module.preprocess_input(np.tile(grey, 3)), training=False).numpy()
    values = warm_start.trunk(network)(grey, training=False).numpy()
    np.testing.assert_allclose(values, outputs, rtol=0, atol=1e-4 * np.abs(outputs).max())
    assert np.abs(outputs).max() > 1e-3


@pytest.mark.parametrize("name", FAMILY_PARAMETERS)
def test_export_agrees_with_keras_after_saving(name, grey, tmp_path):
    network = build(name)
    application(name).save_weights(tmp_path / "backbone.weights.h5")
    weights = backbones.load_weights(name, str(tmp_path / "backbone.weights.h5"))
    warm_start.trunk(network).set_weights(weights)
    expected = network(grey)
    exported = export_network.build_export(network, SIDE)
    exported.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    outputs = loaded(grey)
    np.testing.assert_allclose(
        outputs["probabilities"], expected["probabilities"], rtol=0, atol=1e-5
    )
    assert outputs["map"].shape == (2, SIDE, SIDE, 2)
    (line,) = exporting.write(tmp_path, loaded, FACTS, None, ("onnx",), grey.astype(np.uint8))
    assert "agrees with Keras" in line


@pytest.mark.parametrize(
    "name", ["mobilenetv3small", pytest.param("convnexttiny", marks=pytest.mark.slow)]
)
def test_export_of_half_precision_is_single(name, grey):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = build(name)
    finally:
        keras.config.set_dtype_policy("float32")
    exported = export_network.build_export(network, SIDE)
    (trunk,) = [layer for layer in exported.layers if isinstance(layer, keras.Model)]
    expected = warm_start.trunk(network)(grey, training=False)
    assert expected.dtype == tf.bfloat16
    values = trunk(grey, training=False)
    assert values.dtype == tf.float32
    np.testing.assert_allclose(values, tf.cast(expected, tf.float32), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", SMALL)
def test_layers_depend_on_no_replica_and_no_earlier_draw(name):
    (backbone,) = [layer for layer in build(name).layers if isinstance(layer, keras.Model)]
    kinds = {type(layer) for layer in backbone.layers}
    assert keras.layers.BatchNormalization not in kinds
    assert layers.BatchNormalization in kinds
    assert keras.layers.Dropout not in kinds
    salts = [layer.salt for layer in backbone.layers if type(layer) is layers.StatelessDropout]
    assert salts == list(range(1, len(salts) + 1))
    assert bool(salts) == (name == "efficientnetb0")


def test_stochastic_depth_drops_an_example_as_a_whole():
    seeds = tf.constant([[3, i] for i in range(200)], tf.int64)
    dropout = layers.StatelessDropout(0.25, salt=1, whole=True)
    with layers.example_seeds(seeds):
        dropped = dropout(tf.ones([200, 3, 3, 2]), training=True).numpy()
    by_example = dropped.reshape(200, -1)
    assert (by_example == by_example[:, :1]).all()
    assert abs((by_example[:, 0] == 0.0).mean() - 0.25) < 0.08
    copy = layers.StatelessDropout.from_config(dropout.get_config())
    assert copy.whole


def test_normalisation_without_a_scale_is_that_of_keras():
    values = tf.random.stateless_normal([8, 5, 5, 3], [0, 1], mean=2.0)
    results = [
        kind(scale=False, momentum=0.9)(values, training=True).numpy()
        for kind in (layers.BatchNormalization, keras.layers.BatchNormalization)
    ]
    np.testing.assert_allclose(*results, atol=1e-5)


def write_legacy_file(path: Path, network: keras.Model) -> None:
    # The layout of Keras 2, in which the published files are.
    saved = [layer for layer in network.layers if layer.weights]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in saved]
        file.attrs["keras_version"] = b"2.11.0"
        file.attrs["backend"] = b"tensorflow"
        for layer in saved:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)


def test_published_layout_of_files_is_read(tmp_path):
    network = application("mobilenetv3small")
    write_legacy_file(tmp_path / "notop.h5", network)
    weights = backbones.load_weights("mobilenetv3small", str(tmp_path / "notop.h5"))
    for value, expected in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_wrong_file_is_refused_in_one_line(tmp_path):
    write_legacy_file(tmp_path / "notop.h5", application("mobilenetv3small"))
    (tmp_path / "text.h5").write_text("no weights", encoding="utf-8")
    for name in ("notop.h5", "text.h5"):
        with pytest.raises(UserError, match=r"^--weights=.*mobilenetv2 without its top.*notop"):
            backbones.load_weights("mobilenetv2", str(tmp_path / name))
    with pytest.raises(UserError, match="no such file"):
        backbones.load_weights("mobilenetv2", str(tmp_path / "missing.h5"))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "URL fetch failure on https://host/a/net_notop.h5: None -- no route to host",
            r"^https://host/a/net_notop\.h5 cannot.*\(no route to host\).*--weights=net_notop\.h5",
        ),
        ("timed out", r"keras\.io/api/applications/\) cannot be downloaded \(timed out\)"),
    ],
)
def test_a_failed_download_names_the_file_and_the_flag(monkeypatch, message, words):
    def fail(**options):
        raise Exception(message)

    monkeypatch.setattr(backbones, "_applications", lambda: {"net": fail})
    with pytest.raises(UserError, match=words) as caught:
        backbones.load_weights("net", "imagenet")
    assert "\n" not in str(caught.value)


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"choose one of [^;]*densenet121"):
        models.resolve(TrainConfig(model="DenseNet12"))


def test_recipe_spares_pretrained_weights_only():
    pretrained = models.resolve(TrainConfig(model="mobilenetv2"))
    assert (pretrained.weights, pretrained.freeze_epochs) == ("imagenet", 1)
    assert pretrained.backbone_rate == 0.1
    random = models.resolve(TrainConfig(model="mobilenetv2", weights="none"))
    assert (random.freeze_epochs, random.backbone_rate) == (0, 1.0)
    started = models.resolve(TrainConfig(model="mobilenetv2", init_from="runs/first"))
    assert (started.weights, started.freeze_epochs) == ("none", 1)
    for config in (pretrained, random, started):
        assert models.resolve(config) == config


def test_weights_of_keras_are_refused_for_own_models():
    with pytest.raises(UserError, match="--init_from=WORKDIR"):
        models.resolve(TrainConfig(model="compact", weights="imagenet"))
    with pytest.raises(UserError, match="--weights and --init_from: give one"):
        TrainConfig(model="mobilenetv2", weights="imagenet", init_from="runs/first")


def test_image_too_small_for_a_backbone_is_refused_in_one_line():
    with pytest.raises(UserError, match="--image_size=64 is too small for xception"):
        build("xception", side=64)


def test_help_does_not_import_keras():
    program = (
        "import sys; sys.argv = ['main', '--help']\n"
        "import runpy\n"
        "try: runpy.run_module('trainer.main', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules), 'imported'"
    )
    done = run_command("-c", program)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "keras.applications" in done.stdout
