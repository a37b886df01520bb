"""Tests of a full disk, a read-only folder, and damaged records and checkpoints.

Each gives one clear line, and saved files stay intact.
"""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.data.sets import open_set
from trainer.config import TrainConfig
from trainer.data import records
from trainer.data.prepared import PreparedDataset
from trainer.data.run import open_run
from trainer.errors import UserError
from trainer.experiments.run import train_and_evaluate
from trainer.training import checkpoint, input_pipeline

resource = pytest.importorskip("resource", reason="limits on files are POSIX")


@contextlib.contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Makes writes beyond `size` bytes fail, as on a full disk.

    Python ignores the signal that accompanies the failure.
    """
    # (soft, hard); only the soft limit changes.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Makes a folder read-only; root needs a mount for that, which may be forbidden."""
    if os.geteuid():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("root can write everywhere")
    mount = ["mount", "--bind", "-o", "ro", folder, folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("root can write everywhere, and may not mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(512)])


@pytest.fixture
def checkpoints(model, tmp_path) -> checkpoint.Checkpoints:
    """Checkpoints of steps 1 and 2, in tmp_path.

    All weights are 1 in the first and 2 in the second; the model ends with 3.
    """
    optimizer = keras.optimizers.Adam()
    # Its slots are part of a checkpoint.
    optimizer.build(model.trainable_variables)
    saved = checkpoint.Checkpoints(tmp_path, model, optimizer)
    for step in (1, 2, 3):
        model.set_weights([np.full_like(values, step) for values in model.get_weights()])
        if step < 3:
            saved.save(step)
    return saved


def first_weight(model: keras.Model) -> float:
    return float(model.get_weights()[0][0, 0])


def test_full_disk_gives_one_line_and_the_earlier_checkpoint_is_intact(checkpoints, model):
    with (
        limit_file_size(50_000),
        pytest.raises(UserError, match=r"step-00000003 cannot be written.*make room") as caught,
    ):
        checkpoints.save(3)
    assert "\n" not in str(caught.value)
    assert checkpoints.restore() == 2
    assert first_weight(model) == 2
    # With room again, saving works.
    checkpoints.save(3)
    assert checkpoints.restore() == 3


@pytest.mark.parametrize("ending", [".data-00000-of-00001", ".index", ".json"])
@pytest.mark.parametrize("size", [0, 20])
def test_truncated_checkpoint_is_reported_and_skipped(
    checkpoints, model, tmp_path, capfd, ending, size
):
    # Each of the three files of a checkpoint, empty or cut.
    os.truncate(tmp_path / f"step-00000002{ending}", size)
    assert checkpoints.restore() == 1
    assert first_weight(model) == 1
    assert "step-00000002 is damaged" in capfd.readouterr().err


@pytest.fixture
def damaged_set(tiny_data_dir, tmp_path) -> PreparedDataset:
    """The tiny set with one byte of a training record changed."""
    # Other tests share the original.
    shutil.copytree(tiny_data_dir, tmp_path / "data")
    data = open_set(tmp_path / "data")
    path = data.builder.info.splits["train"].filepaths[0]
    content = bytearray(path.read_bytes())
    # The checksum of the record no longer fits.
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return data


@pytest.mark.parametrize(
    "read",
    [
        lambda builder: records.read(builder, "train"),
        lambda builder: input_pipeline.load(builder, "train", 64, cache="memory"),
        lambda builder: input_pipeline.load(builder, "train", 64, cache="disk"),
        lambda builder: input_pipeline.load(builder, "train", 64, cache="none"),
    ],
    ids=["audit", "memory", "disk", "none"],
)
def test_damaged_record_gives_one_line_that_names_the_set(damaged_set, read):
    builder = damaged_set.builder
    message = r"records of train in .*covid_xray.* are damaged .*corrupted.*prepared anew"
    with pytest.raises(UserError, match=message) as caught:
        read(builder)
    assert "\n" not in str(caught.value)
    # No partial cache remains.
    assert not list(builder.data_path.glob("*.part"))


def test_read_only_workdir_gives_one_line(tiny_data_dir, tmp_path):
    workdir = tmp_path / "run"
    config = TrainConfig(dataset="covid_xray", data_dir=str(tiny_data_dir), workdir=str(workdir))
    # The first call creates the workdir.
    open_run(config, requested=config)
    with (
        read_only(workdir),
        pytest.raises(UserError, match=r"cannot write to .*run; use a --workdir") as caught,
    ):
        open_run(config, requested=config)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_run_on_a_full_disk_stops_with_one_line_and_resumes_to_the_same_result(
    tiny_data_dir, tmp_path, monkeypatch
):
    config = TrainConfig(
        dataset="covid_xray",
        data_dir=str(tiny_data_dir),
        model="compact",
        image_size=48,
        batch_size=8,
        epochs=4,
        checkpoint_every_steps=2,
        workdir=str(tmp_path / "whole"),
    )
    whole = train_and_evaluate(config)
    interrupted = dataclasses.replace(config, workdir=str(tmp_path / "interrupted"))
    save = checkpoint.Checkpoints.save
    steps = []

    def save_with_little_room(self: checkpoint.Checkpoints, step: int) -> None:
        steps.append(step)
        # The fourth checkpoint meets the full disk.
        room = limit_file_size(100_000) if len(steps) == 4 else contextlib.nullcontext()
        with room:
            save(self, step)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", save_with_little_room)
    with pytest.raises(UserError, match="cannot be written") as caught:
        train_and_evaluate(interrupted)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    folder = tmp_path / "interrupted" / "checkpoints"
    # The three earlier ones are complete; the fourth left nothing.
    assert checkpoint.complete_steps(folder, "step") == steps[:3]
    resumed = train_and_evaluate(interrupted)
    # Equal to the bit, as if the disk had never been full.
    assert resumed.metrics["weights_sha256"] == whole.metrics["weights_sha256"]
    assert resumed.workdir.history() == whole.workdir.history()
