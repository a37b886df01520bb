"""CSV files of predictions: a row for every file, no TensorFlow."""

import contextlib
import csv
import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from trainer.data import radiograph, views
from trainer.errors import UserError
from trainer.inference import batch, command, overlay, runtime, sources


def test_a_bad_file_gets_its_row_and_the_others_theirs(workdir, squares, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(squares[0, ..., 0]).save(folder / "a.png")
    # The signature of a PNG and nothing after it.
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "notes.txt").write_text("hello", encoding="utf-8")
    file = io.BytesIO()
    Image.fromarray(squares[1, ..., 0]).save(file, "JPEG")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("deep/er.jpg", file.getvalue())
        # macOS adds such files to its zips.
        archive.writestr("__MACOSX/er.jpg", b"x")
    output = tmp_path / "out.csv"
    summary = command.predict(workdir, [folder], output)
    assert "4 files" in summary
    assert "SYNTHETIC" in summary
    with open(output, encoding="utf-8", newline="") as table:
        rows = {row["filename"].removeprefix(f"{folder}/"): row for row in csv.DictReader(table)}
    assert list(rows) == ["a.png", "b.png", "c.zip/deep/er.jpg", "notes.txt"]
    assert rows["b.png"]["verdict"] == rows["notes.txt"]["verdict"] == "error"
    assert "b.png" in rows["b.png"]["reason"]
    for name in ("a.png", "c.zip/deep/er.jpg"):
        assert rows[name]["label"]
        assert 0 <= float(rows[name]["probability_opacities"]) <= 1
    # An existing table is replaced on request only.
    with pytest.raises(UserError, match="--overwrite"):
        command.predict(workdir, [folder], output)
    command.predict(workdir, [folder / "a.png"], output, overwrite=True)
    assert len(output.read_text(encoding="utf-8").splitlines()) == 2


def test_a_large_member_of_a_zip_gets_an_error_row(workdir, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(2000))
    # A limit of 1000 bytes instead of 150 million.
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 1000)
    listed = list(sources.list_sources([tmp_path / "bomb.zip"]))
    rows = list(batch.predict_rows(runtime.load(workdir), listed))
    assert [row["verdict"] for row in rows] == ["error"]
    assert "larger than 1,000 bytes" in rows[0]["reason"]


def test_paths_without_a_file_are_refused(workdir, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        command.predict(workdir, [tmp_path / "none"], None)
    with pytest.raises(UserError, match="holds no file"):
        command.predict(workdir, [tmp_path], None)


def test_prediction_imports_no_tensorflow(workdir, tmp_path, squares):
    Image.fromarray(squares[0, ..., 0]).save(tmp_path / "a.png")
    # A new process: this one may have imported TensorFlow.
    code = (
        "import sys; from pathlib import Path; from trainer.inference import command; "
        f"command.predict(Path({str(workdir)!r}), [Path({str(tmp_path / 'a.png')!r})], None); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    header = completed.stdout.splitlines()[0]
    assert header == ",".join(batch.columns(runtime.load(workdir)))


def test_a_table_is_written_to_whatever_stands_for_standard_output(workdir, squares, tmp_path):
    Image.fromarray(squares[0, ..., 0]).save(tmp_path / "a.png")
    # As in a notebook.
    with contextlib.redirect_stdout(io.StringIO()) as screen:
        command.predict(workdir, [tmp_path / "a.png"], None)
    assert len(screen.getvalue().splitlines()) == 2


def test_a_model_file_outside_a_run_is_named(workdir, tmp_path):
    for name in ("model.keras", "best.onnx"):
        (tmp_path / name).write_bytes((workdir / "model" / "model.onnx").read_bytes())
        with pytest.raises(UserError, match=r"lies in no run.* or one of model\.onnx"):
            runtime.load(tmp_path / name)


def test_maps_are_pictures_that_the_table_names(workdir, squares, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    film = Image.fromarray(squares[0, ..., 0])
    for name in ("a.png", "deep/a.png", "röntgen, 1 (2).png"):
        film.save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    output = tmp_path / "out.csv"
    maps = tmp_path / "new" / "maps"
    summary = command.predict(workdir, [folder], output, maps=maps)
    assert f"maps in {maps}" in summary
    with open(output, encoding="utf-8", newline="") as table:
        rows = {row["filename"].removeprefix(f"{folder}/"): row for row in csv.DictReader(table)}
    assert not rows["broken.png"]["map"]
    answered = [row for row in rows.values() if row["verdict"] in ("answered", "unsure")]
    assert answered
    names = [row["map"] for row in answered]
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(path.name for path in maps.iterdir())
    for name in names:
        picture = Image.open(maps / name)
        assert picture.size == film.size
        assert picture.mode == "RGB"
    # Pictures of somebody else are not mixed with these.
    with pytest.raises(UserError, match="holds files; give another --maps"):
        command.predict(workdir, [folder], tmp_path / "other.csv", maps=maps)
    command.predict(workdir, [folder], output, overwrite=True, maps=maps)
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(UserError, match="give another --maps"):
        command.predict(workdir, [folder], tmp_path / "other.csv", maps=file)


@pytest.mark.parametrize(
    "names",
    [
        ["<3 cm", ">3 cm"],
        ["Mass", "mass"],
        ["肺" * 80 + "炎", "肺" * 80 + "癌"],
        [".", "/"],
    ],
)
def test_maps_of_findings_have_names_of_their_own(names, squares, tmp_path):
    model = runtime.Model({"class_names": names, "multi_label": True}, None, None)
    folder = overlay.MapFolder(tmp_path / "maps", model)
    image = radiograph.Radiograph(squares[0, ..., 0], None, 255)
    square = views.Square(squares[0, ..., 0], (0.0, 0.0, 1.0, 1.0), True, None)
    evidence = {name: np.full((500, 500), 0.5, np.float32) for name in names}
    prediction = runtime.Prediction("answered", "|".join(names), dict.fromkeys(names, 0.9), "")
    written = folder.write(1, "胸" * 80 + ".png", image, (prediction, square, evidence))
    assert len({name.casefold() for name in written}) == 2
    assert sorted(written) == sorted(path.name for path in (tmp_path / "maps").iterdir())


def test_findings_have_a_map_each_or_that_of_the_most_probable(squares, tmp_path):
    names = ["clear", "opacities"]
    model = runtime.Model({"class_names": names, "multi_label": True}, None, None)
    folder = overlay.MapFolder(tmp_path / "maps", model)
    image = radiograph.Radiograph(squares[0, ..., 0], None, 255)
    square = views.Square(squares[0, ..., 0], (0.0, 0.0, 1.0, 1.0), True, None)
    evidence = {name: np.full((500, 500), 0.5, np.float32) for name in names}
    probabilities = {"clear": 0.2, "opacities": 0.3}
    written = []
    for number, label in enumerate(("clear|opacities", "clear", "no finding")):
        prediction = runtime.Prediction("answered", label, probabilities, "")
        written.append(folder.write(number, "a/b.png", image, (prediction, square, evidence)))
    assert written == [
        ["00000_b_clear.png", "00000_b_opacities.png"],
        ["00001_b_clear.png"],
        ["00002_b_opacities.png"],
    ]
    refused = runtime.Prediction("refused", "", probabilities, "unlike train")
    assert folder.write(3, "c.png", image, (refused, square, evidence)) == []
