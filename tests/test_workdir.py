"""Tests of the workdir: nothing is overwritten, and other settings are refused."""

import dataclasses
import json

import pytest

from trainer import workdir as workdir_lib
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training import models
from trainer.workdir import Workdir

FINGERPRINT = {"name": "covid_xray", "source_fingerprint": "abc"}


def open_workdir(config: TrainConfig, dataset: dict = FINGERPRINT) -> Workdir:
    """Opens the workdir of a configuration as training does."""
    return workdir_lib.open_or_create(models.resolve(config), config, dataset)


def test_config_json_holds_the_resolved_and_the_requested_settings(tmp_path):
    workdir = open_workdir(TrainConfig(workdir=str(tmp_path / "run"), epochs=3))
    record = json.loads((workdir.path / "config.json").read_text(encoding="utf-8"))
    assert record["config"]["epochs"] == 3
    assert record["config"]["learning_rate"] == 1e-3  # of the model's recipe
    assert record["requested"]["learning_rate"] is None
    assert record["dataset"] == FINGERPRINT
    assert record["versions"]["tensorflow"]
    assert not workdir.finished


def test_same_settings_open_it_again_and_others_are_refused_with_the_difference(tmp_path):
    config = TrainConfig(workdir=str(tmp_path / "run"))
    before = (open_workdir(config).path / "config.json").read_bytes()
    # Devices do not decide the result, so they may differ.
    open_workdir(dataclasses.replace(config, logical_devices=2))
    with pytest.raises(UserError, match="epochs: 13 → 14") as caught:
        open_workdir(dataclasses.replace(config, epochs=14))
    assert "--extend" in str(caught.value)
    with pytest.raises(UserError, match="data set's files"):
        open_workdir(config, FINGERPRINT | {"source_fingerprint": "other"})
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_workdir_of_an_earlier_version_opens_with_the_same_settings(tmp_path):
    config = TrainConfig(workdir=str(tmp_path / "run"))
    path = open_workdir(config).path / "config.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    # Version 0.1.0 had none of these settings.
    later = ("view", "on_no_lungs", "paint_opacities", "swap_backgrounds", "tone", "gamma", "jpeg")
    for name in (*later, "coarsen", "blur", "sharpen", "noise"):
        del record["config"][name]
    path.write_text(json.dumps(record), encoding="utf-8")
    open_workdir(config)
    with pytest.raises(UserError, match="view: whole → lungs"):
        open_workdir(dataclasses.replace(config, view="lungs"))


def test_extending_records_the_earlier_epochs_and_moves_the_scores(tmp_path):
    config = TrainConfig(workdir=str(tmp_path / "run"))
    workdir = open_workdir(config)
    workdir_lib.write_json(workdir.path / "metrics.json", {"epochs": 13})
    longer = open_workdir(dataclasses.replace(config, epochs=20, extend=True))
    record = json.loads((workdir.path / "config.json").read_text(encoding="utf-8"))
    assert record["config"]["epochs"] == 20
    assert record["extended_from"] == [13]
    assert not longer.finished
    assert (workdir.path / "extended" / "metrics_13_epochs.json").exists()
    # From here on the shorter run is another run.
    with pytest.raises(UserError, match="epochs: 20 → 13"):
        open_workdir(config)


def test_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UserError, match="new or empty"):
        open_workdir(TrainConfig(workdir=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    # Tests may run as root, who can write to any folder, but not below a file.
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write") as caught:
        open_workdir(TrainConfig(workdir=str(tmp_path / "file" / "run")))
    assert "\n" not in str(caught.value)


def test_damaged_config_json_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        open_workdir(TrainConfig(workdir=str(tmp_path)))


def test_history_is_truncated_to_a_step_and_loses_a_partial_line(tmp_path):
    workdir = open_workdir(TrainConfig(workdir=str(tmp_path / "run")))
    for step in range(1, 6):
        workdir.log(step=step, loss=1.0 / step)
    with open(workdir.path / "metrics.jsonl", "a", encoding="utf-8") as log:
        log.write('{"step": 6, "lo')  # as after a kill in the middle of a write
    assert [line["step"] for line in workdir.history()] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in workdir.truncate_history(3)] == [1, 2, 3]
    assert (workdir.path / "metrics.jsonl").read_text(encoding="utf-8").count("\n") == 3


def test_new_folders_never_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # All three start in the same second.
    monkeypatch.setattr(workdir_lib.time, "strftime", lambda _: "now")
    assert len({open_workdir(TrainConfig()).path for _ in range(3)}) == 3


def test_members_trained_earlier_may_be_in_the_folder_of_a_new_repetition(tmp_path):
    (tmp_path / "run" / "members" / "fold_0").mkdir(parents=True)
    config = TrainConfig(workdir=str(tmp_path / "run"), folds=2)
    assert open_workdir(config).path == tmp_path / "run"


def test_a_file_in_a_workdir_stands_for_it(tmp_path):
    run = tmp_path / "run"
    for name in ("model/model.onnx", "model/saved_model/variables/variables.index", "report.html"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"")
        assert workdir_lib.locate(run / name) == run / name, "it is no workdir yet"
    (run / "config.json").write_text("{}", encoding="utf-8")
    files = [path for path in run.rglob("*") if path.name != "config.json"]
    assert len(files) == 6
    for path in [run, run / "config.json", *files]:
        assert workdir_lib.locate(path) == run, path
    # It is in model/, but who looks for it names it so.
    assert workdir_lib.locate(run / "model.keras") == run
    # A misspelt name is no file of the run.
    assert workdir_lib.locate(run / "members") == run / "members"
    assert workdir_lib.locate(tmp_path / "other") == tmp_path / "other"


def test_files_stand_for_their_runs_in_every_setting(tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for name in ("config.json", "report.html", "model/model.keras"):
        (run / name).write_text("{}", encoding="utf-8")
    for name in ("report.html", "model/model.keras", "model.keras", "model.onnx"):
        path = str(run / name)
        config = workdir_lib.locate_runs(TrainConfig(workdir=path, init_from=path, teacher=path))
        assert {config.workdir, config.init_from, config.teacher} == {str(run)}, name
    # Folders stay: a run may be begun in that of another.
    for path in (run, run / "model", run / "members", tmp_path / "new"):
        config = TrainConfig(workdir=str(path), init_from=str(path))
        assert workdir_lib.locate_runs(config) == config
    assert workdir_lib.locate_runs(TrainConfig()) == TrainConfig()


def test_no_command_is_given_that_trains_into_a_file(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    for name in ("model.keras", "notes.txt", "missing.onnx"):
        message = str(workdir_lib.unfinished_error(tmp_path / name))
        assert "lies in no run" in message
        assert "trainer.main" not in message


def test_the_resume_command_has_the_settings_that_were_given(tmp_path):
    config = TrainConfig(
        workdir=str(tmp_path / "a run"), epochs=3, horizontal_flip=False, class_weights=True
    )
    path = open_workdir(config).path
    command = workdir_lib.resume_command(path)
    assert command == (
        f"python -m trainer.main --epochs=3 --class_weights --nohorizontal_flip '--workdir={path}'"
    )
    # Without a run it starts one.
    assert workdir_lib.resume_command(tmp_path / "new").endswith(f" --workdir={tmp_path / 'new'}")
