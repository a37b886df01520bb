"""Prediction from exports: verdicts, labels, refused models."""

import json
import sys

import numpy as np
import pytest

from tests.inference.conftest import FACTS
from trainer.analysis import thresholds
from trainer.errors import UserError
from trainer.inference import exporting, runtime


def test_predictions_are_answered_unsure_or_refused(workdir, squares):
    model = runtime.load(workdir)
    prediction, maps = model.explain(squares[0])
    (evidence,) = maps.values()
    assert prediction.verdict in ("answered", "unsure")
    assert prediction.label in FACTS["class_names"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1.0)
    assert evidence.shape == (500, 500)
    assert evidence.min() >= 0
    probability = prediction.probabilities["opacities"]
    # A band around the probability makes the model unsure.
    band = {"unsure": [probability - 0.01, probability + 0.01]}
    unsure = runtime.Model(FACTS | band, model.refusal, model.run).predict(squares[0])
    assert unsure.verdict == "unsure"
    assert unsure.reason
    # Noise is unlike any radiograph.
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 1)).astype(np.uint8)
    refused = model.predict(noise)
    assert refused.verdict == "refused"
    assert refused.label == ""
    assert refused.reason


def test_the_threshold_decides_the_label(workdir, squares):
    model = runtime.load(workdir)
    probability = model.predict(squares[3]).probabilities["opacities"]
    for threshold, label in ((probability - 1e-6, "opacities"), (probability + 1e-6, "clear")):
        facts = FACTS | {"threshold": threshold, "unsure": [0.5, 0.5]}
        assert runtime.Model(facts, None, model.run).predict(squares[3]).label == label


def test_a_model_with_an_opacity_map_shows_it_whatever_it_predicts(workdir, squares):
    model = runtime.load(workdir)
    maps = model.run(squares[:1], with_map=True)["map"][0]  # [side, side, classes]
    for threshold in (0.0, 1.0):
        facts = FACTS | {
            "threshold": threshold,
            "opacity_map": {"class": "opacities", "full": 1.0},
        }
        _, evidence = runtime.Model(facts, None, model.run).explain(squares[0])
        np.testing.assert_array_equal(evidence["opacities"], maps[..., 1])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no finished run"),
        (("model/model.keras",), "no finished run"),  # Its scores are missing.
        (("metrics.json", "model/model.keras"), r"trainer\.export"),
        (("model/model.onnx",), "cannot be loaded"),
    ],
)
def test_a_workdir_without_a_whole_export_is_refused_in_one_line(tmp_path, files, message):
    (tmp_path / "model").mkdir()
    for file in files:
        (tmp_path / file).write_bytes(b"not a model")
    with pytest.raises(UserError, match=message) as caught:
        runtime.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_extra_of_a_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "model.tflite").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[litert\]'"):
        runtime.load(tmp_path / "model.tflite")


@pytest.mark.parametrize("version", [2, None])
def test_a_model_of_another_preprocessing_is_refused_in_one_line(
    version, network, squares, tmp_path, monkeypatch
):
    facts = FACTS | {"preprocessing": version}
    # The export is written by a program of that version.
    monkeypatch.setattr(runtime.radiograph, "PREPROCESSING_VERSION", version)
    exporting.write(tmp_path, network, facts, None, ("onnx",), squares[:1])
    assert runtime.load(tmp_path / "model.onnx").facts == facts
    monkeypatch.undo()
    with pytest.raises(UserError, match=f"version {version}.*train again") as caught:
        runtime.load(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_the_unsure_band_lies_between_the_two_thresholds():
    rng = np.random.default_rng(0)
    groups = np.arange(400).astype(str)
    positive = np.arange(400) % 2 == 0
    score = np.clip(
        np.where(positive, 0.6, 0.4) + 0.15 * rng.standard_normal(400), 0, 1
    )  # overlapping classes
    low, high = thresholds.unsure_band(positive, score, groups)
    assert 0 < low < high < 1
    assert (score[positive] >= low).mean() >= 0.95
    assert (score[~positive] < high).mean() >= 0.95
    # Ten images are too few.
    assert thresholds.unsure_band(positive[:10], score[:10], groups[:10]) is None
    # Separate classes leave no band.
    low, high = thresholds.unsure_band(positive, np.where(positive, 0.9, 0.1), groups)
    assert low == high


def test_facts_are_json(workdir):
    assert json.loads(json.dumps(runtime.load(workdir).facts)) == FACTS
