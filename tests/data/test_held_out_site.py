"""Tests of a site as the test split: its images, its patients, the other sites, and a whole run."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import run_command
from tests.data.sets import open_set
from trainer.config import TrainConfig
from trainer.data import any_source, phantom, prepared
from trainer.errors import UserError

# (file, label, patient, site, given split).
ROWS = [
    ("a.png", "pos", "p1", "North", "train"),
    ("b.png", "neg", "p2", "North", "train"),
    ("c.png", "pos", "p3", "North", "validation"),
    ("d.png", "neg", "p4", "North", "test"),
    ("e.png", "pos", "p5", "South", "train"),
    ("f.png", "neg", "p6", "South", "validation"),
    ("g.png", "pos", "p7", "North", "train"),
    ("h.png", "neg", "p7", "South", ""),
    ("i.png", "neg", "p8", "NA", "train"),
]
HEADER = ("file", "label", "patient", "Site", "split")


def write_table(folder: Path, rows: list[tuple], header: tuple[str, ...] = HEADER) -> Path:
    """Writes empty images and their table."""
    folder.mkdir(exist_ok=True)
    for row in rows:
        (folder / row[0]).write_bytes(b"")
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


def config(folder: Path, **fields: str) -> TrainConfig:
    return TrainConfig(manual_dir=str(folder), data_dir=str(folder / "data"), **fields)


def test_all_images_of_the_site_and_no_others_are_test(tmp_path):
    settings = config(write_table(tmp_path, ROWS), hold_out_site="south")
    images = any_source.read(tmp_path, tmp_path, settings)
    splits = dict(zip(images.filenames, images.splits, strict=True))
    # Whatever their given split: e, f and h. Of the others, c keeps its split.
    assert splits == {
        "a.png": "train",
        "b.png": "train",
        "c.png": "validation",
        "e.png": "test",
        "f.png": "test",
        "h.png": "test",
    }
    assert "; site south held out as test; " in images.sentence
    remarks = "\n".join(images.remarks)
    # g is of a patient of the South, d was to be tested on, i has no site.
    assert "1 images are of patients with images at south too and were left out (g.png" in remarks
    assert "1 images are of a given test split at other sites than south" in remarks
    assert "1 images name no site and were left out (i.png" in remarks


def test_without_given_splits_the_other_sites_are_train(tmp_path):
    folder = write_table(tmp_path, [row[:4] for row in ROWS], HEADER[:4])
    settings = config(folder, hold_out_site="South")
    source = prepared.find_source(settings)
    assert sorted(entry.filename for entry in source.splits["test"]) == ["e.png", "f.png", "h.png"]
    assert {entry.columns["Site"] for entry in source.splits["train"]} == {"North"}
    assert not any("NO TEST SPLIT" in remark for remark in source.remarks)
    # Another site is another set.
    other = prepared.find_source(config(folder, hold_out_site="North"))
    assert other.fingerprint != source.fingerprint


@pytest.mark.parametrize(
    ("column", "site", "message"),
    [
        ("ward", "South", "needs a column called site or hospital or .* there are ward"),
        ("hospital", "East", "the sites in column hospital are North, South"),
    ],
)
def test_an_unknown_site_is_refused_with_those_there_are(tmp_path, column, site, message):
    folder = write_table(tmp_path, ROWS, (*HEADER[:3], column, HEADER[4]))
    with pytest.raises(UserError, match=f"--hold_out_site={site}.*{message}") as caught:
        prepared.find_source(config(folder, hold_out_site=site))
    assert "\n" not in str(caught.value)


def test_a_site_that_shares_all_patients_leaves_nothing_to_train_on(tmp_path):
    folder = write_table(tmp_path, [(*row[:2], "p", *row[3:]) for row in ROWS])
    with pytest.raises(UserError, match="leaves no image to train on"):
        prepared.find_source(config(folder, hold_out_site="South"))


def test_a_dry_run_prints_the_site(tmp_path):
    folder = write_table(tmp_path, ROWS)
    arguments = ["--dry_run", f"--manual_dir={folder}", "--hold_out_site=South"]
    done = run_command("-m", "trainer.audit", *arguments)
    assert done.returncode == 0, done.stderr
    assert "site South held out as test" in done.stdout
    assert ["pos", "1", "1", "1"] in [line.split() for line in done.stdout.splitlines()]


def write_films(folder: Path) -> Path:
    """Writes phantoms of two classes from two sites, 24 each."""
    folder.mkdir()
    rows = []
    for index in range(48):
        label = index % 2
        name = f"{index:02d}.png"
        Image.fromarray(phantom.draw(label, index, index % 2, 64).image).save(folder / name)
        rows.append((name, ("clear", "opacities")[label], f"p{index // 2}", "AB"[index // 24]))
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "label", "patient", "hospital"), *rows])
    return folder


def test_a_set_of_a_fixed_name_is_prepared_beside_that_of_its_own_splits(tmp_path):
    folder = write_films(tmp_path / "films")
    table = (folder / "labels.csv").read_text(encoding="utf-8")
    table = table.replace("clear", "NORMAL").replace("opacities", "PNEUMONIA")
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    opened = [
        open_set(tmp_path / "data", "chest_xray_pneumonia", folder, prepared_side=64, **fields)
        for fields in ({}, {"hold_out_site": "B"})
    ]
    assert opened[0].fingerprint["config"] == "gray64"
    assert opened[1].fingerprint["config"].startswith("gray64_")
    assert opened[1].fingerprint["images"] == {"train": 24, "test": 24}
    # Which of the prepared ones is meant cannot be told from the site's name.
    with pytest.raises(UserError, match=r"--hold_out_site=B .*--manual_dir"):
        open_set(tmp_path / "data", "chest_xray_pneumonia", hold_out_site="B", prepared_side=64)


@pytest.mark.slow
def test_a_run_is_tested_on_the_images_of_the_site_alone(tmp_path):
    folder = write_films(tmp_path / "films")
    done = run_command(
        *("-m", "trainer.main", "--model=compact", "--image_size=64", "--prepared_side=64"),
        *("--epochs=1", f"--manual_dir={folder}", "--hold_out_site=A"),
        *(f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}"),
    )
    assert done.returncode == 0, done.stderr
    assert "site A held out as test" in done.stdout
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["dataset"]["images"] == {"train": 24, "test": 24}
    assert metrics["test"]["accuracy"]["n"] == 24
    with open(tmp_path / "run" / "predictions" / "test.csv", encoding="utf-8") as file:
        tested = {row["filename"] for row in csv.DictReader(file)}
    assert tested == {f"{index:02d}.png" for index in range(24)}
