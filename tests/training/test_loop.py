"""The training loop on a tiny set: one seed, one result; stopped and resumed; what it leaves behind."""

import csv
import dataclasses
import json
import os
import signal

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from trainer import config as config_lib
from trainer.config import TrainConfig
from trainer.errors import Stopped, UserError
from trainer.training import interruption, loop, steps


@pytest.fixture(scope="module")
def config(tiny_data_dir) -> TrainConfig:
    return TrainConfig(
        dataset="covid_xray",
        data_dir=str(tiny_data_dir),
        model="cnn",
        image_size=96,
        epochs=3,
        batch_size=8,
        validation_fraction=0.25,
        checkpoint_every_steps=2,
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    return loop.train_and_evaluate(
        dataclasses.replace(config, workdir=str(tmp_path_factory.mktemp("runs") / "whole"))
    )


def test_the_workdir_is_complete(finished):
    folder = finished.workdir.path
    for name in (
        "config.json",
        "metrics.json",
        "metrics.jsonl",
        "model/model.keras",
        "model/model.json",
        "predictions/train.csv",
        "predictions/validation.csv",
        "predictions/test.csv",
        "figures/learning_curves.png",
        "figures/confusion_matrix.png",
        "figures/roc.png",
        "figures/augmented.png",
        "figures/worst_mistakes.png",
        "model/refusal.npz",
        "audit/audit.json",
        "audit/controls.csv",
        "audit/controls.png",
        "audit/near_duplicates.csv",
        "evaluation/test/evaluation.json",
        "evaluation/test/predictions.csv",
        "evaluation/test/reliability.png",
        "evaluation/test/maps.png",
        "report.html",
        "MODEL_CARD.md",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "events").glob("events.out.*"))
    found = json.loads((folder / "metrics.json").read_text())
    for split, n, groups in (("train", 18, 9), ("validation", 8, 4), ("test", 14, 7)):
        for name in ("accuracy", "loss", "roc_auc", "sensitivity", "specificity"):
            assert {"value", "low", "high", "n", "groups"} <= set(found[split][name])
        assert (found[split]["accuracy"]["n"], found[split]["accuracy"]["groups"]) == (n, groups)
    assert found["dataset"]["synthetic"] is False and found["dataset"]["class_names"] == [
        "non_covid",
        "covid",
    ]
    assert "next:" in str(finished) and str(folder) in str(finished)


def test_every_step_and_epoch_is_logged_once(finished):
    lines = finished.workdir.history()
    assert [line["step"] for line in lines if "epoch" not in line] == list(
        range(1, finished.metrics["steps"] + 1)
    )
    assert [line["epoch"] for line in lines if "epoch" in line] == [1, 2, 3]


def test_tensorboard_is_told_what_the_log_says(finished):
    reader = event_accumulator.EventAccumulator(
        str(finished.workdir.path / "events"), {event_accumulator.SCALARS: 0}
    )
    reader.Reload()
    lines = finished.workdir.history()
    for kind, name in [
        ("step", "loss"),
        ("step", "gradient_norm"),
        ("step", "learning_rate"),
        ("epoch", "validation_loss"),
    ]:
        said = {event.step: event.value for event in reader.Scalars(f"{kind}/{name}")}
        assert said == pytest.approx(
            {line["step"]: line[name] for line in lines if (kind == "epoch") == ("epoch" in line)}
        )
        assert len(said) == (3 if kind == "epoch" else finished.metrics["steps"])


def test_the_rate_that_is_logged_is_the_one_the_step_used(finished, config):
    config = config_lib.resolved(config)
    lines = [line for line in finished.workdir.history() if "epoch" not in line]
    rate = steps.make_rate(config, len(lines), len(lines) / config.epochs)
    assert [line["learning_rate"] for line in lines] == pytest.approx(
        [float(rate(step)) for step in range(len(lines))]
    )
    assert len({line["learning_rate"] for line in lines}) > 1


