"""Several findings an image: scores, calibration, comparison and files agree with one each."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tests.analysis.builders import random_findings
from trainer.analysis import (
    calibration,
    comparison,
    figures,
    finding_metrics,
    metrics,
    predictions,
    subgroups,
)


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_each_finding_is_scored_on_the_images_in_which_it_is_known(seed):
    scored = random_findings(seed, 120)
    scores = metrics.scores(scored)
    labelled = scored.labels >= 0
    for index, name in enumerate(scored.class_names):
        rows = labelled[:, index]
        truth = scored.labels[rows, index]
        auc = scores[f"roc_auc_{name}"]
        assert auc.n == rows.sum()
        if 0 < truth.sum() < len(truth):
            expected = sklearn_metrics.roc_auc_score(truth, scored.probabilities[rows, index])
            assert auc.value == pytest.approx(expected)
    correct = (scored.probabilities >= 0.5) == (scored.labels == 1)
    assert scores["accuracy"].value == pytest.approx(correct[labelled].mean())
    assert scores["accuracy"].n == len(scored)


def test_macro_auc_leaves_out_findings_with_few_positives():
    scored = random_findings(3, 200, unknown=0.0)
    positives = (scored.labels == 1).sum(axis=0)
    assert positives[2] < finding_metrics.MIN_POSITIVES <= positives[1]
    scores = metrics.scores(scored, detailed=True)
    mean = np.mean([scores["roc_auc_effusion"].value, scores["roc_auc_nodule"].value])
    assert scores["roc_auc"].value == pytest.approx(mean)
    assert scores["roc_auc"].low < scores["roc_auc"].value < scores["roc_auc"].high
    few = scored.take(np.arange(20))
    assert metrics.roc_auc(few).value is None
    assert "20 positive" in metrics.roc_auc(few).why


def test_unknown_labels_change_no_score():
    scored = random_findings(1, 150)
    # Other probabilities where the truth is not known.
    changed = np.where(scored.labels < 0, 0.99, scored.probabilities)
    first = metrics.scores(scored, detailed=True)
    second = metrics.scores(scored.with_probabilities(changed), detailed=True)
    for name in ("accuracy", "roc_auc", "pr_auc", "log_loss", "brier"):
        assert first[name].value == pytest.approx(second[name].value)


def test_predictions_survive_their_file(tmp_path):
    scored = random_findings(0, 30)
    path = tmp_path / "test.csv"
    predictions.write(path, scored)
    restored = predictions.read(path, None)
    assert restored.class_names == scored.class_names
    np.testing.assert_array_equal(restored.labels, scored.labels)
    np.testing.assert_allclose(restored.probabilities, scored.probabilities, atol=1e-8)
    # A split without an image has findings all the same.
    predictions.write(path, scored.take(np.zeros(0, int)))
    assert predictions.read(path, None).labels.shape == (0, 3)


def test_every_finding_gets_its_own_temperature():
    scored = random_findings(5, 4000, unknown=0.05)
    logits = np.log(scored.probabilities / (1.0 - scored.probabilities))
    # Simulated logits are right at half their size; the second finding's are made three times so.
    distorted = 1.0 / (1.0 + np.exp(-logits * [2.0, 6.0, 2.0]))
    temperatures = calibration.fit(scored.with_probabilities(distorted))
    divisor = calibration.divisor(temperatures, multi_label=True)
    assert divisor[1] / divisor[0] == pytest.approx(3.0, rel=0.15)
    rescaled = calibration.rescale(scored.with_probabilities(distorted), divisor)
    np.testing.assert_allclose(
        calibration.restore(rescaled, divisor).probabilities, distorted, atol=1e-6
    )


def test_the_finding_that_fares_worst_is_named():
    model = random_findings(0, 400, unknown=0.0)
    chance = np.random.default_rng(1).random(model.probabilities.shape)
    # The control tells nodules apart as well as the model does.
    chance[:, 1] = model.probabilities[:, 1]
    compared = comparison.compare_findings(model, {"corners": model.with_probabilities(chance)})
    assert comparison.worst_finding(compared) == "nodule"
    sentence = comparison.describe_findings(compared)
    assert "not shown to come from the lungs for nodule" in sentence
    assert "nodule fares worst" in sentence
    assert "For effusion" in sentence
    without = comparison.compare_findings(model.take(np.arange(0)), {})
    assert comparison.worst_finding(without) is None
    assert "cannot be said" in comparison.describe_findings(without)


def test_subgroups_score_every_finding():
    scored = random_findings(2, 200)
    rows = subgroups.by_value(np.array(["PA", "AP"] * 100), scored)
    assert set(rows) == {"PA", "AP"}
    assert {"accuracy", "roc_auc", "roc_auc_effusion", "roc_auc_hernia"} <= set(rows["PA"])


def test_mistakes_are_findings_given_wrongly_the_most_confident_first(tmp_path):
    scored = random_findings(4, 50)
    wrong = figures.mistakes(scored)
    distances = [abs(scored.probabilities[row, finding] - 0.5) for row, finding in wrong]
    assert distances == sorted(distances, reverse=True)
    for row, finding in wrong:
        assert scored.labels[row, finding] == (scored.probabilities[row, finding] < 0.5)
    images = np.zeros((50, 32, 32, 1), np.uint8)
    figures.worst_mistakes(images, scored, tmp_path / "mistakes.png", "Test")
    assert (tmp_path / "mistakes.png").exists()


def test_one_finding_equals_two_classes():
    scored = random_findings(6, 100)
    finding = scored.finding(0)
    assert finding.class_names == ("no effusion", "effusion")
    assert finding.positive_index == 1
    np.testing.assert_allclose(finding.probabilities.sum(axis=1), 1.0)
    same = dataclasses.replace(finding, positive_class="effusion")
    assert metrics.scores(same)["roc_auc"] == metrics.scores(scored)["roc_auc_effusion"]
