"""Saved networks hold layers of Keras alone, and load where this project is not installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.evaluation import export_network, plain_network, saved_model
from trainer.evaluation.saved_model import SavedModel
from trainer.inference import exporting
from trainer.training import layers, models

SIDE = 128
# Random weights enlarge rounding errors, which differ between runtimes and kinds of execution.
# `test_finish` has the tolerance of a trained network, 1e-6.
ROUNDING = 1e-4
TEMPERATURES = {"softmax": 1.7, "sigmoid": [1.2, 0.8, 2.0]}

# Loads a file in a process that can import none of this project, and writes its probabilities.
ALONE = """
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("trainer", "demo", "tests"):
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Refusal())
import numpy as np

kind, path, images, output = sys.argv[1:]
images = np.load(images)
if kind == "keras":
    import keras

    model = keras.saving.load_model(path)
    probabilities = model.predict(images, verbose=0)["probabilities"]
elif kind == "saved_model":
    import tensorflow as tf

    answer = tf.saved_model.load(path).signatures["serving_default"](image=tf.constant(images))
    probabilities = answer["probabilities"].numpy()
elif kind == "onnx":
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    (probabilities,) = session.run(["probabilities"], {"image": images})
else:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner()
    probabilities = np.concatenate([runner(image=image[None])["probabilities"] for image in images])
