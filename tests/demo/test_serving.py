"""Content of the page: predictions, texts, images, batches, example images."""

import dataclasses
import importlib.util
import json
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from demo import drawing, examples, handlers, serving, text
from demo.serving import Result, Served
from tests.conftest import run_command
from trainer.data import phantom
from trainer.errors import UserError
from trainer.inference import overlay
from trainer.inference.runtime import Model, Prediction
from trainer.inference.tested import Predictions

FACTS = {
    "class_names": ["non_covid", "covid"],
    "positive_class": "covid",
    "threshold": 0.5,
    "unsure": [0.4, 0.6],
    "synthetic": False,
}
METRICS = {
    "model": "cnn",
    "dataset": {
        "name": "covid_xray",
        "images": {"train": 4},
        "class_names": ["non_covid", "covid"],
    },
    "test": {
        name: {"value": 0.9, "low": 0.8, "high": 0.95, "n": 10, "groups": 10}
        for name in ("accuracy", "roc_auc", "sensitivity", "specificity")
    },
    "comparison": {
        "warns": True,
        "sentence": "On this data the score is not shown to come from the lungs: <numbers>.",
    },
}


def run_brightness_model(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
    """Stands for an export; the probability of covid is the mean of the image."""
    positive = batch.mean(axis=(1, 2, 3)) / 255.0  # [n]
    return {
        "probabilities": np.stack([1 - positive, positive], axis=1),
        "features": np.zeros((len(batch), 3)),
        "map": np.repeat(batch.astype(np.float32), 2, axis=3),
    }


@pytest.fixture
def served(tmp_path) -> Served:
    return Served(Model(FACTS, None, run_brightness_model), METRICS, {}, {}, tmp_path)


@pytest.fixture
def image_path(tmp_path):
    # The name stands for a patient's.
    path = tmp_path / "Doe_John_1970.png"
    Image.fromarray(phantom.draw(1, 0, 1).image).save(path)
    return path


def test_one_file_gets_json_with_the_warnings(served, image_path):
    content = serving.as_json(served, serving.predict(served, image_path))
    assert content["verdict"] in ("answered", "unsure")
    assert sum(content["probabilities"].values()) == pytest.approx(1.0)
    assert content["warnings"] == [METRICS["comparison"]["sentence"]]
    assert content["medical_device"] is False
    assert json.loads(json.dumps(content)) == content


def test_error_messages_hold_no_file_name(served, tmp_path):
    path = tmp_path / "Doe_John_1970.dcm"
    path.write_bytes(b"nothing of the kind")  # no DICOM
    with pytest.raises(UserError) as caught:
        serving.predict(served, path)
    assert "Doe" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_refused_image_gets_no_probability(served):
    prediction = Prediction("refused", "", {"non_covid": 0.1, "covid": 0.9}, "it is no radiograph")
    result = Result(prediction, np.zeros((5, 5), np.uint8), None)
    assert serving.as_json(served, result)["probabilities"] is None
    card = text.verdict_card(served, result)
    assert "it is no radiograph" in card
    assert "%" not in card
    assert "90" not in card


def test_texts_are_escaped_and_use_the_class_names(served, image_path):
    card = text.verdict_card(served, serving.predict(served, image_path))
    # The other class is non_covid, which does not mean normal.
    assert "covid" in card
    assert "normal" not in card.lower()
    assert "non\\_covid" not in card
    # A sentence from a file must not become HTML.
    assert "<numbers>" not in text.warnings(served)
    assert "&lt;numbers&gt;" in text.warnings(served)
    assert "not a medical device" in text.trust(served).lower()


def test_the_warning_of_a_synthetic_model_comes_first(served):
    model = Model(FACTS | {"synthetic": True}, None, run_brightness_model)
    # The set's own warning follows.
    assert "synthetic" in Served(model, METRICS, {}, {}, served.folder).warnings[0]


def predictions_on_test(called: list[bool], positive: list[bool]) -> Predictions:
    """Predictions on a test split, each image its own patient."""
    names = np.array([str(number) for number in range(len(called))])
    score = np.where(called, 0.9, 0.1)
    probabilities = np.stack([1 - score, score], axis=1)
    labels = np.array(positive, np.int32)
    return Predictions(names, names, labels, probabilities, ("non_covid", "covid"), "covid")


@given(st.floats(0.001, 0.8))
def test_predictive_values_follow_bayes_and_have_intervals(prevalence):
    # Of 20 positive and 20 negative images, 18 are called rightly.
    called = [True] * 18 + [False] * 20 + [True] * 2
    on_test = predictions_on_test(called, [True] * 20 + [False] * 20)
    served = Served(Model(FACTS, None, run_brightness_model), METRICS, {}, {}, None, on_test)
    true_positive = 0.9 * prevalence
    false_positive = 0.1 * (1 - prevalence)
    true_negative = 0.9 * (1 - prevalence)
    ppv = 100 * true_positive / (true_positive + false_positive)
    npv = 100 * true_negative / (true_negative + 0.1 * prevalence)
    numbers = re.findall(r"\*\*([\d.]+) % \[([\d.]+), ([\d.]+)\]", text.meaning(served, prevalence))
    for expected, row in zip((ppv, npv), numbers, strict=True):
        value, low, high = map(float, row)
        assert value == pytest.approx(expected, abs=0.051)
        assert low <= value <= high
        assert low < high or low == 100.0  # One decimal is shown.


def test_a_model_of_one_answer_has_no_predictive_values(served):
    constant = dataclasses.replace(
        served, tested=predictions_on_test([True] * 4, [True, True, False, False])
    )
    assert "undefined" in text.meaning(constant, 0.2)
    assert "not known" in text.meaning(served, 0.2)  # Without predictions on test.


def test_a_probability_is_called_calibrated_only_after_a_fit(served, image_path):
    for calibration, calibrated in (
        (None, False),
        ({"kept": False}, False),
        ({"kept": True}, True),
    ):
        facts = FACTS | {"calibration": calibration, "unsure": None}
        one = dataclasses.replace(served, model=Model(facts, None, run_brightness_model))
        card = text.verdict_card(one, serving.predict(one, image_path))
        assert ("calibrated probability" in card) == calibrated
        assert ("not calibrated" in card) != calibrated


def test_an_archive_is_sent_on_to_many_files(served, tmp_path):
    with zipfile.ZipFile(tmp_path / "film.png", "w") as archive:
        archive.writestr("inner.png", b"x")
    with pytest.raises(UserError, match="Many files"):
        serving.predict(served, tmp_path / "film.png")


def test_the_title_is_the_question_that_the_model_answers(served):
    assert served.title == "non_covid or covid?"


def test_a_radiograph_keeps_its_aspect_ratio(served, tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(np.arange(600 * 300, dtype=np.uint32).reshape(300, 600).astype(np.uint8)).save(
        path
    )
    result = serving.predict(served, path)
    assert result.film.shape == result.evidence_on_film(None).shape == (300, 600)
    # A large one is shown smaller; its map has the same size.
    Image.fromarray(np.zeros((1500, 3000), np.uint8)).save(path)
    result = serving.predict(served, path)
    assert result.film.shape == result.evidence_on_film(None).shape == (500, 1000)


def test_the_lungs_are_outlined_or_cut_out(served, image_path):
    result = serving.predict(served, image_path)
    assert 0.1 < result.lungs.mean() < 0.6
    whole, outlined, lungs = (
        handlers.slider_images(result, None, display, 0.6, 255, 127)
        for display in handlers.DISPLAYS
    )
    changed = (whole[0] != outlined[0]).any(axis=2)
    assert 0 < changed.mean() < 0.1
    # Both pictures are cut alike, at the lungs.
    assert lungs[0].shape == lungs[1].shape
    assert lungs[0].shape[0] < whole[0].shape[0]
    # Without lungs every display is the whole radiograph.
    noise = dataclasses.replace(result, lungs=None)
    for display in handlers.DISPLAYS:
        plain, _ = handlers.slider_images(noise, None, display, 0.6, 255, 127)
        np.testing.assert_array_equal(plain, whole[0])


def test_window_and_level_stretch_grey_levels():
    square = np.arange(256, dtype=np.uint8)[None].repeat(2, axis=0)
    np.testing.assert_allclose(drawing.apply_window(square, 255, 127.5), square, atol=1)
    # Grey levels 75 to 125 fill the range.
    narrow = drawing.apply_window(square, 50, 100)
    assert (narrow[:, :75] == 0).all()
    assert (narrow[:, 126:] == 255).all()
    # Opacity 0, and evidence 0, leave the radiograph.
    transparent = overlay.overlay(square, square.astype(np.float32), 0.0)
    np.testing.assert_array_equal(transparent, np.repeat(square[..., None], 3, axis=2))
    assert (overlay.overlay(square, np.zeros((2, 256), np.float32), 1.0)[..., 0] == square).all()
    # A faint map is stretched, unless the value of the strongest colour is given.
    faint = np.full((2, 256), 0.01, np.float32)
    stretched, to_scale = (overlay.overlay(square, faint, 1.0, full) for full in (0.0, 1.0))
    change = [
        np.abs(picture - square[..., None].astype(int)).max() for picture in (stretched, to_scale)
    ]
    assert change[0] > 50 > 5 > change[1]


def test_batches_open_zips(served, image_path, tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(3):
            archive.write(image_path, f"folder/{number}.png")
        # A text among the images gets a row too.
        archive.writestr("readme.txt", "hello")
    sources = serving.list_upload([tmp_path / "many.zip", image_path])
    shares = []
    rows = serving.predict_rows(served, sources, shares.append)
    names = [row["filename"] for row in rows]
    assert names == ["0.png", "1.png", "2.png", "readme.txt", image_path.name]
    # The progress bar ends full.
    assert shares[-1] == 1.0
    assert rows[3]["verdict"] == "error"
    assert rows[0]["verdict"] != "error"


def test_batches_are_limited(tmp_path):
    with zipfile.ZipFile(tmp_path / "too_many.zip", "w") as archive:
        for number in range(serving.MAX_FILES + 1):
            archive.writestr(f"{number}.png", b"")
    with pytest.raises(UserError, match="at most 200"):
        serving.list_upload([tmp_path / "too_many.zip"])


def test_example_images_are_synthetic_and_the_same_each_time(tmp_path):
    paths = examples.draw_examples(tmp_path / "new")
    assert all("synthetic" in path.name for path in paths)
    before = [path.read_bytes() for path in paths]
    again = examples.draw_examples(tmp_path / "new")
    assert [path.read_bytes() for path in again] == before
    assert len(set(before)) == len(paths)


def test_the_newest_finished_run_is_served(tmp_path):
    with pytest.raises(UserError, match="make train"):
        serving.newest_run(tmp_path)
    for number in range(2):
        (tmp_path / f"r{number}" / "model").mkdir(parents=True)
        (tmp_path / f"r{number}" / "model" / "model.onnx").write_bytes(b"")
    # Without metrics.json a run is not finished.
    with pytest.raises(UserError, match="make train"):
        serving.newest_run(tmp_path)
    (tmp_path / "r0" / "metrics.json").write_text("{}", encoding="utf-8")
    assert serving.newest_run(tmp_path).name == "r0"


@pytest.mark.skipif(importlib.util.find_spec("mcp") is not None, reason="the package is installed")
def test_mcp_without_its_package_is_refused():
    # The whole command: the message comes before anything is loaded.
    completed = run_command("-m", "demo.app", "--mcp")
    assert completed.returncode == 1
    assert "pip install 'gradio[mcp]'" in completed.stderr
    assert "Traceback" not in completed.stderr
