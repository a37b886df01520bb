"""Exports answer as Keras does, without TensorFlow; tables of answers never stop at a bad file."""

import csv
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from trainer.analysis import refusal, thresholds
from trainer.config import TrainConfig, resolved
from trainer.data import phantom
from trainer.errors import UserError
from trainer.inference import batch, command, exporting, runtime

FACTS = {
    "class_names": ["clear", "opacities"],
    "positive_class": "opacities",
    "threshold": 0.5,
    "unsure": [0.45, 0.5],
    "synthetic": True,
    "preprocessing": 1,
}


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    return np.stack([phantom.draw(2, index, index % 2).image for index in range(60)])[..., None]


@pytest.fixture(scope="module")
def network():
    import keras

    from trainer.evaluation import export_network
    from trainer.training import models

    keras.utils.set_random_seed(0)
    return export_network.export_of(
        models.build(resolved(TrainConfig(model="compact", image_size=64)), 2), 500, temperature=1.3
    )


@pytest.fixture(scope="module")
def workdir(network, squares, tmp_path_factory):
    """A folder with an ONNX export that refuses what is unlike its sixty phantoms."""
    folder = tmp_path_factory.mktemp("run") / "model"
    folder.mkdir()
    features = network(squares.astype(np.float32))["features"].numpy()
    fitted = refusal.fit(squares, features, np.arange(60).astype(str))
    lines = exporting.write(folder, network, FACTS, fitted.to_arrays(), ("onnx",), squares[:4])
    assert "agrees with Keras" in lines[0]
    return folder.parent


def test_an_export_gives_what_keras_gives(workdir, network, squares):
    model = runtime.load(workdir)
    expected, found = network(squares[:5].astype(np.float32)), model.run(squares[:5], True)
    for name in ("probabilities", "features", "map"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
    assert model.facts == FACTS and model.refusal is not None


def test_the_default_export_reads_pixels_unscaled_and_agrees(squares, tmp_path):
    import keras
    import onnx

    from trainer.evaluation import export_network
    from trainer.training import models

    keras.utils.set_random_seed(0)
    default = export_network.export_of(models.build(resolved(TrainConfig()), 2), 500)
    exporting.write(tmp_path, default, FACTS, None, ("onnx",), squares[:2])
    readers = [
        node.op_type
        for node in onnx.load(tmp_path / "model.onnx").graph.node
        if "image" in node.input
    ]
    assert readers == ["Reshape"]  # Its factor stands in the first kernel.
    expected, found = (
        default(squares[:2].astype(np.float32)),
        runtime.load(tmp_path / "model.onnx").run(squares[:2], True),
    )
    for name in ("probabilities", "features", "map"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_format_agrees_and_carries_its_facts(network, squares, tmp_path):
    pytest.importorskip(
        "ai_edge_litert", reason="LiteRT's runtime is not installed (pip install '.[litert]')"
    )
    exporting.write(tmp_path, network, FACTS, None, exporting.FORMATS, squares[:2])
    answers = []
    for name in runtime.NAMES.values():
        model = runtime.load(tmp_path / name)
        assert model.facts == FACTS and model.refusal is None
        answers.append(model.answer(squares[0]))
    for other in answers[1:]:
        assert other.verdict == answers[0].verdict and other.label == answers[0].label
        assert other.probabilities == pytest.approx(answers[0].probabilities, abs=1e-4)


def test_an_export_that_differs_is_not_kept(network, squares, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "MOST_DIFFERENCE", -1.0)
    with pytest.raises(UserError, match="differs from Keras"):
        exporting.write(tmp_path, network, FACTS, None, ("onnx",), squares[:1])
    assert not any(tmp_path.iterdir())


def test_answers_are_named_unsure_or_refused(workdir, squares):
    model = runtime.load(workdir)
    answer, evidence = model.explain(squares[0])
    assert answer.verdict in ("answered", "unsure") and answer.label in FACTS["class_names"]
    assert (
        sum(answer.probabilities.values()) == pytest.approx(1.0)
        and evidence.shape == (500, 500)
        and evidence.min() >= 0
    )
    probability = answer.probabilities["opacities"]
    unsure = runtime.Model(
        FACTS | {"unsure": [probability - 0.01, probability + 0.01]}, model.refusal, model.run
    )
    assert unsure.answer(squares[0]).verdict == "unsure" and unsure.answer(squares[0]).reason
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 1)).astype(np.uint8)
    refused = model.answer(noise)
    assert (
        refused.verdict == "refused"
        and refused.label == ""
        and refused.refusal_score > 1.0
        and refused.reason
    )


