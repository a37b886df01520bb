"""Tests of the weights that runs start from: where they come from, and which are refused."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest

from trainer.config import TrainConfig
from trainer.data.radiograph import PREPROCESSING_VERSION
from trainer.data.run import Run
from trainer.errors import UserError
from trainer.evaluation import export_network
from trainer.experiments import repeats, starting_weights
from trainer.training import checkpoint, models
from trainer.workdir import Workdir

SIDE = 64
CLASSES = ("non_covid", "covid")


def make_config(**settings) -> TrainConfig:
    return models.resolve(TrainConfig(**{"model": "compact", "image_size": SIDE} | settings))


def build(seed: int, **settings) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return models.build(make_config(**settings), len(CLASSES))


def save(workdir: Path, network: keras.Model, model: str = "compact", **settings) -> Path:
    """Writes the files of a finished run that a warm start reads."""
    (workdir / "model").mkdir(parents=True)
    network.save(workdir / "model" / "model.keras")
    facts = {"preprocessing": PREPROCESSING_VERSION, "model": model, "class_names": CLASSES}
    (workdir / "model" / "model.json").write_text(json.dumps(facts), encoding="utf-8")
    (workdir / "metrics.json").write_text(
        '{"dataset": {"source_fingerprint": "a"}}', encoding="utf-8"
    )
    config = dataclasses.asdict(make_config(**settings))
    (workdir / "config.json").write_text(json.dumps({"config": config}), encoding="utf-8")
    return workdir


def make_run(fingerprint: str, **settings) -> Run:
    data = SimpleNamespace(fingerprint={"source_fingerprint": fingerprint}, class_names=CLASSES)
    return Run(make_config(**settings), data, Workdir(Path("run")))


def test_a_run_starts_from_the_export_of_another(tmp_path):
    other = build(1)
    folder = save(tmp_path / "first", export_network.build_export(other, 100, temperature=2.0))
    network = build(2)
    note = starting_weights.initializer(make_run("b", init_from=str(folder)))(network)
    assert note == f"starts from --init_from={folder}, with 0 new layer(s) in the head"
    assert checkpoint.weights_sha256(network) == checkpoint.weights_sha256(other)


def test_without_a_flag_the_random_weights_stay():
    network = build(1)
    before = checkpoint.weights_sha256(network)
    assert starting_weights.initializer(make_run("a"))(network) == ""
    assert checkpoint.weights_sha256(network) == before


def test_a_run_of_another_model_or_of_several_is_refused(tmp_path):
    exports = [export_network.build_export(build(seed), SIDE) for seed in (1, 2)]
    mean = save(tmp_path / "mean", export_network.build_ensemble(exports))
    with pytest.raises(UserError, match=r"the mean of 2 models; give one of .*members"):
        starting_weights.load(make_config(init_from=str(mean)))
    other = save(tmp_path / "other", exports[0], model="cnn")
    with pytest.raises(UserError, match=r"holds a cnn; give --model=cnn"):
        starting_weights.load(make_config(init_from=str(other)))
    with pytest.raises(UserError, match="holds no finished run"):
        starting_weights.load(make_config(init_from=str(tmp_path / "none")))


@pytest.mark.parametrize("seeds", [1, 2])
def test_wrong_weights_leave_no_workdir_behind(tmp_path, seeds):
    config = TrainConfig(
        dataset="phantom",
        data_dir=str(tmp_path),
        model="mobilenetv3small",
        weights=str(tmp_path / "missing.h5"),
        workdir=str(tmp_path / "run"),
        seeds=seeds,
    )
    with pytest.raises(UserError, match="no such file"):
        repeats.run(config)
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_begun_needs_no_weights(tmp_path):
    started = save(tmp_path / "run", export_network.build_export(build(1), SIDE))
    config = make_config(
        model="mobilenetv3small", weights=str(tmp_path / "missing.h5"), workdir=str(started)
    )
    starting_weights.check(config)


@pytest.mark.parametrize(
    ("fingerprint", "settings", "words"),
    [
        ("a", {}, ""),
        ("a", {"seed": 1}, "split this set otherwise"),
        ("b", {}, "was trained on other images"),
    ],
)
def test_images_that_another_run_may_have_seen_are_named(tmp_path, fingerprint, settings, words):
    other = save(tmp_path, export_network.build_export(build(1), SIDE))
    lines = starting_weights.remarks(make_run(fingerprint, init_from=str(other), **settings))
    assert len(lines) == bool(words)
    assert words in "".join(lines)
    assert starting_weights.remarks(make_run(fingerprint, **settings)) == []


def test_a_teacher_trained_on_other_images_is_named(tmp_path):
    teacher = save(tmp_path, export_network.build_export(build(1), SIDE))
    settings = {"model": "opacity", "teacher": str(teacher)}
    assert "was trained on other images" in starting_weights.remarks(make_run("b", **settings))[0]
    assert starting_weights.remarks(make_run("a", seed=1, **settings)) == []
