"""Tests of the start of TensorFlow: one result in any environment, and memory used again."""

import functools
import json
import os
import sys
from pathlib import Path

import keras
import pytest

from tests.conftest import run_command
from trainer import tf_startup
from trainer.errors import UserError

_COUNT_FAULTS = """
import resource, sys
import numpy as np
from trainer import tf_startup

if sys.argv[1] == "keep":
    tf_startup._keep_freed_memory()
for _ in range(20):
    np.ones(5_000_000)  # 40 MB, which the allocator would return to the system
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of Unicode alone")
@pytest.mark.parametrize("command", ["trainer.main", "trainer.evaluate", "trainer.export"])
def test_names_that_tensorflow_cannot_take_are_an_error_in_one_line(command):
    result = run_command("-m", command, os.fsdecode(b"--workdir=runs/r\xf6n"))
    assert result.returncode == 1
    assert result.stderr.startswith(r"error: --workdir=runs/r\xf6n: TensorFlow takes only names")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_freed_memory_is_used_again():
    faults = {}
    for mode in ("keep", "return"):
        result = run_command("-c", _COUNT_FAULTS, mode)
        assert result.returncode == 0, result.stderr
        faults[mode] = int(result.stdout)
    # Huge pages need fewer faults, but the same share of them.
    assert faults["keep"] < faults["return"]


# Three steps of a network with convolutions, normalisation and dropout.
_TRAIN = """
from trainer import tf_startup

tf_startup.start_tensorflow()
import numpy as np
import tensorflow as tf
from trainer.config import TrainConfig
from trainer.training import checkpoint, distribution, models, steps

config = models.resolve(TrainConfig(model="cnn", image_size=128, batch_size=4))
strategy = distribution.make_strategy(config)
tf.config.experimental.enable_op_determinism()
state = steps.create_train_state(config, strategy, 2, 3, 1.0, np.array([0, 1]))
rng = np.random.default_rng(0)
for _ in range(3):
    batch = {
        "image": rng.uniform(0, 255, (4, 128, 128, 1)).astype(np.float32),
        "label": rng.integers(0, 2, 4).astype(np.int32),
        "noise_seed": rng.integers(0, 2**31, (4, 2)),
    }
    state.train_step({name: tf.constant(values) for name, values in batch.items()})
print(checkpoint.weights_sha256(state.model))
"""

_KERAS_JSON = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}


def write_keras_home(folder: Path, **settings) -> str:
    folder.mkdir()
    (folder / "keras.json").write_text(json.dumps(_KERAS_JSON | settings), encoding="utf-8")
    return str(folder)


@functools.cache
def train(**environment: str) -> str:
    result = run_command("-c", _TRAIN, **environment)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"KERAS_BACKEND": "torch"},
        {"KERAS_BACKEND": "jax", "KERAS_NNX_ENABLED": "1", "KERAS_MAX_EPOCHS": "x"},
        {"TF_USE_LEGACY_KERAS": "1", "TF2_BEHAVIOR": "0"},
        {"TF_ENABLE_ONEDNN_OPTS": "0"},
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1"},
        {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"},
        {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1", "LC_ALL": "C"},
    ],
)
def test_one_seed_gives_one_result_in_any_environment(environment):
    assert train(**environment) == train()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"image_data_format": "channels_first"},
        {"floatx": "float16"},
        {"floatx": "float64", "epsilon": 0.01},
        {"backend": "jax", "nnx_enabled": True},
    ],
)
def test_one_seed_gives_one_result_with_any_keras_json(tmp_path, settings):
    home = write_keras_home(tmp_path / "keras", **settings)
    assert train(KERAS_HOME=home) == train()


def test_variables_of_arithmetic_are_removed_and_those_of_resources_stay(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    changed = ("KERAS_MAX_EPOCHS", "TF_USE_LEGACY_KERAS", "TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS")
    kept = ("KERAS_HOME", "TF_NUM_INTRAOP_THREADS", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_CONFIG")
    os.environ.update(dict.fromkeys((*changed, *kept), "1"), KERAS_BACKEND="torch")
    tf_startup.set_up_keras()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert not set(changed) & set(os.environ)
    assert set(kept) <= set(os.environ)


# Odd settings for a process that starts as somebody's program or as a test.
_ODD = {"KERAS_BACKEND": "torch", "TF_USE_LEGACY_KERAS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}


@pytest.mark.parametrize(
    "module",
    [
        "tests.evaluation.test_plain_network",
        "trainer.evaluation.saved_model",
        "trainer.experiments.repeats",
        "trainer.training.models",
    ],
)
def test_programs_may_import_any_package_first(tmp_path, module):
    settings = {"image_data_format": "channels_first", "floatx": "float16"}
    home = write_keras_home(tmp_path / "keras", **settings)
    code = f"""
import {module}, keras, os
print(keras.config.backend(), keras.config.floatx(), keras.config.image_data_format())
print("TF_ENABLE_ONEDNN_OPTS" in os.environ)
"""
    result = run_command("-c", code, KERAS_HOME=home, **_ODD)
    assert result.stdout.split() == ["tensorflow", "float32", "channels_last", "False"], (
        result.stderr[-2000:]
    )


def test_settings_of_keras_are_those_of_the_program():
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_epsilon(0.5)
    tf_startup.set_up_keras()
    assert keras.config.floatx() == "float32"
    assert keras.config.image_data_format() == "channels_last"
    assert keras.config.epsilon() == 1e-7


def test_another_backend_in_use_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(UserError, match=r"^Keras runs on jax already; set KERAS_BACKEND=tensorfl"):
        tf_startup.set_up_keras()


@pytest.mark.parametrize(
    "settings", [{"floatx": "float8"}, {"epsilon": "small"}, {"image_data_format": "last"}]
)
def test_a_wrong_keras_json_is_named_in_one_line(tmp_path, settings):
    home = write_keras_home(tmp_path / "keras", **settings)
    code = "from trainer import cli, tf_startup; cli.run(tf_startup.start_tensorflow)"
    result = run_command("-c", code, KERAS_HOME=home)
    assert result.returncode == 1
    assert f"if {home}/keras.json has wrong values, delete it." in result.stderr
    assert "Traceback" not in result.stderr