def test_the_threshold_decides_the_label(workdir, squares):
    model = runtime.load(workdir)
    probability = model.answer(squares[3]).probabilities["opacities"]
    for threshold, label in ((probability - 1e-6, "opacities"), (probability + 1e-6, "clear")):
        changed = runtime.Model(
            FACTS | {"threshold": threshold, "unsure": [0.5, 0.5]}, None, model.run
        )
        assert changed.answer(squares[3]).label == label


def test_a_bad_file_gets_its_row_and_the_others_theirs(workdir, squares, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(squares[0, ..., 0]).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "notes.txt").write_text("hello")
    file = io.BytesIO()
    Image.fromarray(squares[1, ..., 0]).save(file, "JPEG")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("deep/er.jpg", file.getvalue())
        archive.writestr("__MACOSX/er.jpg", b"x")
    said = command.predict(workdir, [folder], tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as table:
        rows = {row["filename"].removeprefix(f"{folder}/"): row for row in csv.DictReader(table)}
    assert list(rows) == ["a.png", "b.png", "c.zip/deep/er.jpg", "notes.txt"]
    assert (
        rows["b.png"]["verdict"] == rows["notes.txt"]["verdict"] == "error"
        and "b.png" in rows["b.png"]["reason"]
    )
    for name in ("a.png", "c.zip/deep/er.jpg"):
        assert rows[name]["label"] and 0 <= float(rows[name]["probability_opacities"]) <= 1
    assert "4 files" in said and "SYNTHETIC" in said
    with pytest.raises(UserError, match="--overwrite"):
        command.predict(workdir, [folder], tmp_path / "out.csv")
    command.predict(workdir, [folder / "a.png"], tmp_path / "out.csv", overwrite=True)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path: None, "no finished model"),
        (lambda path: (path / "model" / "model.keras").write_bytes(b""), "trainer.export"),
        (
            lambda path: (path / "model" / "model.onnx").write_bytes(b"not a model"),
            "cannot be loaded",
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(tmp_path, make, words):
    (tmp_path / "model").mkdir()
    make(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        runtime.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_paths_that_are_not_there_are_refused(workdir, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        command.predict(workdir, [tmp_path / "none"], None)
    with pytest.raises(UserError, match="holds no file"):
        command.predict(workdir, [tmp_path], None)


def test_answering_imports_no_tensorflow(workdir, tmp_path, squares):
    Image.fromarray(squares[0, ..., 0]).save(tmp_path / "a.png")
    code = (
        "import sys; from pathlib import Path; from trainer.inference import command; "
        f"command.predict(Path({str(workdir)!r}), [Path({str(tmp_path / 'a.png')!r})], None); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == ",".join(batch.header(runtime.load(workdir)))


def test_the_unsure_band_lies_between_the_two_thresholds():
    rng = np.random.default_rng(0)
    positive = np.arange(400) % 2 == 0
    score = np.clip(np.where(positive, 0.6, 0.4) + 0.15 * rng.standard_normal(400), 0, 1)
    low, high = thresholds.unsure_band(positive, score, np.arange(400).astype(str))
    assert 0 < low < high < 1
    assert (score[positive] >= low).mean() >= 0.95 and (score[~positive] < high).mean() >= 0.95
    assert thresholds.unsure_band(positive[:10], score[:10], np.arange(10).astype(str)) is None
    apart = thresholds.unsure_band(
        positive, np.where(positive, 0.9, 0.1), np.arange(400).astype(str)
    )
    assert apart[0] == apart[1]


def test_facts_are_json(workdir):
    assert json.loads(json.dumps(runtime.load(workdir).facts)) == FACTS