np.save(output, probabilities)
"""


def build(
    name: str, multi_label: bool = False, seed: int = 0, precision: str = "float32"
) -> keras.Model:
    """Builds an export of a network with random weights, biases and moving averages."""
    keras.utils.set_random_seed(seed)
    size = {"seed_cnn": SIDE, "cnn": SIDE}.get(name, 96)
    config = models.resolve(
        TrainConfig(model=name, image_size=size, weights="none", precision=precision)
    )
    model = models.build(config, 3, multi_label)
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        noise = 0.03 * rng.standard_normal(weight.shape)
        weight.assign(weight.numpy() + (np.abs(noise) if "variance" in weight.path else noise))
    squares = layers.resample_images(make_squares(), size)
    # Moving averages of these squares: with others the differences of the squares fade away.
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    with layers.example_seeds(tf.zeros((len(squares), 2), tf.int64)):
        model(squares, training=True)
    # Probabilities of 0 and 1 would be equal whatever the rest of the network does.
    logits = np.asarray(model(squares)["logits"])
    kernel, bias = model.get_layer("logits").get_weights()
    deviation = logits.std(axis=0)
    assert (np.abs(logits).max(axis=0) < 1000.0 * deviation).all()  # else rounding is seen
    model.get_layer("logits").set_weights(
        [kernel / deviation, (bias - logits.mean(axis=0)) / deviation]
    )
    return export_network.build_export(
        model, SIDE, TEMPERATURES["sigmoid" if multi_label else "softmax"]
    )


def make_squares() -> np.ndarray:
    """Squares of noise, darker and brighter ones, [3, SIDE, SIDE, 1] uint8."""
    noise = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 1))
    return (noise * np.array([0.2, 0.6, 1.0])[:, None, None, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """The squares as the network takes them, float32."""
    return make_squares().astype(np.float32)


def predict_alone(kind: str, path: Path, images: np.ndarray, folder: Path) -> np.ndarray:
    """Predicts by a file in a process without this project."""
    np.save(folder / "images.npy", images)
    arguments = [kind, str(path), str(folder / "images.npy"), str(folder / "answer.npy")]
    ended = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return np.load(folder / "answer.npy")


def compute_dtypes(network: keras.Model) -> list[str]:
    """Lists the precisions of all layers that compute."""
    dtypes = []
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            dtypes += compute_dtypes(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            dtypes.append(layer.compute_dtype)
    return dtypes


def save_and_load(path: Path, network: keras.Model) -> keras.Model:
    """Saves a plain copy; returns the network that the project loads."""
    plain_network.to_plain(network).save(path)
    return plain_network.from_plain(keras.saving.load_model(path))


@pytest.mark.parametrize(
    ("name", "multi_label"),
    [
        ("seed_cnn", False),
        ("cnn", False),
        ("compact", True),
        ("opacity", False),
        ("mobilenetv3small", False),
        pytest.param("convnexttiny", True, marks=pytest.mark.slow),
        pytest.param("efficientnetv2b0", False, marks=pytest.mark.slow),
        pytest.param("densenet121", False, marks=pytest.mark.slow),
    ],
)
def test_a_saved_network_needs_keras_alone(name, multi_label, images, tmp_path):
    network = build(name, multi_label)
    expected = {key: value.numpy() for key, value in network(images).items()}
    assert np.ptp(expected["probabilities"], axis=0).min() > 0.01
    path = tmp_path / "model.keras"
    loaded = save_and_load(path, network)
    probabilities = predict_alone("keras", path, images, tmp_path)
    np.testing.assert_allclose(probabilities, expected["probabilities"], atol=ROUNDING)
    # The project adds the map again.
    for key, value in loaded(images).items():
        scale = np.abs(expected[key]).max()
        np.testing.assert_allclose(value, expected[key], atol=1e-6 * scale, err_msg=key)


@pytest.mark.parametrize("name", ["compact", "seed_cnn"])
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_a_run_of_another_precision_is_saved_in_float32(name, precision, images, tmp_path):
    # As a training run sets it for the whole process.
    keras.config.set_dtype_policy(precision)
    try:
        network = build(name, precision=precision)
        loaded = save_and_load(tmp_path / "model.keras", network)
        assert keras.config.dtype_policy().name == precision
    finally:
        keras.config.set_dtype_policy("float32")
    expected = network(images)
    saved = keras.saving.load_model(tmp_path / "model.keras")
    for model in (loaded, saved):
        assert set(compute_dtypes(model)) == {"float32"}
        probabilities = model(images)["probabilities"]
        np.testing.assert_allclose(probabilities, expected["probabilities"], atol=1e-6)
    assert np.ptp(expected["probabilities"], axis=0).min() > 0.01


def test_the_mean_of_members_needs_keras_alone(images, tmp_path):
    members = [build("compact"), build("compact", seed=1)]
    network = export_network.build_ensemble(members)
    expected = network(images)
    path = tmp_path / "model.keras"
    loaded = save_and_load(path, network)
    probabilities = predict_alone("keras", path, images, tmp_path)
    np.testing.assert_allclose(probabilities, expected["probabilities"], atol=ROUNDING)
    answers = loaded(images)
    for key in ("probabilities", "map", "features"):
        np.testing.assert_allclose(answers[key], expected[key], atol=1e-5, err_msg=key)
    assert len(export_network.trunks_and_heads(loaded)) == 2


def test_exports_need_their_runtime_alone(images, tmp_path):
    network = build("compact")
    facts = {
        "class_names": ["a", "b", "c"],
        "preprocessing": saved_model.PREPROCESSING_VERSION,
        "side": SIDE,
    }
    kinds = {"onnx": "model.onnx", "saved_model": "saved_model"}
    if importlib.util.find_spec("ai_edge_litert"):
        kinds["litert"] = "model.tflite"
    exporting.write(tmp_path, network, facts, None, tuple(kinds), images.astype(np.uint8))
    expected = network(images)["probabilities"]
    for kind, file in kinds.items():
        probabilities = predict_alone(kind, tmp_path / file, images, tmp_path)
        np.testing.assert_allclose(probabilities, expected, atol=ROUNDING, err_msg=kind)


def test_models_of_earlier_versions_load(images, tmp_path):
    network = build("cnn")
    facts = {"preprocessing": saved_model.PREPROCESSING_VERSION, "class_names": ["a", "b", "c"]}
    (tmp_path / "model").mkdir()
    network.save(tmp_path / "model" / "model.keras")  # With the layers of this project.
    (tmp_path / "model" / "model.json").write_text(json.dumps(facts), encoding="utf-8")
    squares = images.astype(np.uint8)
    earlier, _ = saved_model.load(tmp_path).predict(squares)
    saved_model.save(tmp_path, SavedModel(network, facts))
    now, _ = saved_model.load(tmp_path).predict(squares)
    np.testing.assert_allclose(now, earlier, atol=1e-6)


def test_filters_of_the_resampling_are_not_shuffled(images, tmp_path):
    facts = {"preprocessing": saved_model.PREPROCESSING_VERSION}
    saved_model.save(tmp_path, SavedModel(build("compact"), facts))
    model = saved_model.load(tmp_path)
    shuffled = model.with_shuffled_weights(seed=0)
    for before, after in zip(model.network.weights, shuffled.network.weights, strict=True):
        fixed = plain_network.FIXED in before.path or np.ptp(before.numpy()) == 0
        assert np.array_equal(before, after) == fixed, before.path
        np.testing.assert_array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
