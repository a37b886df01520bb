"""The page of a model of several findings: card, maps, predictive values, scores."""

import dataclasses
import html
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo import handlers, serving, text
from demo.serving import Served
from trainer.data import phantom
from trainer.inference.runtime import Model
from trainer.inference.tested import Predictions

NAMES = ("effusion", "nodule", "mass_of_lung")
FACTS = {
    "class_names": list(NAMES),
    "positive_class": None,
    "multi_label": True,
    "threshold": [0.3, 0.9, 0.5],
    "unsure": [None, None, [0.4, 0.6]],
    "synthetic": False,
    "calibration": {"kept": True},
}
ESTIMATE = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 40, "groups": 40}


def run_model(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
    """Stands for an export with fixed probabilities; each finding's map is at another place."""
    del with_map
    maps = np.zeros((*batch.shape[:3], 3), np.float32)
    for finding in range(3):
        maps[:, 100 * finding : 100 * finding + 50, :, finding] = 1.0
    return {
        "probabilities": np.tile([0.35, 0.8, 0.5], (len(batch), 1)),
        "features": np.zeros((len(batch), 3)),
        "map": maps,
    }


@pytest.fixture
def served(tmp_path: Path) -> Served:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (40, 3)).astype(np.int8)
    numbers = np.arange(40).astype(str)
    tested = Predictions(numbers, numbers, labels, rng.random((40, 3)), NAMES, None)
    row = dict.fromkeys(("model_auc", "control_auc", "difference"), ESTIMATE)
    metrics = {
        "model": "compact",
        "dataset": {"name": "radiographs", "class_names": list(NAMES), "images": {"train": 4}},
        "test": dict.fromkeys(("accuracy", "roc_auc"), ESTIMATE),
        "comparison": {"sentence": "A sentence.", "findings": dict.fromkeys(NAMES, row)},
    }
    return Served(Model(FACTS, None, run_model), metrics, {}, {}, tmp_path, tested)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.png"
    Image.fromarray(phantom.draw(1, 0, 1).image).save(path)
    return path


def test_the_card_marks_the_threshold_of_each_finding(served, film):
    result = serving.predict(served, film)
    assert result.prediction.label == "effusion|mass_of_lung"
    card = text.verdict_card(served, result)
    assert card.count('class="mark"') == 3
    assert 'style="left:90.0%"' in card
    # Its probability lies in the unsure band of that finding alone.
    assert "unsure" in card
    assert "mass_of_lung (0.40 to 0.60)" in card


@pytest.mark.parametrize(
    ("kept", "kind"),
    [
        ((True, True, True), "The model's calibrated probabilities;"),
        ((True, False, True), "calibrated for effusion, mass_of_lung only"),
        ((False, False, False), "not calibrated"),
    ],
)
def test_only_findings_with_a_fitted_temperature_are_called_calibrated(served, film, kept, kind):
    fitted = {name: {"kept": one} for name, one in zip(NAMES, kept, strict=True)}
    facts = FACTS | {"calibration": {"kept": any(kept), "findings": fitted}}
    model = dataclasses.replace(served.model, facts=facts)
    card = text.verdict_card(
        dataclasses.replace(served, model=model), serving.predict(served, film)
    )
    assert kind in html.unescape(card)


def test_each_finding_has_its_own_map(served, film):
    result = serving.predict(served, film)
    assert tuple(result.evidence) == NAMES
    assert result.first_shown == "nodule"
    maps = [result.evidence_on_film(name) for name in NAMES]
    assert [int(values.sum(axis=1).argmax()) // 100 for values in maps] == [0, 1, 2]
    pictures = [
        handlers.slider_images(result, name, handlers.WHOLE, 0.6, 255, 127) for name in NAMES
    ]
    # The same film, and another overlay.
    np.testing.assert_array_equal(pictures[0][0], pictures[1][0])
    assert (pictures[0][1] != pictures[1][1]).any()


def test_several_classes_have_no_predictive_values(served):
    assert served.has_predictive_values
    labels = np.arange(9) % 3
    numbers = np.arange(9).astype(str)
    tested = Predictions(numbers, numbers, labels, np.eye(3)[labels], NAMES, None)
    classes = dataclasses.replace(served, tested=tested)
    assert not classes.has_predictive_values
    assert "not known" in text.meaning(classes, 0.1)


def test_texts_name_every_finding(served):
    table = text.meaning(served, 0.1)
    trust = text.trust(served)
    for name in NAMES:
        assert f"| {text.escape(name)} |" in table
        assert f"| {text.escape(name)} |" in trust
    assert "findings: " in trust
    assert served.title == "effusion, nodule, mass_of_lung?"
    assert serving.describe_model(served)["multi_label"]
