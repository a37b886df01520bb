"""What the page says, who it lets in, and what it keeps to itself."""

import importlib.util
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from demo import answers, doors, examples, words
from demo.answers import Seen, Served
from tests.conftest import run_command
from trainer.data import phantom
from trainer.errors import UserError
from trainer.inference.runtime import Answer, Model

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


def said_by(batch: np.ndarray, with_map: bool = False) -> dict[str, np.ndarray]:
    """A model that calls an image covid by its mean."""
    positive = batch.mean(axis=(1, 2, 3)) / 255.0
    return {
        "probabilities": np.stack([1 - positive, positive], axis=1),
        "features": np.zeros((len(batch), 3)),
        "map": np.repeat(batch.astype(np.float32), 2, axis=3),
    }


@pytest.fixture
def served(tmp_path) -> Served:
    return Served(Model(FACTS, None, said_by), METRICS, {}, {}, tmp_path)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "Doe_John_1970.png"
    Image.fromarray(phantom.draw(1, 0, 1).image).save(path)
    return path


def test_one_file_is_answered_with_what_warns(served, film):
    found = answers.as_json(served, answers.see(served, film))
    assert found["verdict"] in ("answered", "unsure") and sum(
        found["probabilities"].values()
    ) == pytest.approx(1.0)
    assert (
        found["warnings"] == [METRICS["comparison"]["sentence"]]
        and found["medical_device"] is False
    )
    assert json.loads(json.dumps(found)) == found


def test_names_of_files_stay_out_of_messages(served, tmp_path):
    bad = tmp_path / "Doe_John_1970.dcm"
    bad.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError) as caught:
        answers.see(served, bad)
    assert "Doe" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_refused_picture_gets_no_probability(served, film):
    seen = Seen(
        Answer("refused", "", {"non_covid": 0.1, "covid": 0.9}, "it is no radiograph", 3.0),
        np.zeros((5, 5)),
        None,
    )
    assert answers.as_json(served, seen)["probabilities"] is None
    card = words.verdict(served, seen)
    assert "it is no radiograph" in card and "%" not in card and "90" not in card


def test_texts_are_escaped_and_classes_called_what_they_are(served, film):
    card = words.verdict(served, answers.see(served, film))
    assert "covid" in card and "normal" not in card.lower()
    assert "<numbers>" not in words.warnings(served) and "&lt;numbers&gt;" in words.warnings(served)
    assert "not a medical device" in words.trust(served).lower() and "non\\_covid" not in card


def test_synthetic_models_say_so_first(served):
    drawn = Served(
        Model(FACTS | {"synthetic": True}, None, said_by), METRICS, {}, {}, served.folder
    )
    assert "synthetic" in drawn.warnings[0]


@given(st.floats(0.001, 0.999))
def test_predictive_values_follow_bayes(prevalence):
    served = Served(Model(FACTS, None, said_by), METRICS, {}, {}, None)
    ppv, npv = answers.predictive_values(served, prevalence)
    true, false = 0.9 * prevalence, 0.1 * (1 - prevalence)
    assert ppv == pytest.approx(true / (true + false)) and 0 <= npv <= 1
    assert f"{ppv:.0%}" in words.meaning(served, prevalence)


def test_window_and_level_stretch_grey_levels():
    square = np.arange(256, dtype=np.uint8)[None].repeat(2, axis=0)
    np.testing.assert_allclose(answers.windowed(square, 255, 127.5), square, atol=1)
    narrow = answers.windowed(square, 50, 100)
    assert (narrow[:, :75] == 0).all() and (narrow[:, 126:] == 255).all()
    shown = answers.overlay(square, square.astype(np.float32), 0.0)
    np.testing.assert_array_equal(shown, np.repeat(square[..., None], 3, axis=2))
    assert (answers.overlay(square, np.zeros((2, 256), np.float32), 1.0)[..., 0] == square).all()


def test_batches_open_zips_and_are_limited(served, film, tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(3):
            archive.write(film, f"folder/{number}.png")
        archive.writestr("readme.txt", "hello")
    found = answers.files_in([tmp_path / "many.zip", film])
    done = []
    rows = answers.rows(served, found, done.append)
    assert [row[0] for row in rows] == [
        "0.png",
        "1.png",
        "2.png",
        "readme.txt",
        film.name,
    ] and done[-1] == 1.0
    assert rows[3][2] == "error" and rows[0][2] != "error"
    with zipfile.ZipFile(tmp_path / "too_many.zip", "w") as archive:
        for number in range(answers.MOST_FILES + 1):
            archive.writestr(f"{number}.png", b"")
    with pytest.raises(UserError, match="at most 200"):
        answers.files_in([tmp_path / "too_many.zip"])


@pytest.mark.parametrize(
    "wanted, share, address, login, line",
    [
        (None, False, "127.0.0.1", None, ""),
        (None, True, "127.0.0.1", "guest", "password"),
        (None, False, "0.0.0.0", "guest", "password"),
        ("me:secret", True, "0.0.0.0", "me", ""),
        ("none", True, "127.0.0.1", None, "anyone"),
        ("none", False, "127.0.0.1", None, ""),
    ],
)
def test_doors_ask_for_a_login_where_others_can_come(wanted, share, address, login, line):
    found, said = doors.auth_of(wanted, share, address)
    assert (found[0] if found else None) == login and line in said
    if login == "guest":
        assert (
            len(found[1]) >= 12
            and found[1] in said
            and found != doors.auth_of(wanted, share, address)[0]
        )


@pytest.mark.parametrize("wanted", ["me", "me:", ":secret", ""])
def test_half_a_login_is_refused(wanted):
    with pytest.raises(UserError, match="user:password"):
        doors.auth_of(wanted, False, "127.0.0.1")


def test_the_rate_limit_is_of_each_caller_and_passes():
    now = [0.0]
    limit = doors.RateLimit(calls=3, seconds=10, clock=lambda: now[0])
    for _ in range(3):
        limit.enter("a")
    with pytest.raises(UserError, match="try again"):
        limit.enter("a")
    limit.enter("b")
    now[0] = 10.5
    limit.enter("a")
    limit.enter(
        "c", cost=200
    )  # One batch by itself is let in, whatever its size; the limit on files is another.
    with pytest.raises(UserError):
        limit.enter("c")


def test_examples_are_drawn_once_and_are_synthetic(tmp_path):
    first = examples.drawn(tmp_path)
    before = [path.stat().st_mtime_ns for path in first]
    assert [path.stat().st_mtime_ns for path in examples.drawn(tmp_path)] == before
    assert all("synthetic" in path.name for path in first) and not list(tmp_path.glob("*.part"))


def test_the_newest_finished_run_is_served_and_none_is_said(tmp_path):
    with pytest.raises(UserError, match="make train"):
        answers.newest_run(tmp_path)
    for number in range(2):
        (tmp_path / f"r{number}" / "model").mkdir(parents=True)
        (tmp_path / f"r{number}" / "model" / "model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="make train"):
        answers.newest_run(tmp_path)
    (tmp_path / "r0" / "metrics.json").write_text("{}")
    assert answers.newest_run(tmp_path).name == "r0"


@pytest.mark.skipif(importlib.util.find_spec("mcp") is not None, reason="the package is installed")
def test_serving_language_models_without_its_package_is_said():
    done = run_command("-m", "demo.app", "--mcp")
    assert (
        done.returncode == 1
        and "pip install 'gradio[mcp]'" in done.stderr
        and "Traceback" not in done.stderr
    )
