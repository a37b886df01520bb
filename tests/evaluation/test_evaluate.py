"""Evaluation and audit of finished runs, folds and ensembles."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_set
from trainer.analysis import calibration, predictions
from trainer.config import TrainConfig
from trainer.data import phantom
from trainer.errors import UserError
from trainer.evaluation import audit
from trainer.evaluation.evaluate import evaluate
from trainer.experiments import repeats
from trainer.experiments.run import train_and_evaluate
from trainer.workdir import read_json

CLASSES = ("covid", "non_covid")


@pytest.fixture(scope="module")
def config(tiny_data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Two epochs of the compact network on the tiny set."""
    return TrainConfig(
        dataset="covid_xray",
        data_dir=str(tiny_data_dir),
        model="compact",
        image_size=48,  # The scores do not matter here, the files do.
        epochs=2,
        batch_size=8,
        validation_fraction=0.25,
        workdir=str(tmp_path_factory.mktemp("runs") / "first"),
    )


@pytest.fixture(scope="module")
def run_path(config: TrainConfig) -> Path:
    """Workdir of a finished run."""
    return train_and_evaluate(config).workdir.path


def read_predictions(path: Path) -> predictions.Predictions:
    return predictions.read(path, "covid")


def test_metrics_report_and_card_have_the_controls_and_warnings(run_path: Path) -> None:
    metrics = read_json(run_path / "metrics.json")
    assert set(metrics["controls"]) >= {"header", "mean_and_deviation", "border", "corners"}
    # With a lung control or without one, the sentence mentions it.
    sentence = metrics["comparison"]["sentence"]
    assert "lungs" in sentence or "no lung" in sentence
    # The report must open without a network.
    page = (run_path / "report.html").read_text(encoding="utf-8")
    assert sentence.split(":")[0] in page
    assert "not a medical device" in page.lower()
    assert "http" not in page.replace("http-equiv", ""), "the page loads something from outside"
    card = (run_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense:")
    assert "Not a medical device" in card


def test_scoring_test_again_gives_the_same_scores_and_is_counted(run_path: Path) -> None:
    metrics = read_json(run_path / "metrics.json")
    # The run itself was the first scoring.
    message = evaluate(str(run_path))
    evaluation = read_json(run_path / "evaluation/test/evaluation.json")
    scores = evaluation["scores"]
    assert scores["accuracy"]["value"] == metrics["test"]["accuracy"]["value"]
    assert f"scored {metrics['ledger']['count'] + 1} times" in message
    for name in (
        "balanced_accuracy",
        "sensitivity",
        "specificity",
        "ppv",
        "npv",
        "f1",
        "mcc",
        "roc_auc",
        "pr_auc",
        "log_loss",
        "brier",
        "ece",
    ):
        assert {"value", "low", "high", "n", "groups"} <= set(scores[name]), name
    prevalences = [row["prevalence"] for row in evaluation["prevalence"]]
    assert prevalences == ["1%", "5%", "20%", "50%"]


def test_scoring_validation_is_not_counted(run_path: Path) -> None:
    message = evaluate(str(run_path), "validation")
    assert "too good" in message  # It chose the weights.
    assert "scored" not in message.split("groups")[-1]
    scored = read_predictions(run_path / "evaluation/validation/predictions.csv")
    recorded = read_predictions(run_path / "predictions/validation.csv")
    assert sorted(scored.filenames) == sorted(recorded.filenames)
    assert len(scored) == 8


def test_validation_is_the_one_of_the_run_also_without_a_cache(
    config: TrainConfig, tmp_path: Path
) -> None:
    # The split follows from the order of the images, and records have another order than names.
    path = tmp_path / "records"
    train_and_evaluate(dataclasses.replace(config, cache="none", epochs=1, workdir=str(path)))
    evaluate(str(path), "validation")
    scored = read_predictions(path / "evaluation/validation/predictions.csv")
    recorded = read_predictions(path / "predictions/validation.csv")
    recorded = recorded.take(np.argsort(recorded.filenames))
    np.testing.assert_array_equal(scored.filenames, recorded.filenames)
    np.testing.assert_allclose(scored.probabilities, recorded.probabilities, atol=1e-5)


def test_a_run_does_not_differ_from_itself(run_path: Path) -> None:
    # No image is classified by one and not by the other.
    message = evaluate(str(run_path), compare=str(run_path))
    comparison = read_json(run_path / "evaluation/test/comparison.json")
    assert comparison["mcnemar"]["only_first"] == comparison["mcnemar"]["only_second"] == 0
    assert "no image tells them apart" in message
    assert comparison["roc_auc_difference"]["value"] == 0.0


def test_runs_of_other_sides_are_not_compared(
    config: TrainConfig, run_path: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    other = dataclasses.replace(
        config,
        manual_dir=str(tiny_folder),
        data_dir=str(tmp_path / "data"),
        prepared_side=64,
        epochs=1,
        workdir=str(tmp_path / "other"),
    )
    train_and_evaluate(other)
    with pytest.raises(UserError, match=r"squares of side 64, whole, .* of side 500, whole"):
        evaluate(str(run_path), compare=other.workdir)


def test_another_hospitals_images_are_scored_and_not_counted(
    run_path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hospital"
    # Uniform noise: no training image is like it.
    for label, level in (("covid", 4), ("non_covid", 9)):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            rng = np.random.default_rng(level * 100 + number)
            pixels = rng.integers(0, 256, (60, 60)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    message = evaluate(str(run_path), manual_dirs=[str(folder)])
    evaluation = read_json(run_path / "evaluation/external_hospital/evaluation.json")
    assert evaluation["n"] == 24
    assert "External images: 24" in message
    # The run's own test split has fewer than five patients a class.
    assert evaluation["source_probe"] == {}
    assert "Source probe" not in message
    # The report has a row for each site.
    page = (run_path / "report.html").read_text(encoding="utf-8")
    assert "<td>its own test split</td>" in page
    assert "<td>hospital</td>" in page
    assert "scored" not in message.split("External")[0]


def test_a_single_image_has_no_auc_and_gives_no_traceback(
    run_path: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    (tmp_path / "one" / "covid").mkdir(parents=True)
    image = next((tiny_folder / "Test" / "covid").iterdir())
    shutil.copy(image, tmp_path / "one" / "covid" / "x.png")
    message = evaluate(str(run_path), manual_dirs=[str(tmp_path / "one")])
    scores = read_json(run_path / "evaluation/external_one/evaluation.json")["scores"]
    assert scores["roc_auc"]["value"] is None
    assert scores["roc_auc"]["why"]
    assert "none" in message


def _remove_metrics(path: Path) -> None:
    (path / "metrics.json").unlink()


def _remove_model(path: Path) -> None:
    shutil.rmtree(path / "model")


def _damage_model(path: Path) -> None:
    (path / "model" / "model.keras").write_bytes(b"not a model")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_remove_metrics, "no finished run"),
        (_remove_model, "no finished run"),
        (_damage_model, "cannot be loaded"),
    ],
)
def test_a_workdir_without_a_model_is_refused_in_one_line(
    run_path: Path, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    # Other tests use the run itself.
    copy = tmp_path / "copy"
    shutil.copytree(run_path, copy)
    change(copy)
    with pytest.raises(UserError, match=words) as caught:
        evaluate(str(copy))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_test_split_of_copies_of_train_has_no_score(tmp_path: Path) -> None:
    # All test images are copied, so none is left to score.
    folder = write_set(tmp_path / "set", {("Train", label): 8 for label in CLASSES})
    for label, first in (("covid", 100), ("non_covid", 0)):
        train = folder / "Train" / label
        for number, path in enumerate(sorted(train.iterdir()), start=first):
            # Noise has no features to match; phantoms have.
            Image.fromarray(phantom.draw(7, number, 0, 256).image).save(path)
        shutil.copytree(train, folder / "Test" / label)
    config = TrainConfig(
        dataset="covid_xray",
        data_dir=str(tmp_path / "data"),
        manual_dir=str(folder),
        model="compact",
        image_size=48,
        epochs=1,
        batch_size=8,
        validation_fraction=0.0,
        workdir=str(tmp_path / "run"),
    )
    result = train_and_evaluate(config)
    assert result.metrics["near_duplicates"]["test_images_copied_from_train"] == 16
    assert "WARNING" in str(result)
    with pytest.raises(UserError, match="no test score can be given"):
        evaluate(str(tmp_path / "run"))


@pytest.mark.slow
def test_audit_of_a_run_retrains_without_lungs_and_extends_the_report(run_path: Path) -> None:
    message = audit.audit_run(str(run_path))
    retrained = read_json(run_path / "audit/audit.json")["retrained"]
    rows = {row["name"]: row for row in retrained}
    assert set(rows) == {
        "whole_image",
        "lungs_removed",
        "lungs_only",
        "lung_outlines",
        "permuted_labels",
        "painted_opacities",
    }
    # The screen has words for each, not the names of the file.
    assert "lungs_removed" not in message
    # Permuted labels cannot be learned: chance lies in the interval.
    auc = rows["permuted_labels"]["roc_auc"]
    assert auc["low"] <= 0.5 <= auc["high"]
    assert "the lung fields alone" in (run_path / "report.html").read_text(encoding="utf-8")


def test_folds_hold_out_every_image_once_and_give_the_last_model_its_thresholds(
    config: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "folds"
    folds = dataclasses.replace(config, folds=2, epochs=1, workdir=str(folder))
    result = repeats.run(folds)
    members = [
        read_predictions(folder / f"members/fold_{fold}/predictions/validation.csv")
        for fold in range(2)
    ]
    held_out = predictions.concatenate(members)
    # Train has 26 images.
    assert len(held_out) == len(set(held_out.filenames)) == 26
    assert result.metrics["train"]["accuracy"]["n"] == 26
    # Only the model trained on all of Train is scored on test.
    assert not (folder / "members/fold_0/predictions/test.csv").exists()
    facts = read_json(folder / "model/model.json")
    threshold = facts["thresholds"]["half"]
    assert threshold["chosen_on"] == "out-of-fold predictions"
    assert threshold["n"] == 26
    # The temperature of the last model is fitted to the members' predictions before theirs.
    uncalibrated = []
    for fold, member in enumerate(members):
        temperature = read_json(folder / f"members/fold_{fold}/metrics.json")["temperature"]
        uncalibrated.append(calibration.restore(member, temperature))
    (fitted,) = calibration.fit(predictions.concatenate(uncalibrated))
    assert facts["temperature"] == pytest.approx(fitted.value)
    summary = read_json(folder / "summary.json")
    assert summary["kind"] == "folds"
    assert summary["spread"]["accuracy"]["members"] == 2
    # The same command again reports the finished run.
    before = (folder / "metrics.json").read_bytes()
    assert repeats.run(folds).resumed
    assert (folder / "metrics.json").read_bytes() == before


@pytest.mark.slow
def test_an_ensemble_of_seeds_is_one_model_that_averages_its_members(
    config: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "seeds"
    result = repeats.run(
        dataclasses.replace(config, seeds=2, ensemble=True, epochs=1, workdir=str(folder))
    )
    first, second = (
        read_predictions(folder / f"members/seed_{seed}/predictions/test.csv").probabilities
        for seed in (0, 1)
    )
    mean = read_predictions(folder / "predictions/test.csv").probabilities
    # Files hold eight decimals of float32 probabilities.
    np.testing.assert_allclose(mean, (first + second) / 2, atol=1e-5)
    # The recorded predictions are those of the saved network.
    evaluate(str(folder))
    saved = read_predictions(folder / "evaluation/test/predictions.csv").probabilities
    np.testing.assert_allclose(saved, mean, atol=1e-5)
    # Nothing is fitted that the network would not apply.
    facts = read_json(folder / "model/model.json")
    assert facts["calibration"] is None
    assert facts["temperature"] == 1.0
    assert result.metrics["members"] == 2
    assert "2 seeds" in str(result)
    assert "scored" in evaluate(str(folder))  # Like any model.
