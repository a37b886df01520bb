"""Tests of warm starts: which weights are kept, and which are spared in training."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.errors import Stopped, UserError
from trainer.evaluation.result import Result
from trainer.experiments.run import train_and_evaluate
from trainer.training import checkpoint, distribution, loop, models, steps, warm_start
from trainer.training.warm_start import WarmStart

SIDE = 64
CLASSES = ("non_covid", "covid")


def build(name: str, side: int = SIDE, classes: int = 2, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    config = TrainConfig(model=name, image_size=side, weights="none")
    return models.build(models.resolve(config), classes)


def start_from(network: keras.Model, class_names: tuple[str, ...] = CLASSES) -> WarmStart:
    dense = [tuple(layer.get_weights()) for layer in warm_start.head(network)]
    trunk = warm_start.trunk(network).get_weights()
    return WarmStart("the other run", trunk, dense, class_names)


@pytest.mark.parametrize("name", ["cnn", "compact", "opacity", "mobilenetv3small"])
def test_network_of_the_same_classes_is_taken_whole(name):
    side = 128  # The smallest that `cnn` takes is above 64.
    other = build(name, side, seed=1)
    network = build(name, side, seed=2)
    note = start_from(other).apply(network, CLASSES)
    assert note == "starts from the other run, with 0 new layer(s) in the head"
    assert checkpoint.weights_sha256(network) == checkpoint.weights_sha256(other)


@pytest.mark.parametrize(("name", "new"), [("cnn", 1), ("compact", 1)])
def test_other_classes_get_a_new_last_layer(name, new):
    other = build(name, 128, classes=3, seed=1)
    network = build(name, 128, seed=2)
    fresh = network.get_layer("logits").get_weights()
    note = start_from(other, ("a", "b", "c")).apply(network, CLASSES)
    assert note.endswith(f"with {new} new layer(s) in the head")
    for value, expected in zip(network.get_layer("logits").get_weights(), fresh, strict=True):
        np.testing.assert_array_equal(value, expected)
    for layer, before in zip(warm_start.head(network)[:-1], warm_start.head(other), strict=False):
        np.testing.assert_array_equal(layer.kernel, before.kernel)
    weights = [warm_start.trunk(each).get_weights() for each in (network, other)]
    for value, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_classes_in_another_order_are_sorted():
    other = build("compact", seed=1)
    network = build("compact", seed=2)
    start_from(other, CLASSES[::-1]).apply(network, CLASSES)
    kernel = other.get_layer("logits").kernel.numpy()
    np.testing.assert_array_equal(network.get_layer("logits").kernel, kernel[:, ::-1])


@pytest.mark.parametrize(("name", "new"), [("cnn", 5), ("compact", 0)])
def test_another_side_keeps_what_has_the_same_shape(name, new):
    other = build(name, 128, seed=1)
    network = build(name, 224, seed=2)
    note = start_from(other).apply(network, CLASSES)
    assert note.endswith(f"with {new} new layer(s) in the head")


def test_weights_of_another_network_are_refused_in_one_line():
    with pytest.raises(
        UserError, match=r"has not the layers of --model=compact.*--model"
    ) as caught:
        start_from(build("cnn", 128)).apply(build("compact"), CLASSES)
    assert "\n" not in str(caught.value)


def make_state(**settings: Any) -> steps.TrainState:
    settings = {"model": "compact", "optimizer": "adamw", "weight_decay": 0.1} | settings
    config = models.resolve(
        TrainConfig(image_size=SIDE, batch_size=4, strategy="one_device", **settings)
    )
    strategy = distribution.make_strategy(config)
    return steps.create_train_state(config, strategy, 2, 20, 2.0, np.array([0, 1] * 4))


def take_steps(state: steps.TrainState, count: int) -> None:
    for index in range(count):
        rng = np.random.default_rng(index)
        batch = {
            "image": rng.uniform(0, 255, (4, SIDE, SIDE, 1)).astype(np.float32),
            "label": np.array([0, 1, 1, 0], np.int32),
            "noise_seed": rng.integers(0, 2**31, (4, 2)),
        }
        state.train_step({name: tf.constant(values) for name, values in batch.items()})


def values(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_trunk_stays_for_the_frozen_epochs_and_moves_after(precision):
    try:
        # Eight images in batches of four: two steps an epoch.
        state = make_state(freeze_epochs=2, backbone_rate=0.5, precision=precision)
    finally:
        keras.config.set_dtype_policy("float32")
    trunk = warm_start.trunk(state.model)
    before = values(trunk.trainable_variables)
    averages = values(trunk.non_trainable_variables)
    logits = state.model.get_layer("logits").get_weights()[0]
    take_steps(state, 4)
    if precision == "mixed_float16":  # Steps whose scaled loss overflows are not counted.
        assert int(state.optimizer.iterations) <= 4
    for value, old in zip(values(trunk.trainable_variables), before, strict=True):
        np.testing.assert_array_equal(value, old)
    # The head learns, and the averages follow the images.
    assert not np.array_equal(state.model.get_layer("logits").get_weights()[0], logits)
    for value, old in zip(values(trunk.non_trainable_variables), averages, strict=True):
        assert not np.array_equal(value, old)
    take_steps(state, 8)
    for value, old in zip(values(trunk.trainable_variables), before, strict=True):
        assert not np.array_equal(value, old)


def test_lower_rate_scales_the_update_and_its_decay():
    moves = []
    for rate in (1.0, 0.25):
        state = make_state(backbone_rate=rate, schedule="constant")
        before = values(warm_start.trunk(state.model).trainable_variables)
        head = state.model.get_layer("logits").get_weights()[0]
        take_steps(state, 1)
        after = values(warm_start.trunk(state.model).trainable_variables)
        moves.append([new - old for new, old in zip(after, before, strict=True)])
        moves[-1].append(state.model.get_layer("logits").get_weights()[0] - head)
    *whole, whole_head = moves[0]
    *slow, slow_head = moves[1]
    for move, expected in zip(slow, whole, strict=True):
        np.testing.assert_allclose(move, 0.25 * expected, atol=2e-7)
    np.testing.assert_array_equal(slow_head, whole_head)


@pytest.fixture(scope="module")
def config(tiny_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Three epochs of seven steps or less, the first of them frozen."""
    path = tmp_path_factory.mktemp("weights") / "backbone.weights.h5"
    keras.utils.set_random_seed(5)
    keras.applications.MobileNetV3Small(include_top=False, weights=None).save_weights(path)
    return TrainConfig(
        dataset="covid_xray",
        data_dir=str(tiny_data_dir),
        model="mobilenetv3small",
        weights=str(path),
        image_size=SIDE,
        epochs=3,
        batch_size=4,
        validation_fraction=0.25,
        select="last",
    )


