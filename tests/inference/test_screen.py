"""Commands whose output cannot be written: other encodings, closed pipes, full disks."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.data.pictures import encode, gradient

NAME = "röntgen 胸部.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of two classes whose names are not ASCII."""
    for label in ("肺炎", "gesund"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "set" / label / f"{number} {NAME}").write_bytes(encode(gradient()))
    return tmp_path / "set"


def run(command: list[str], redirect: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Runs a command of the project by a shell, with its output redirected."""
    line = f'exec "$@" {redirect}'
    return subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        env=os.environ | environment,
        timeout=240,
        check=False,
    )


def dry_run(folder: Path) -> list[str]:
    return ["trainer.audit", f"--manual_dir={folder}", "--dry_run"]


def predict(workdir: Path, folder: Path) -> list[str]:
    return ["trainer.predict", f"--workdir={workdir}", str(folder)]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_letters_that_the_screen_lacks_are_escaped(folder, workdir, encoding):
    settings = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    ended = run(dry_run(folder), **settings)
    assert ended.returncode == 0, ended.stderr
    shown = "肺炎" if encoding == "utf-8" else r"\u80ba\u708e"
    assert shown in ended.stdout.decode(encoding)
    # A table on standard output is UTF-8 in every environment.
    ended = run(predict(workdir, folder), **settings)
    assert ended.returncode == 0, ended.stderr
    rows = list(csv.DictReader(io.StringIO(ended.stdout.decode("utf-8"), newline="")))
    assert sorted(Path(row["filename"]).name for row in rows) == sorted(
        path.name for path in folder.rglob("*.png")
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has UTF-8 names in every locale")
def test_a_locale_without_utf8_changes_no_table_and_no_map(folder, workdir, tmp_path):
    Path(os.fsdecode(os.fsencode(folder) + b"/r\xf6.png")).write_bytes(encode(gradient()))
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    tables = []
    for name, environment in (("ö1", settings), ("ö2", {})):
        outputs = [f"--maps={tmp_path / name}", f"--output={tmp_path / name}.csv"]
        ended = run([*predict(workdir, folder), *outputs], **environment)
        assert ended.returncode == 0, ended.stderr
        tables.append((tmp_path / f"{name}.csv").read_text(encoding="utf-8"))
    assert tables[0] == tables[1]
    assert r"/r\xf6.png" in tables[0]
    assert NAME in tables[0]
    pictures = [{path.name for path in (tmp_path / name).iterdir()} for name in ("ö1", "ö2")]
    assert pictures[0] == pictures[1]
    # Output is escaped as the locale demands.
    ended = run(dry_run(folder), **settings)
    assert ended.returncode == 0, ended.stderr
    assert r"\u80ba\u708e" in ended.stdout.decode("ascii")


def test_errors_with_such_letters_are_one_line(tmp_path):
    settings = {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    ended = run(dry_run(tmp_path / "keine_röntgenbilder"), **settings)
    assert ended.returncode == 1
    lines = ended.stderr.decode("ascii").splitlines()
    assert len(lines) == 1
    assert r"keine_r\xf6ntgenbilder" in lines[0]


def test_a_reader_that_has_gone_ends_a_command_quietly(folder, workdir):
    for command in (dry_run(folder), predict(workdir, folder), ["trainer.predict", "--help"]):
        # The reader ends before anything is written.
        ended = run(command, "| true; exit ${PIPESTATUS[0]}")
        assert ended.returncode == 141, command
        assert not ended.stderr, command


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(folder, workdir):
    for command in (dry_run(folder), predict(workdir, folder), ["trainer.main", "--help"]):
        ended = run(command, "> /dev/full")
        assert ended.returncode == 1, command
        assert ended.stderr.decode().startswith("error: "), ended.stderr
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        assert b"No space left" in ended.stderr


def test_closed_streams_are_no_error_where_they_are_not_needed(folder, workdir, tmp_path):
    ended = run([*predict(workdir, folder), f"--output={tmp_path}/a.csv"], ">&- 2>&-")
    assert ended.returncode == 0
    assert len((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()) == 7
    ended = run(predict(workdir, folder), ">&-")
    assert ended.returncode == 1
    assert b"error: standard output is closed; give --output=FILE." in ended.stderr


@pytest.mark.slow
def test_training_goes_on_where_nothing_can_be_printed(folder, tmp_path):
    workdir = tmp_path / "run"
    command = [
        "trainer.main",
        f"--manual_dir={folder}",
        f"--data_dir={tmp_path / 'data'}",
        f"--workdir={workdir}",
        "--model=compact",
        "--image_size=48",
        "--prepared_side=64",
        "--epochs=1",
        "--test_fraction=0.4",
        "--validation_fraction=0",
    ]
    ended = run(command, "2>&1 | true; exit ${PIPESTATUS[0]}", PYTHONIOENCODING="ascii")
    assert ended.returncode == 141
    assert (workdir / "metrics.json").exists()
    assert (workdir / "report.html").exists()
