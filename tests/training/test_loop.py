"""Tests of a training run on a tiny set: reproducible, resumable, and complete on disk."""

import csv
import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.errors import Stopped, UserError
from trainer.evaluation.result import Result
from trainer.experiments.run import train_and_evaluate
from trainer.training import input_pipeline, interruption, losses, models, steps
from trainer.workdir import read_json

# Of a run that is scored on test; figures, too, must not be empty.
FILES = (
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
)


@pytest.fixture(scope="module")
def config(tiny_data_dir: Path) -> TrainConfig:
    """Three epochs of the reference network at a small side."""
    return TrainConfig(
        dataset="covid_xray",
        data_dir=str(tiny_data_dir),
        model="cnn",
        image_size=96,
        epochs=3,
        batch_size=8,
        validation_fraction=0.25,
        checkpoint_every_steps=2,  # So that a stop falls between two checkpoints.
    )


@pytest.fixture(scope="module")
def finished(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result of a whole run."""
    workdir = str(tmp_path_factory.mktemp("runs") / "whole")
    return train_and_evaluate(dataclasses.replace(config, workdir=workdir))


def step_lines(result: Result) -> list[dict[str, Any]]:
    # Lines with an epoch end one; every other line is a step.
    return [line for line in result.workdir.history() if "epoch" not in line]


def test_workdir_is_complete(finished: Result) -> None:
    folder = finished.workdir.path
    for name in FILES:
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "events").glob("events.out.*"))
    metrics = read_json(folder / "metrics.json")
    # Train has 26 images of 13 patients; a quarter of them validates.
    for split, n, groups in (("train", 18, 9), ("validation", 8, 4), ("test", 14, 7)):
        for name in ("accuracy", "loss", "roc_auc", "sensitivity", "specificity"):
            assert {"value", "low", "high", "n", "groups"} <= set(metrics[split][name])
        assert metrics[split]["accuracy"]["n"] == n
        assert metrics[split]["accuracy"]["groups"] == groups
    assert metrics["dataset"]["synthetic"] is False
    assert metrics["dataset"]["class_names"] == ["non_covid", "covid"]
    assert "next:" in str(finished)
    assert str(folder) in str(finished)


def test_every_step_and_epoch_is_logged_once(finished: Result) -> None:
    logged = [line["step"] for line in step_lines(finished)]
    assert logged == list(range(1, finished.metrics["steps"] + 1))
    epochs = [line["epoch"] for line in finished.workdir.history() if "epoch" in line]
    assert epochs == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("step", "loss"),
        ("step", "gradient_norm"),
        ("step", "learning_rate"),
        ("epoch", "validation_loss"),
    ],
)
def test_tensorboard_has_the_values_of_the_log(finished: Result, kind: str, name: str) -> None:
    # 0: no value is sampled away.
    reader = event_accumulator.EventAccumulator(
        str(finished.workdir.path / "events"), {event_accumulator.SCALARS: 0}
    )
    reader.Reload()
    events = {event.step: event.value for event in reader.Scalars(f"{kind}/{name}")}
    lines = step_lines(finished)
    if kind == "epoch":
        lines = [line for line in finished.workdir.history() if "epoch" in line]
    # TensorBoard stores float32.
    assert events == pytest.approx({line["step"]: line[name] for line in lines})
    assert len(events) == (3 if kind == "epoch" else finished.metrics["steps"])


def test_logged_learning_rate_is_that_of_the_update(finished: Result, config: TrainConfig) -> None:
    logged = [line["learning_rate"] for line in step_lines(finished)]
    learning_rate = steps.make_learning_rate(
        models.resolve(config), len(logged), len(logged) / config.epochs
    )
    # The update of step 1 has the rate of 0 steps before it.
    expected = [float(learning_rate(step)) for step in range(len(logged))]
    assert logged == pytest.approx(expected)
    assert len(set(logged)) > 1  # Or a constant would pass.


def test_scores_agree_with_the_written_predictions_and_the_saved_model(
    finished: Result, config: TrainConfig
) -> None:
    with open(finished.workdir.predictions / "test.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    written = np.array([float(row["probability_covid"]) for row in rows])
    is_covid = np.array([row["label"] == "covid" for row in rows])
    accuracy = ((written > 0.5) == is_covid).mean()
    assert accuracy == pytest.approx(finished.metrics["test"]["accuracy"]["value"])
    data = prepared.open_from_config(config)
    # As prepared: the saved network resamples by itself.
    images = input_pipeline.load(data.builder, "test", 500).images.astype(np.float32)
    model = keras.saving.load_model(finished.workdir.model / "model.keras")
    probabilities = model(images)["probabilities"].numpy()[:, 1]  # [n], of covid
    np.testing.assert_allclose(probabilities, written, atol=1e-5)


def test_finished_run_is_reported_and_not_trained_again(
    finished: Result, config: TrainConfig
) -> None:
    folder = finished.workdir.path
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = train_and_evaluate(dataclasses.replace(config, workdir=str(folder)))
    assert again.resumed
    assert again.metrics == finished.metrics
    # No file is touched, added or removed.
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_runs_with_one_seed_agree_bit_for_bit_and_with_another_differ(
    finished: Result, config: TrainConfig, tmp_path: Path
) -> None:
    same = dataclasses.replace(config, workdir=str(tmp_path / "same"))
    other = dataclasses.replace(config, workdir=str(tmp_path / "other"), seed=1, epochs=1)
    expected = finished.metrics["weights_sha256"]
    assert train_and_evaluate(same).metrics["weights_sha256"] == expected
    assert train_and_evaluate(other).metrics["weights_sha256"] != expected


def test_stopped_run_resumes_to_the_same_weights(
    finished: Result, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, workdir=str(tmp_path / "stopped"))
    make_train_step = steps.make_train_step
    calls = []

    def make_stopping_step(*arguments: Any) -> Callable:
        train_step = make_train_step(*arguments)

        def stopping_step(batch: dict) -> dict:
            calls.append(1)
            # Only once: the resumed run goes on counting.
            if len(calls) == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return train_step(batch)

        return stopping_step

    monkeypatch.setattr(steps, "make_train_step", make_stopping_step)
    with pytest.raises(Stopped, match="after step 5"):
        train_and_evaluate(config)
    resumed = train_and_evaluate(config)
    # Bit for bit, as if nothing had happened.
    assert resumed.metrics["weights_sha256"] == finished.metrics["weights_sha256"]
    assert resumed.workdir.history() == finished.workdir.history()


def test_loss_that_is_not_finite_names_the_step_and_the_files(
    config: TrainConfig, tmp_path: Path
) -> None:
    diverging = dataclasses.replace(
        config,
        workdir=str(tmp_path / "nan"),
        model="seed_cnn",
        image_size=100,
        learning_rate=1e20,  # Halved by each rollback, it is still far too high.
    )
    message = r"not finite at step \d+.*--learning_rate.*Train/covid/covid_\d+\.png"
    with pytest.raises(UserError, match=message):
        train_and_evaluate(diverging)


def test_other_settings_are_refused_and_nothing_is_overwritten(
    finished: Result, config: TrainConfig
) -> None:
    before = (finished.workdir.path / "metrics.json").read_bytes()
    other = dataclasses.replace(config, workdir=str(finished.workdir.path), batch_size=4)
    with pytest.raises(UserError, match="batch_size: 8 → 4"):
        train_and_evaluate(other)
    assert (finished.workdir.path / "metrics.json").read_bytes() == before


def test_without_validation_the_last_epoch_is_saved(config: TrainConfig, tmp_path: Path) -> None:
    unvalidated = dataclasses.replace(
        config, workdir=str(tmp_path / "run"), validation_fraction=0.0, epochs=1
    )
    result = train_and_evaluate(unvalidated)
    assert result.metrics["best_epoch"] is None
    # Nothing is held out, so all of Train is trained on.
    assert "validation" not in result.metrics
    assert result.metrics["train"]["accuracy"]["n"] == 26


@pytest.mark.slow
def test_patience_ends_a_run_without_progress(config: TrainConfig, tmp_path: Path) -> None:
    impatient = dataclasses.replace(
        config,
        workdir=str(tmp_path / "run"),
        epochs=8,
        patience=1,
        learning_rate=1e-12,  # Too small for a lower loss.
        schedule="constant",
    )
    assert train_and_evaluate(impatient).metrics["steps"] < 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "mixed_bfloat16"},
        {"precision": "mixed_float16", "clip_norm": 1.0},
        {"model": "compact", "image_size": 48, "clip_norm": 0.5},
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
    ],
)
def test_settings_lower_the_loss(
    config: TrainConfig, tmp_path: Path, settings: dict[str, Any]
) -> None:
    longer = dataclasses.replace(config, workdir=str(tmp_path / "run"), epochs=6, **settings)
    history = [line["loss"] for line in step_lines(train_and_evaluate(longer))]
    # Means over four steps: single batches of eight images vary.
    assert np.mean(history[-4:]) < np.mean(history[:4])


def test_class_weights_average_to_one_over_the_images() -> None:
    # Three images of one class for each of the other.
    labels = np.array([0, 0, 0, 1])
    counts = losses.expected_counts(labels, 2)
    weights = losses.class_weights(counts, used=True).numpy()
    assert weights[labels].mean() == pytest.approx(1.0)
    assert weights[1] == pytest.approx(3 * weights[0])
    np.testing.assert_array_equal(losses.class_weights(counts, used=False), [1.0, 1.0])


def test_painted_images_count_as_positive() -> None:
    labels = np.array([0, 0, 0, 1, 2])
    np.testing.assert_allclose(losses.expected_counts(labels, 3, 0.5, 1), [1.5, 3.0, 0.5])


def test_second_ctrl_c_interrupts_at_once() -> None:
    with interruption.catch_stop_signals() as stop_requested:
        assert not stop_requested()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_requested()
        # The first asked for a stop between two steps.
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