def test_the_scores_are_those_of_the_written_predictions_and_of_the_saved_model(finished, config):
    import keras

    from trainer.data import prepared
    from trainer.training import input_pipeline

    with open(finished.workdir.predictions / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    right = [(float(row["probability_covid"]) > 0.5) == (row["label"] == "covid") for row in rows]
    assert np.mean(right) == pytest.approx(finished.metrics["test"]["accuracy"]["value"])
    data = prepared.open_dataset("covid_xray", data_dir=config.data_dir)
    squares = input_pipeline.load(data.builder, "test", 500).images.astype(np.float32)
    found = keras.saving.load_model(finished.workdir.model / "model.keras")(squares)[
        "probabilities"
    ].numpy()[:, 1]
    np.testing.assert_allclose(found, [float(row["probability_covid"]) for row in rows], atol=1e-5)


def test_a_finished_run_is_looked_up_and_not_trained_again(finished, config):
    before = {path: path.stat().st_mtime_ns for path in finished.workdir.path.rglob("*")}
    again = loop.train_and_evaluate(dataclasses.replace(config, workdir=str(finished.workdir.path)))
    assert again.resumed and again.metrics == finished.metrics
    assert {path: path.stat().st_mtime_ns for path in finished.workdir.path.rglob("*")} == before


def test_two_runs_with_one_seed_agree_bit_for_bit_and_another_seed_does_not(
    finished, config, tmp_path
):
    again = loop.train_and_evaluate(dataclasses.replace(config, workdir=str(tmp_path / "again")))
    assert again.metrics["weights_sha256"] == finished.metrics["weights_sha256"]
    other = loop.train_and_evaluate(
        dataclasses.replace(config, workdir=str(tmp_path / "other"), seed=1, epochs=1)
    )
    assert other.metrics["weights_sha256"] != finished.metrics["weights_sha256"]


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(finished, config, tmp_path, monkeypatch):
    config = dataclasses.replace(config, workdir=str(tmp_path / "stopped"))
    make, count = steps.make_train_step, []

    def stopping(*arguments):
        step = make(*arguments)

        def counted(batch):
            count.append(1)
            if len(count) == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(batch)

        return counted

    monkeypatch.setattr(steps, "make_train_step", stopping)
    with pytest.raises(Stopped, match="after step 5"):
        loop.train_and_evaluate(config)
    resumed = loop.train_and_evaluate(config)
    assert resumed.metrics["weights_sha256"] == finished.metrics["weights_sha256"]
    assert resumed.workdir.history() == finished.workdir.history()


def test_a_loss_that_is_not_finite_names_the_step_and_the_files(config, tmp_path):
    with pytest.raises(
        UserError, match=r"not finite at step \d+.*--learning_rate.*Train/covid/covid_\d+\.png"
    ):
        loop.train_and_evaluate(
            dataclasses.replace(
                config,
                workdir=str(tmp_path / "nan"),
                model="seed_cnn",
                image_size=100,
                learning_rate=1e20,
            )
        )


def test_other_settings_are_refused_and_nothing_is_overwritten(finished, config):
    before = (finished.workdir.path / "metrics.json").read_bytes()
    with pytest.raises(UserError, match="batch_size: 8 → 4"):
        loop.train_and_evaluate(
            dataclasses.replace(config, workdir=str(finished.workdir.path), batch_size=4)
        )
    assert (finished.workdir.path / "metrics.json").read_bytes() == before


def test_without_a_validation_part_the_last_epoch_is_kept(config, tmp_path):
    config = dataclasses.replace(
        config, workdir=str(tmp_path / "run"), validation_fraction=0.0, epochs=1
    )
    found = loop.train_and_evaluate(config)
    assert found.metrics["best_epoch"] is None and "validation" not in found.metrics
    assert found.metrics["train"]["accuracy"]["n"] == 26


@pytest.mark.slow
def test_patience_ends_a_run_that_makes_no_progress(config, tmp_path):
    found = loop.train_and_evaluate(
        dataclasses.replace(
            config,
            workdir=str(tmp_path / "run"),
            epochs=8,
            patience=1,
            learning_rate=1e-12,
            schedule="constant",
        )
    )
    assert found.metrics["steps"] < 20


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"precision": "mixed_bfloat16"}, marks=pytest.mark.slow),
        pytest.param({"precision": "mixed_float16", "clip_norm": 1.0}, marks=pytest.mark.slow),
        pytest.param(
            {"model": "compact", "image_size": 48, "clip_norm": 0.5}, marks=pytest.mark.slow
        ),
        pytest.param(
            {
                "class_weights": True,
                "label_smoothing": 0.1,
                "contrast": 0.2,
                "brightness": 0.1,
                "rotation": 5.0,
                "shift": 0.1,
                "optimizer": "adamw",
                "weight_decay": 0.01,
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_options_train_and_lower_the_loss(config, tmp_path, options):
    found = loop.train_and_evaluate(
        dataclasses.replace(config, workdir=str(tmp_path / "run"), epochs=6, **options)
    )
    losses = [line["loss"] for line in found.workdir.history() if "epoch" not in line]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_class_weights_average_to_one_over_the_images():
    labels = np.array([0, 0, 0, 1])
    weights = steps.class_weights(labels, 2, used=True).numpy()
    assert weights[labels].mean() == pytest.approx(1.0) and weights[1] == pytest.approx(
        3 * weights[0]
    )
    np.testing.assert_array_equal(steps.class_weights(labels, 2, used=False), [1.0, 1.0])


def test_a_second_ctrl_c_interrupts_at_once():
    with interruption.watched() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
