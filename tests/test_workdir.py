"""The workdir: what it holds is never overwritten, and what differs is shown."""

import dataclasses
import json

import pytest

from trainer import workdir
from trainer.config import TrainConfig, resolved
from trainer.errors import UserError

DATA = {"name": "covid_xray", "source_fingerprint": "abc"}


def opened(config: TrainConfig, data: dict = DATA) -> workdir.Workdir:
    return workdir.open_or_create(resolved(config), config, data)


def test_the_first_thing_written_is_what_was_asked(tmp_path):
    config = TrainConfig(workdir=str(tmp_path / "run"), epochs=3)
    work = opened(config)
    record = json.loads((work.path / "config.json").read_text())
    assert record["config"]["epochs"] == 3 and record["config"]["learning_rate"] == 1e-3
    assert record["requested"]["learning_rate"] is None and record["dataset"] == DATA
    assert record["versions"]["tensorflow"] and not work.finished


def test_the_same_settings_open_it_again_and_others_are_refused_with_the_difference(tmp_path):
    config = TrainConfig(workdir=str(tmp_path / "run"))
    before = (opened(config).path / "config.json").read_bytes()
    opened(dataclasses.replace(config, logical_devices=2))
    with pytest.raises(UserError, match="epochs: 13 → 14"):
        opened(dataclasses.replace(config, epochs=14))
    with pytest.raises(UserError, match="data set's files"):
        opened(config, DATA | {"source_fingerprint": "other"})
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="new or empty"):
        opened(TrainConfig(workdir=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write") as caught:
        opened(TrainConfig(workdir=str(tmp_path / "file" / "run")))
    assert "\n" not in str(caught.value)


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        opened(TrainConfig(workdir=str(tmp_path)))


def test_the_history_is_cut_back_to_a_step_and_half_lines_are_dropped(tmp_path):
    work = opened(TrainConfig(workdir=str(tmp_path / "run")))
    for step in range(1, 6):
        work.log(step=step, loss=1.0 / step)
    with open(work.path / "metrics.jsonl", "a") as log:
        log.write('{"step": 6, "lo')
    assert [line["step"] for line in work.history()] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in work.cut_history(3)] == [1, 2, 3]
    assert (work.path / "metrics.jsonl").read_text().count("\n") == 3


def test_new_folders_never_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workdir.time, "strftime", lambda _: "now")
    assert len({opened(TrainConfig()).path for _ in range(3)}) == 3


def test_members_trained_before_do_not_keep_a_repetition_from_its_folder(tmp_path):
    (tmp_path / "run" / "members" / "fold_0").mkdir(parents=True)
    assert opened(TrainConfig(workdir=str(tmp_path / "run"), folds=2)).path == tmp_path / "run"
