"""The view of the lungs from training to a prediction: the same pixels everywhere."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_command
from trainer.data import phantom

pytestmark = pytest.mark.slow

FLAGS = (
    "--dataset=phantom",
    "--phantom_train=24",
    "--phantom_test=8",
    "--model=compact",
    "--image_size=64",
    "--view=lungs",
    "--epochs=1",
)


def test_predict_sees_the_squares_that_the_test_split_was_scored_on(tmp_path):
    workdir = tmp_path / "run"
    trained = run_command(
        "-m",
        "trainer.main",
        *FLAGS,
        f"--data_dir={tmp_path / 'data'}",
        f"--workdir={workdir}",
        timeout=600,
    )
    assert trained.returncode == 0, trained.stderr
    facts = json.loads((workdir / "model" / "model.json").read_text(encoding="utf-8"))
    assert facts["view"] == {"name": "lungs", "segmenter": 1}
    with open(workdir / "predictions" / "test.csv", encoding="utf-8", newline="") as file:
        scored = {row["filename"]: row for row in csv.DictReader(file)}
    folder = tmp_path / "films"
    folder.mkdir()
    for name in scored:
        number = 1_000_000 + int(name.rsplit("_", 1)[1])
        drawn = phantom.draw(0, number, phantom.label_of(0, number), 500)
        Image.fromarray(drawn.image).save(folder / f"{name.rsplit('/', 1)[1]}.png")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    output = tmp_path / "predictions.csv"
    predicted = run_command(
        "-m", "trainer.predict", f"--workdir={workdir}", f"--output={output}", str(folder)
    )
    assert predicted.returncode == 0, predicted.stderr
    with open(output, encoding="utf-8", newline="") as file:
        rows = {row["filename"].rsplit("/", 1)[1]: row for row in csv.DictReader(file)}
    refused = rows.pop("noise.png")
    assert refused["verdict"] == "refused"
    assert "no lungs were found" in refused["reason"]
    for name, row in scored.items():
        answer = rows[f"{name.rsplit('/', 1)[1]}.png"]
        if answer["verdict"] != "refused":
            difference = float(answer["probability_opacities"]) - float(
                row["probability_opacities"]
            )
            assert abs(difference) < 1e-4
    assert sum(row["verdict"] != "refused" for row in rows.values()) >= 4
