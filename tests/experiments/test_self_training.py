"""Tests of self-training: which maps a round learns, and which runs it takes them from."""

import dataclasses
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.data.radiograph import PREPROCESSING_VERSION
from trainer.data.run import Run
from trainer.errors import UserError
from trainer.evaluation import export_network
from trainer.experiments import repeats, self_training
from trainer.training import models
from trainer.workdir import Workdir

SIDE = 64


def make_run(workdir: Path, **settings) -> Run:
    config = TrainConfig(model="opacity", image_size=SIDE, workdir=str(workdir), **settings)
    return Run(models.resolve(config), data=None, workdir=Workdir(workdir))


def save(workdir: Path, network: keras.Model) -> None:
    folder = workdir / "model"
    folder.mkdir(parents=True)
    network.save(folder / "model.keras")
    facts = {"preprocessing": PREPROCESSING_VERSION}
    (folder / "model.json").write_text(json.dumps(facts), encoding="utf-8")


@pytest.fixture(scope="module")
def members() -> list[keras.Model]:
    """Two untrained networks with an opacity map."""
    networks = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        networks.append(models.build(models.resolve(make_run(Path("runs")).config), 2))
    return networks


def opacity(network: keras.Model, images: np.ndarray) -> np.ndarray:
    logits = network(images.astype(np.float32), training=False)[models.OPACITY_LOGITS]
    return tf.image.resize(tf.sigmoid(logits), [SIDE, SIDE]).numpy()


@pytest.mark.parametrize("count", [1, 2], ids=["one network", "an ensemble"])
def test_the_map_of_the_positive_class_shows_opacities_to_scale(members, count):
    for network in members[:count]:
        # An untrained class layer is zero.
        network.get_layer("logits").set_weights([np.array([[-1.0, 2.0]]), np.zeros(2)])
    exports = [export_network.build_export(network, SIDE) for network in members[:count]]
    export = exports[0] if count == 1 else export_network.build_ensemble(exports)
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 1)).astype(np.float32)
    full = export_network.opacity_evidence(export, 1)
    maps = export(images)["map"].numpy()[..., 1:]
    expected = np.mean([opacity(network, images) for network in members[:count]], axis=0)
    np.testing.assert_allclose(maps / full, expected, atol=1e-4)
    assert export_network.opacity_evidence(export, 0) == 0.0


@pytest.mark.parametrize("count", [1, 2], ids=["one network", "an ensemble"])
def test_a_round_learns_the_mean_map_of_the_round_before(members, tmp_path, count):
    # The export resamples from the prepared side; the map is of the network's own.
    exports = [export_network.build_export(network, 2 * SIDE) for network in members[:count]]
    export = exports[0] if count == 1 else export_network.build_ensemble(exports)
    save(tmp_path / "members" / "round_1", export)
    find_opacities = self_training.teacher(make_run(tmp_path, rounds=2))
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 1), np.uint8)
    expected = np.mean([opacity(network, images) for network in members[:count]], axis=0)
    maps = find_opacities(images)
    assert maps.dtype == np.uint8
    np.testing.assert_allclose(maps, 255.0 * expected, atol=0.51)
    assert find_opacities(images[:0]).shape == (0, SIDE, SIDE, 1)


def test_a_named_teacher_gives_the_maps(members, tmp_path):
    save(tmp_path / "first", export_network.build_export(members[0], SIDE))
    assert self_training.teacher(make_run(tmp_path / "run", teacher=str(tmp_path / "first")))


def test_the_first_round_learns_no_maps(tmp_path):
    assert self_training.teacher(make_run(tmp_path)) is None


@pytest.mark.parametrize("side", [None, SIDE, 2 * SIDE])
def test_unfit_teachers_are_refused_in_one_line(tmp_path, side):
    folder = tmp_path / "first"
    if side:
        # Of another kind, or of another side.
        name = "compact" if side == SIDE else "opacity"
        config = models.resolve(TrainConfig(model=name, image_size=side))
        save(folder, export_network.build_export(models.build(config, 2), side))
    with pytest.raises(UserError, match=r"^[^\n]*first[^\n]*$"):
        self_training.teacher(make_run(tmp_path / "run", teacher=str(folder)))


def test_the_teacher_of_a_fold_leaves_the_fold_out(monkeypatch, tmp_path):
    trained: list[TrainConfig] = []
    opened = functools.partial(
        SimpleNamespace, workdir=SimpleNamespace(path=tmp_path, finished=False)
    )
    monkeypatch.setattr(repeats, "open_run", lambda config, requested: opened(config=config))
    monkeypatch.setattr(repeats, "train_and_evaluate", lambda config, *_: trained.append(config))
    config = make_run(tmp_path, rounds=2, folds=3, fold=1).config
    repeats.run(config)
    assert [(member.rounds, member.folds, member.fold) for member in trained] == [
        (1, 3, 1),
        (2, 3, 1),
    ]
    trained.clear()
    # The model on all of Train, after the folds.
    repeats._train_rounds(dataclasses.replace(config, fold=None))
    assert [(member.rounds, member.folds) for member in trained] == [(1, 0), (2, 3)]


@pytest.mark.parametrize("seeds", [1, 2])
def test_each_round_is_a_member_and_ensembles_teach_as_one(monkeypatch, tmp_path, seeds):
    trained: list[TrainConfig] = []
    taught: list[bool] = []

    class Opened:
        def __init__(self, config: TrainConfig):
            self.config = config
            self.workdir = Workdir(Path(str(config.workdir)))

    @dataclasses.dataclass
    class Done:
        workdir: Workdir
        metrics: dict

    def train(config, _=None, teaches=False):
        trained.append(config)
        taught.append(teaches)
        return Done(Workdir(Path(config.workdir)), {"test": {}})

    monkeypatch.setattr(repeats, "open_run", lambda config, requested: Opened(config))
    monkeypatch.setattr(repeats, "train_and_evaluate", train)
    monkeypatch.setattr(repeats, "write_json", lambda *_: None)
    monkeypatch.setattr(
        repeats.ensemble, "save_and_score", lambda run, *_: Done(run.workdir, {"test": {}})
    )
    root = tmp_path / "run"
    repeats.run(make_run(root, rounds=3, seeds=seeds, ensemble=seeds > 1).config)
    before = root / "members" / "round_2"
    first = before / "members" / "round_1"
    if seeds == 1:
        assert [Path(config.workdir) for config in trained] == [first, before, root]
        assert [config.rounds for config in trained] == [1, 2, 3]
        assert taught == [True, True, False]  # Only the last round is scored on test.
        return
    assert taught == [True, True, True, True, False, False]
    folders = [first, before, root]
    assert [Path(config.workdir) for config in trained] == [
        folder / "members" / f"seed_{seed}" for folder in folders for seed in range(2)
    ]
    assert [config.teacher for config in trained] == [
        teacher and str(teacher) for teacher in (None, first, before) for _ in range(2)
    ]