@pytest.fixture(scope="module")
def finished(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result of a whole run."""
    workdir = str(tmp_path_factory.mktemp("runs") / "whole")
    return train_and_evaluate(dataclasses.replace(config, workdir=workdir))


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(2, id="in the frozen epoch", marks=pytest.mark.slow),
        pytest.param(7, id="after it"),
    ],
)
def test_stopped_run_resumes_to_the_same_weights_without_the_file(
    stop: int,
    finished: Result,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = dataclasses.replace(config, workdir=str(tmp_path / "stopped"))
    take_step = loop._take_step
    calls = []

    def take_and_stop(*arguments: Any) -> dict[str, float]:
        calls.append(1)
        # Only once: the resumed run goes on counting.
        if len(calls) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(*arguments)

    monkeypatch.setattr(loop, "_take_step", take_and_stop)
    with pytest.raises(Stopped, match=f"after step {stop}"):
        train_and_evaluate(config)
    # A resumed run needs no file.
    path = Path(str(config.weights))
    moved = path.rename(tmp_path / path.name)
    try:
        resumed = train_and_evaluate(config)
    finally:
        moved.rename(path)
    assert resumed.metrics["weights_sha256"] == finished.metrics["weights_sha256"]
    assert resumed.workdir.history() == finished.workdir.history()
