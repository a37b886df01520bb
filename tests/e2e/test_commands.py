"""The commands as a user meets them: help at once, and mistakes answered in one line."""

import json
import sys
import time

import pytest

from tests.conftest import ROOT, run_command, write_set

MAIN = ("-m", "trainer.main")


def mistake(*flags: str, **environment: str) -> str:
    done = run_command(*MAIN, *flags, **environment)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip()


def test_help_imports_no_tensorflow_and_lists_every_setting():
    code = (
        "import sys, runpy; sys.argv = ['trainer.main', '--help']\n"
        "try: runpy.run_module('trainer.main', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = run_command("-c", code)
    assert done.returncode == 0, done.stderr
    started = time.monotonic()
    shown = run_command(*MAIN, "--help").stdout
    print(f"--help took {time.monotonic() - started:.2f} s")
    for name in (
        "--epochs",
        "--dataset",
        "--manual_dir",
        "--workdir",
        "--logical_devices",
        "--class_weights",
    ):
        assert name.removeprefix("--") in shown, name


@pytest.mark.parametrize(
    "command, wanted",
    [
        ("trainer.audit", ("--dataset", "--manual_dir", "--workdir", "--output", "--also")),
        ("trainer.evaluate", ("--workdir", "--split", "--manual_dir", "--compare")),
    ],
)
def test_help_of_the_other_commands_imports_no_tensorflow_either(command, wanted):
    code = (
        f"import sys, runpy; sys.argv = ['{command}', '--help']\n"
        f"try: runpy.run_module('{command}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert run_command("-c", code).returncode == 0
    shown = run_command("-m", command, "--help").stdout
    assert all(name in shown for name in wanted)


@pytest.mark.parametrize(
    "command, words",
    [
        (("trainer.evaluate",), "which run?"),
        (("trainer.evaluate", "--workdir=/nowhere"), "no finished run"),
        (("trainer.audit", "--workdir=/nowhere"), "no finished run"),
        (("trainer.audit", "--manual_dir=/nowhere"), "does not exist"),
        (("trainer.audit", "x"), "is not a flag"),
        (("trainer.evaluate", "--split=train"), "should be one of"),
    ],
)
def test_mistakes_of_the_other_commands_are_answered_in_one_line(command, words, tmp_path):
    output = [f"--output={tmp_path / 'out'}"] if "audit" in command[0] else []
    done = run_command("-m", command[0], *command[1:], *output)
    assert done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_default_phantom_run_passes_and_no_control_without_lungs_does(tmp_path):
    done = run_command(
        "-m",
        "trainer.main",
        "--epochs=13",
        "--dataset=phantom",
        f"--data_dir={tmp_path / 'data'}",
        f"--workdir={tmp_path / 'run'}",
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["test"]["roc_auc"]["value"] > 0.95
    for name, control in found["controls"].items():
        if control["kind"] == "no_lung":
            assert control["roc_auc"]["low"] <= 0.5 <= control["roc_auc"]["high"], name
    assert "No shortcut found" in (tmp_path / "run" / "report.html").read_text()
    explained = json.loads(
        (tmp_path / "run" / "evaluation" / "test" / "evaluation.json").read_text()
    )["explanation"]
    assert (
        explained["pointing_game"]["hits"]["value"] > explained["pointing_game"]["chance"]["value"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "shortcut, control",
    [
        ("marker", "corners"),
        ("border", "border"),
        ("contrast", "mean_and_deviation"),
        ("header", "header"),
    ],
)
def test_the_audit_names_the_planted_shortcut_first(shortcut, control, tmp_path):
    done = run_command(
        "-m",
        "trainer.audit",
        "--dataset=phantom",
        f"--phantom_shortcut={shortcut}",
        "--phantom_train=128",
        "--phantom_test=64",
        f"--data_dir={tmp_path / 'data'}",
        f"--output={tmp_path / 'audit'}",
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["shortcuts"][0] == control
    assert "SHORTCUTS" in done.stdout


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--epochs=0",), "--epochs=0: give 1 or more"),
        (("--model=resnet",), "should be one of"),
        (("--prepared_side=77",), "--prepared_side=77: choose one of 500, 256"),
        (("--epochs=many",), "--epochs=many"),
        (("--epoch=3",), "Unknown command line flag"),
        (("--learning_rate=-1",), "--learning_rate=-1.0: give more than 0"),
        (("train",), "'train' is not a flag"),
    ],
)
def test_wrong_flags_are_answered_at_once(flags, words):
    assert words in mistake(*flags)


def test_a_missing_folder_is_answered_with_the_expected_tree(tmp_path):
    said = mistake(
        "--dataset=covid_xray",
        f"--manual_dir={tmp_path / 'nowhere'}",
        f"--data_dir={tmp_path / 'data'}",
    )
    assert "does not exist" in said and "Train/covid" in said


def test_an_empty_class_and_a_missing_split_are_named(tmp_path):
    folder = write_set(
        tmp_path / "set", {("Train", "covid"): 3, ("Train", "non_covid"): 3, ("Test", "covid"): 2}
    )
    said = mistake(
        "--dataset=covid_xray", f"--manual_dir={folder}", f"--data_dir={tmp_path / 'data'}"
    )
    assert (
        "no images of class non_covid" in said
        and str(folder / "Test") in said
        and said.count("\n") == 0
    )
    said = mistake(
        "--dataset=covid_xray",
        f"--manual_dir={folder / 'Train'}",
        f"--data_dir={tmp_path / 'data'}",
    )
    assert "side by side" in said


def test_a_workdir_that_cannot_be_written_or_holds_other_things_is_left_alone(
    tiny_data_dir, tmp_path
):
    (tmp_path / "file").write_text("kept")
    for place, words in ((tmp_path / "file" / "run", "cannot write"), (tmp_path, "new or empty")):
        said = mistake("--dataset=covid_xray", f"--data_dir={tiny_data_dir}", f"--workdir={place}")
        assert words in said and said.count("\n") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (
        tmp_path / "file"
    ).read_text() == "kept"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_data_dir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    said = mistake("--dataset=phantom", f"--data_dir={tmp_path / 'file' / 'data'}")
    assert "--data_dir" in said and said.count("\n") == 0


def test_a_batch_that_does_not_divide_is_refused(tiny_data_dir, tmp_path):
    said = mistake(
        "--dataset=covid_xray",
        f"--data_dir={tiny_data_dir}",
        f"--workdir={tmp_path / 'run'}",
        "--batch_size=9",
        "--logical_devices=2",
    )
    assert "multiple of 2" in said and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_auto_without_a_network_trains_on_phantoms_and_says_so_loudly(tmp_path):
    flags = (
        f"--data_dir={tmp_path / 'data'}",
        f"--workdir={tmp_path / 'run'}",
        "--phantom_train=24",
        "--phantom_test=8",
        "--epochs=1",
        "--image_size=96",
    )
    # The stand-in's address, with nobody listening: a machine without a network, wherever this test runs.
    done = run_command(
        *MAIN, *flags, KAGGLE_API_ENVIRONMENT="TEST", KAGGLEHUB_CACHE=str(tmp_path / "cache")
    )
    assert done.returncode == 0, done.stderr
    assert (
        "SYNTHETIC" in done.stderr and "SYNTHETIC" in done.stdout and "--manual_dir" in done.stderr
    )
    for name in ("metrics.json", "model/model.json"):
        assert '"synthetic": true' in (tmp_path / "run" / name).read_text()
    again = run_command(
        *MAIN, *flags, KAGGLE_API_ENVIRONMENT="TEST", KAGGLEHUB_CACHE=str(tmp_path / "cache")
    )
    assert again.returncode == 0 and "this run had ended before" in again.stdout


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(tiny_data_dir, tmp_path):
    import os
    import signal
    import subprocess

    command = [
        sys.executable,
        *MAIN,
        "--dataset=covid_xray",
        f"--data_dir={tiny_data_dir}",
        f"--workdir={tmp_path / 'run'}",
        "--image_size=96",
        "--epochs=400",
        "--batch_size=4",
    ]
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ,
    )
    while "epoch 1/" not in running.stdout.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130 and "Traceback" not in said
    assert "to go on: python -m trainer.main" in said and f"--workdir={tmp_path / 'run'}" in said
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert (tmp_path / "run" / "checkpoints" / f"step-{max(steps):08d}.json").exists()
