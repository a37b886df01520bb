"""Several findings an image from data to page, on phantoms of which the truth is known."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import run_command
from tests.e2e.conftest import serve
from trainer.data.phantom import FINDINGS, draw_findings

NAMES = tuple(FINDINGS)
SET = ("--dataset=phantom", f"--phantom_findings={len(NAMES)}")

pytestmark = pytest.mark.slow


def run(module: str, *flags: str) -> str:
    """Runs a command that must succeed; returns what it prints."""
    result = run_command("-m", module, *flags, timeout=1200)
    assert result.returncode == 0, result.stderr
    return result.stdout


def train(folder: Path, *flags: str) -> Path:
    """Trains on phantoms with several findings; returns the workdir."""
    workdir = folder / "run"
    run(
        "trainer.main",
        *SET,
        "--phantom_train=480",
        "--phantom_test=200",
        "--prepared_side=128",
        "--model=compact",
        "--image_size=128",
        f"--data_dir={folder / 'data'}",
        f"--workdir={workdir}",
        *flags,
    )
    return workdir


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("findings"), "--epochs=20")


def test_every_finding_is_told_apart_and_no_control_tells_any(workdir):
    metrics = read(workdir / "metrics.json")
    audit = read(workdir / "audit" / "audit.json")
    for name in NAMES:
        assert metrics["test"][f"roc_auc_{name}"]["value"] > 0.95, name
        compared = metrics["comparison"]["findings"][name]
        assert compared["difference"]["low"] > 0, name
    assert audit["shortcuts"] == {}
    assert not metrics["comparison"]["warns"]
    assert metrics["comparison"]["finding"] in NAMES
    assert f"{metrics['comparison']['finding']} fares worst" in metrics["comparison"]["sentence"]


def test_report_card_and_maps_show_every_finding(workdir):
    evaluation = read(workdir / "evaluation" / "test" / "evaluation.json")
    assert [row["finding"] for row in evaluation["findings"]] == list(NAMES)
    report = (workdir / "report.html").read_text(encoding="utf-8")
    card = (workdir / "MODEL_CARD.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert report.count(f"<td>{name}</td>") >= 3
        assert f"| {name} |" in card
        game = evaluation["explanation"]["findings"][name]["pointing_game"]
        # Of 4 x 4 cells, the one below the diaphragm tells of effusion: its map misses the fluid.
        if name != "effusion":
            assert game["hits"]["low"] > game["chance"]["high"], name
    facts = read(workdir / "model" / "model.json")
    assert len(facts["threshold"]) == len(facts["temperature"]) == len(NAMES)


def test_files_get_their_findings(workdir, tmp_path):
    for index in range(12):
        present = [bool(index >> bit & 1) for bit in range(len(NAMES))]
        image = draw_findings(7, index, present, 500).image
        Image.fromarray(image).save(tmp_path / f"{index:02d}.png")
    run(
        "trainer.predict",
        f"--workdir={workdir}",
        f"--output={tmp_path / 'predictions.csv'}",
        str(tmp_path),
    )
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    right = 0
    for index, row in enumerate(rows):
        assert set(row) >= {f"probability_{name}" for name in NAMES}
        truth = {name for bit, name in enumerate(NAMES) if index >> bit & 1}
        right += sum((name in row["label"].split("|")) == (name in truth) for name in NAMES)
    assert right >= 0.8 * 12 * len(NAMES)


def test_exports_agree_and_the_validation_part_is_scored(workdir):
    text = run("trainer.export", f"--workdir={workdir}", "--format=onnx,saved_model")
    assert text.count("agrees with Keras") == 2
    run("trainer.evaluate", f"--workdir={workdir}", "--split=validation")
    scored = read(workdir / "evaluation" / "validation" / "evaluation.json")
    assert len(scored["findings"]) == len(NAMES)


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path):
    constant = ("--schedule=constant", "--warmup_epochs=0")
    train(tmp_path / "parts", *constant, "--epochs=1")
    parts = train(tmp_path / "parts", *constant, "--epochs=2", "--extend")
    whole = train(tmp_path / "whole", *constant, "--epochs=2")
    digests = [read(path / "metrics.json")["weights_sha256"] for path in (parts, whole)]
    assert digests[0] == digests[1]


def test_a_planted_shortcut_is_named_for_its_finding(tmp_path):
    text = run(
        "trainer.audit",
        *SET,
        "--phantom_train=160",
        "--phantom_test=100",
        "--phantom_shortcut=marker",
        f"--data_dir={tmp_path / 'data'}",
        f"--output={tmp_path / 'audit'}",
    )
    audit = read(tmp_path / "audit" / "audit.json")
    assert list(audit["shortcuts"]) == ["effusion"]
    assert audit["shortcuts"]["effusion"][0] == "corners"
    assert "SHORTCUTS: effusion can be told apart" in text


@pytest.mark.browser
def test_the_page_shows_the_map_of_the_finding_chosen(workdir, browser, tmp_path):
    film = tmp_path / "film.png"
    Image.fromarray(draw_findings(7, 3, (False, True, True, False), 500).image).save(film)
    with serve(workdir) as server:
        page = browser.new_page()
        page.goto(server.address)
        page.set_input_files("#upload input[type=file]", str(film))
        page.wait_for_selector("#verdict .card", timeout=30_000)
        page.wait_for_selector("#evidence img", timeout=30_000)
        card = page.inner_text("#verdict")
        assert all(name in card for name in NAMES)
        shown = page.locator("#finding input").input_value()
        assert shown in ("effusion", "nodule")
        before = page.locator("#evidence img").last.get_attribute("src")
        page.locator("#finding input").click()
        page.get_by_role("option", name="opacities").click()
        page.wait_for_function(
            "before => [...document.querySelectorAll('#evidence img')].at(-1).src !== before",
            arg=before,
            timeout=30_000,
        )
        page.close()
