"""Tests of the commands as a user runs them: help, errors in one line, whole runs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, run_command, write_set

MAIN = ("-m", "trainer.main")
# Some flags of each command, as --help prints them.
COMMANDS = {
    "trainer.main": (
        "--[no]class_weights",
        "--dataset",
        "--epochs",
        "--logical_devices",
        "--manual_dir",
        "--workdir",
    ),
    "trainer.audit": ("--also", "--dataset", "--manual_dir", "--output", "--workdir"),
    "trainer.evaluate": ("--compare", "--manual_dir", "--split", "--workdir"),
    "trainer.predict": ("--output", "--[no]overwrite", "--workdir"),
    "trainer.export": ("--format", "--workdir"),
    "trainer.input_server": ("--dispatcher", "--name", "--port"),
    "demo.app": ("--auth", "--port", "--[no]share", "--workdir"),
}


def error_of(*flags: str, **environment: str) -> str:
    """Runs trainer.main, which must fail without a traceback, and returns its message."""
    result = run_command(*MAIN, *flags, **environment)
    assert result.returncode != 0, result.stdout
    assert "Traceback" not in result.stderr, result.stderr
    return result.stderr.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_flags_and_imports_no_slow_library(command):
    # runpy executes the command in a process whose modules can be listed afterwards.
    code = (
        f"import sys, runpy; sys.argv = ['{command}', '--help']\n"
        f"try: runpy.run_module('{command}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "slow = {'tensorflow', 'keras', 'sklearn', 'gradio', 'onnxruntime'}\n"
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    result = run_command("-c", code)
    assert result.returncode == 0, result.stderr
    started = time.monotonic()
    result = run_command("-m", command, "--help")
    print(f"{command} --help took {time.monotonic() - started:.2f} s")
    assert result.returncode == 0
    assert not result.stderr
    for name in COMMANDS[command]:
        assert f"\n  {name}: " in result.stdout, name


def test_help_shows_every_setting_with_its_range_in_its_group():
    text = run_command(*MAIN, "--help").stdout
    titles = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles == [
        "Data:",
        "Model:",
        "Optimization:",
        "Validation:",
        "Augmentation:",
        "Repetition:",
        "Devices:",
        "Checkpoints:",
    ]
    augmentation = text.partition("Augmentation:")[2].partition("Repetition:")[0]
    assert (
        "--shear: <0 to 45>: Largest shear angle, in degrees. Default: 0.2; opacity 3."
        in augmentation
    )
    # absl's own list of all flags
    text = run_command(*MAIN, "--helpfull").stdout
    assert "--flagfile" in text
    assert "--epochs" in text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("trainer.evaluate",), "which run?"),
        (("trainer.export",), "which run?"),
        (("trainer.predict", "image.png"), "which run?"),
        (("trainer.predict", "--workdir=/nowhere"), "which images?"),
        (("trainer.export", "--workdir=/nowhere", "--format=h5"), "choose among"),
        (("trainer.input_server", "--dispatcher=host"), "HOST:PORT"),
        (("trainer.evaluate", "--workdir=/nowhere"), "no finished run"),
        (("trainer.audit", "--workdir=/nowhere"), "no finished run"),
        (("trainer.audit", "x"), "is not a flag"),
        (("trainer.evaluate", "--split=train"), "should be one of"),
    ],
)
def test_errors_of_the_other_commands_are_one_line(command, message):
    result = run_command("-m", *command)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (("trainer.main",), "--manual_dir="),
        (("trainer.main", "--dataset=phantom"), "--data_dir= "),
        (("trainer.audit",), "--manual_dir="),
        (("trainer.audit", "--dry_run"), "--manual_dir="),
        (("trainer.audit", "--workdir=x"), "--also=a,"),
        (("trainer.evaluate", "--workdir=x"), "--manual_dir="),
        (("trainer.evaluate", "--workdir=x"), "--manual_dir=,a"),
        (("trainer.evaluate", "--workdir=x"), "--compare="),
        (("trainer.export", "--workdir=x"), "--format="),
        (("trainer.predict", "a.png", "--workdir=x"), "--output="),
        (("demo.app",), "--workdir="),
    ],
    ids=str,
)
def test_flags_without_a_value_are_an_error_in_every_command(command, flag, tmp_path):
    result = run_command("-m", *command, flag, TFDS_DATA_DIR=str(tmp_path / "data"))
    assert result.returncode == 1
    name = flag.split("=")[0]
    assert result.stderr == (
        f"error: {name}= has no value; give one, or leave the flag out (see --help)\n"
    )
    assert not any(tmp_path.iterdir())


def test_audit_of_a_missing_folder_is_answered_with_the_expected_tree(tmp_path):
    flags = ("--manual_dir=/nowhere", f"--output={tmp_path / 'audit'}")
    result = run_command("-m", "trainer.audit", *flags)
    assert result.returncode == 1
    assert result.stderr.startswith("error: --manual_dir=/nowhere does not exist")
    assert "Train/covid" in result.stderr


@pytest.mark.slow
def test_default_phantom_run_passes_and_no_control_without_lungs_does(tmp_path):
    result = run_command(
        *MAIN,
        "--epochs=13",
        "--dataset=phantom",
        f"--data_dir={tmp_path / 'data'}",
        f"--workdir={tmp_path / 'run'}",
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["roc_auc"]["value"] > 0.95
    for name, control in metrics["controls"].items():
        if control["kind"] == "no_lung":  # Its AUC must be compatible with chance.
            assert control["roc_auc"]["low"] <= 0.5 <= control["roc_auc"]["high"], name
    assert "No shortcut found" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    evaluation = tmp_path / "run" / "evaluation" / "test" / "evaluation.json"
    game = json.loads(evaluation.read_text(encoding="utf-8"))["explanation"]["pointing_game"]
    assert game["hits"]["value"] > game["chance"]["value"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shortcut", "control"),
    [
        ("marker", "corners"),
        ("border", "border"),
        ("contrast", "mean_and_deviation"),
        ("header", "header"),
    ],
)
def test_audit_names_the_planted_shortcut_first(shortcut, control, tmp_path):
    result = run_command(
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
    assert result.returncode == 0, result.stderr
    audit = json.loads((tmp_path / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert audit["shortcuts"][0] == control
    assert "SHORTCUTS" in result.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs=0",), "--epochs=0: give 1 or more"),
        (("--precision=int8",), "--precision=int8: choose one of"),
        (("--prepared_side=77",), "--prepared_side=77: choose one of 500, 256"),
        (("--epochs=many",), "--epochs=many"),
        (("--epoch=3",), "Unknown command line flag"),
        (("--learning_rate=-1",), "--learning_rate=-1.0: give more than 0"),
        (("train",), "'train' is not a flag"),
    ],
)
def test_wrong_flags_are_answered_at_once(flags, message):
    error = error_of(*flags)
    assert message in error
    assert "\n" not in error


def test_unknown_model_is_answered_with_the_models(tmp_path):
    error = error_of("--model=resnet", f"--workdir={tmp_path / 'run'}")
    assert "--model=resnet: choose one of" in error
    assert "resnet50" in error  # The nearest names.
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_missing_folder_is_answered_with_the_expected_tree(tmp_path):
    error = error_of(
        "--dataset=covid_xray",
        f"--manual_dir={tmp_path / 'nowhere'}",
        f"--data_dir={tmp_path / 'data'}",
    )
    assert "does not exist" in error
    assert "Train/covid" in error


def test_empty_class_and_missing_split_are_named(tmp_path):
    counts = {("Train", "covid"): 3, ("Train", "non_covid"): 3, ("Test", "covid"): 2}
    folder = write_set(tmp_path / "set", counts)
    flags = ("--dataset=covid_xray", f"--data_dir={tmp_path / 'data'}")
    error = error_of(*flags, f"--manual_dir={folder}")
    assert "no images of class non_covid" in error
    assert str(folder / "Test") in error
    assert "\n" not in error
    assert "side by side" in error_of(*flags, f"--manual_dir={folder / 'Train'}")


def test_workdir_that_is_a_file_or_holds_other_files_is_not_touched(tiny_data_dir, tmp_path):
    (tmp_path / "file").write_text(
        "content", encoding="utf-8"
    )  # Nothing can be written below a file, even by root.
    flags = ("--dataset=covid_xray", f"--data_dir={tiny_data_dir}")
    for workdir, message in (
        (tmp_path / "file" / "run", "cannot write"),
        (tmp_path, "new or empty"),
    ):
        error = error_of(*flags, f"--workdir={workdir}")
        assert message in error
        assert "\n" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "content"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_data_dir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    error = error_of("--dataset=phantom", f"--data_dir={tmp_path / 'file' / 'data'}")
    assert "--data_dir" in error
    assert "\n" not in error


def test_batch_that_does_not_divide_among_replicas_is_refused(tiny_data_dir, tmp_path):
    error = error_of(
        "--dataset=covid_xray",
        f"--data_dir={tiny_data_dir}",
        f"--workdir={tmp_path / 'run'}",
        "--batch_size=9",
        "--logical_devices=2",
    )
    assert "multiple of 2" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_auto_without_a_network_trains_on_phantoms_and_says_so(tmp_path):
    arguments = (
        *MAIN,
        f"--data_dir={tmp_path / 'data'}",
        f"--workdir={tmp_path / 'run'}",
        "--phantom_train=24",
        "--phantom_test=8",
        "--epochs=1",
        "--image_size=96",
    )
    # Nobody listens at the test address of Kaggle: a machine without a network, wherever this runs.
    offline = {"KAGGLE_API_ENVIRONMENT": "TEST", "KAGGLEHUB_CACHE": str(tmp_path / "cache")}
    result = run_command(*arguments, **offline)
    assert result.returncode == 0, result.stderr
    assert "SYNTHETIC" in result.stderr
    assert "SYNTHETIC" in result.stdout
    assert "--manual_dir" in result.stderr
    for name in ("metrics.json", "model/model.json"):
        assert '"synthetic": true' in (tmp_path / "run" / name).read_text(encoding="utf-8")
    again = run_command(*arguments, **offline)
    assert again.returncode == 0
    assert "this run had finished before" in again.stdout


def test_ctrl_c_saves_a_checkpoint_and_prints_the_resume_command(tiny_data_dir, tmp_path):
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
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ,
    )
    # The first epoch has ended: training is under way.
    while "epoch 1/" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "to go on: python -m trainer.main" in error
    assert f"--workdir={tmp_path / 'run'}" in error
    log = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    # The checkpoint is of the last logged step: no step is lost.
    last_step = max(json.loads(line)["step"] for line in log.splitlines())
    assert (tmp_path / "run" / "checkpoints" / f"step-{last_step:08d}.json").exists()
