"""A finished run is scored again, elsewhere, against another; audited; and says in one line what cannot be done."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_set
from trainer.analysis import predictions
from trainer.config import TrainConfig
from trainer.data import phantom
from trainer.errors import UserError
from trainer.evaluation import audit_run, evaluate
from trainer.experiments import repeats
from trainer.training import loop


@pytest.fixture(scope="module")
def config(tiny_data_dir, tmp_path_factory) -> TrainConfig:
    return TrainConfig(
        dataset="covid_xray",
        data_dir=str(tiny_data_dir),
        model="compact",
        image_size=48,
        epochs=2,
        batch_size=8,
        validation_fraction=0.25,
        workdir=str(tmp_path_factory.mktemp("runs") / "first"),
    )


@pytest.fixture(scope="module")
def run(config):
    return loop.train_and_evaluate(config).workdir


def read(run, name: str) -> dict:
    return json.loads((run.path / name).read_text())


def test_the_control_stands_beside_the_claim(run):
    found = read(run, "metrics.json")
    assert set(found["controls"]) >= {"header", "mean_and_deviation", "border", "corners"}
    assert (
        "lungs" in found["comparison"]["sentence"] or "no lung" in found["comparison"]["sentence"]
    )
    page = (run.path / "report.html").read_text()
    assert (
        found["comparison"]["sentence"].split(":")[0] in page
        and "not a medical device" in page.lower()
    )
    assert "http" not in page.replace("http-equiv", ""), "the page loads something from outside"
    card = (run.path / "MODEL_CARD.md").read_text()
    assert card.startswith("---\nlicense:") and "Not a medical device" in card


def test_scoring_again_gives_the_same_numbers_and_is_counted(run):
    before = read(run, "metrics.json")
    said = evaluate.evaluate(str(run.path))
    found = read(run, "evaluation/test/evaluation.json")
    assert found["scores"]["accuracy"]["value"] == before["test"]["accuracy"]["value"]
    assert f"scored {before['ledger']['count'] + 1} times" in said
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
        assert {"value", "low", "high", "n", "groups"} <= set(found["scores"][name]), name
    assert [row["prevalence"] for row in found["prevalence"]] == ["1%", "5%", "20%", "50%"]


def test_the_validation_part_is_scored_without_counting(run):
    before = evaluate.evaluate(str(run.path), "validation")
    assert "too good" in before and "scored" not in before.split("groups")[-1]
    assert len(predictions.read(run.path / "evaluation" / "validation" / "predictions.csv")) == 8


def test_a_run_compared_with_itself_does_not_differ(run):
    said = evaluate.evaluate(str(run.path), compare=str(run.path))
    found = read(run, "evaluation/test/comparison.json")
    assert (
        found["mcnemar"]["only_first"] == found["mcnemar"]["only_second"] == 0
        and "no image tells them apart" in said
    )
    assert found["roc_auc_difference"]["value"] == 0.0


def test_other_images_are_scored_without_those_trained_on(run, tmp_path, tiny_folder):
    folder = tmp_path / "hospital"
    for label, level in (("covid", 4), ("non_covid", 9)):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            pixels = (
                np.random.default_rng(level * 100 + number)
                .integers(0, 256, (60, 60))
                .astype(np.uint8)
            )
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    said = evaluate.evaluate(str(run.path), manual_dir=str(folder))
    found = read(run, "evaluation/external_hospital/evaluation.json")
    assert (
        found["n"] == 24
        and "External images: 24" in said
        and "scored" not in said.split("External")[0]
    )


def test_one_image_gives_no_number_and_no_traceback(run, tmp_path, tiny_folder):
    folder = tmp_path / "one"
    for label in ("covid", "non_covid"):
        (folder / label).mkdir(parents=True)
    shutil.copy(next((tiny_folder / "Test" / "covid").iterdir()), folder / "covid" / "x.png")
    said = evaluate.evaluate(str(run.path), manual_dir=str(folder))
    scores = read(run, "evaluation/external_one/evaluation.json")["scores"]
    assert scores["roc_auc"]["value"] is None and scores["roc_auc"]["why"] and "none" in said


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda path: (path / "metrics.json").unlink(), "no finished run"),
        (lambda path: shutil.rmtree(path / "model"), "no finished model"),
        (
            lambda path: (path / "model" / "model.keras").write_bytes(b"not a model"),
            "cannot be loaded",
        ),
    ],
)
def test_a_workdir_without_a_model_is_refused_in_one_line(run, tmp_path, change, words):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    change(copy)
    with pytest.raises(UserError, match=words) as caught:
        evaluate.evaluate(str(copy))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_test_split_that_copies_train_gets_no_score(tmp_path):
    counts = {("Train", "covid"): 8, ("Train", "non_covid"): 8}
    folder = write_set(tmp_path / "set", counts)
    for label in ("covid", "non_covid"):
        for number, path in enumerate(sorted((folder / "Train" / label).iterdir())):
            Image.fromarray(
                phantom.draw(7, number + (100 if label == "covid" else 0), 0, 256).image
            ).save(path)
        shutil.copytree(folder / "Train" / label, folder / "Test" / label)
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
    result = loop.train_and_evaluate(config)
    assert result.metrics["near_duplicates"][
        "test_images_copied_from_train"
    ] == 16 and "WARNING" in str(result)
    with pytest.raises(UserError, match="no test score can be given"):
        evaluate.evaluate(str(tmp_path / "run"))


@pytest.mark.slow
def test_the_whole_audit_retrains_without_lungs_and_joins_the_report(run):
    said = audit_run.audit_run(str(run.path))
    rows = {row["name"]: row for row in read(run, "audit/audit.json")["retrained"]}
    assert (
        set(rows) == {"whole_image", "lungs_removed", "lungs_only", "permuted_labels"}
        and "lungs_removed" not in said
    )
    assert (
        rows["permuted_labels"]["roc_auc"]["low"]
        <= 0.5
        <= rows["permuted_labels"]["roc_auc"]["high"]
    )
    assert "the lung fields alone" in (run.path / "report.html").read_text()


def test_folds_hold_out_every_image_once_and_the_last_model_takes_its_thresholds_from_there(
    config, tmp_path
):
    folds = dataclasses.replace(config, folds=2, epochs=1, workdir=str(tmp_path / "folds"))
    result = repeats.train(folds)
    members = [
        predictions.read(
            tmp_path / "folds" / "members" / f"fold_{fold}" / "predictions" / "validation.csv"
        )
        for fold in range(2)
    ]
    whole = predictions.concatenate(members)
    assert len(whole) == len(set(whole.filenames)) == 26 == result.metrics["train"]["accuracy"]["n"]
    assert not (tmp_path / "folds" / "members" / "fold_0" / "predictions" / "test.csv").exists()
    facts = json.loads((tmp_path / "folds" / "model" / "model.json").read_text())
    assert (
        facts["thresholds"]["half"]["chosen_on"] == "out-of-fold predictions"
        and facts["thresholds"]["half"]["n"] == 26
    )
    spread = json.loads((tmp_path / "folds" / "summary.json").read_text())
    assert spread["kind"] == "folds" and spread["spread"]["accuracy"]["members"] == 2
    before = (tmp_path / "folds" / "metrics.json").read_bytes()
    assert (
        repeats.train(folds).resumed
        and (tmp_path / "folds" / "metrics.json").read_bytes() == before
    )


@pytest.mark.slow
def test_an_ensemble_of_seeds_is_one_model_with_the_mean_of_its_members(config, tmp_path):
    result = repeats.train(
        dataclasses.replace(
            config, seeds=2, ensemble=True, epochs=1, workdir=str(tmp_path / "seeds")
        )
    )
    said = [
        predictions.read(
            tmp_path / "seeds" / "members" / f"seed_{seed}" / "predictions" / "test.csv"
        )
        for seed in (0, 1)
    ]
    mean = predictions.read(tmp_path / "seeds" / "predictions" / "test.csv")
    np.testing.assert_allclose(
        mean.probabilities, (said[0].probabilities + said[1].probabilities) / 2, atol=1e-5
    )
    assert result.metrics["members"] == 2 and "2 seeds" in str(result)
    assert "scored" in evaluate.evaluate(str(tmp_path / "seeds"))
