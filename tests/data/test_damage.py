"""A full disk, a read-only folder, damaged records and checkpoints: one clear line, and what was saved is intact."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from trainer.config import TrainConfig
from trainer.data import prepared, records
from trainer.errors import UserError
from trainer.training import checkpoint, input_pipeline, loop

resource = pytest.importorskip("resource", reason="limits on files are POSIX")


@contextlib.contextmanager
def files_no_larger_than(size: int):
    """Within, a write beyond `size` bytes fails as on a full disk (Python ignores the signal that goes with it)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def kept(tmp_path) -> checkpoint.Checkpoints:
    """Checkpoints of steps 1 and 2, in tmp_path; the weights are all 1, then all 2, and 3 at the end."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512)])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    found = checkpoint.Checkpoints(tmp_path, model, optimizer)
    for step in (1, 2, 3):
        model.set_weights([np.full_like(values, step) for values in model.get_weights()])
        if step < 3:
            found.save(step)
    found.model = model
    return found


def weight(kept: checkpoint.Checkpoints) -> float:
    return float(kept.model.get_weights()[0][0, 0])


def test_a_full_disk_is_one_line_and_the_checkpoint_before_is_intact(kept):
    with (
        files_no_larger_than(50_000),
        pytest.raises(UserError, match=r"step-00000003 cannot be written.*make room") as caught,
    ):
        kept.save(3)
    assert "\n" not in str(caught.value)
    assert kept.restore() == 2 and weight(kept) == 2
    kept.save(3)
    assert kept.restore() == 3


@pytest.mark.parametrize("ending", [".data-00000-of-00001", ".index", ".json"])
@pytest.mark.parametrize("left", [0, 20])
def test_a_truncated_checkpoint_is_named_and_passed_over(kept, tmp_path, capfd, ending, left):
    os.truncate(tmp_path / f"step-00000002{ending}", left)
    assert kept.restore() == 1 and weight(kept) == 1
    assert "step-00000002 is damaged and passed over" in capfd.readouterr().err


@pytest.fixture
def damaged(tiny_data_dir, tmp_path):
    """The tiny set with one byte of a training record changed."""
    shutil.copytree(tiny_data_dir, tmp_path / "data")
    data = prepared.open_dataset("covid_xray", data_dir=str(tmp_path / "data"))
    path = data.builder.info.splits["train"].filepaths[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return data


@pytest.mark.parametrize(
    "read",
    [
        lambda builder: records.read(builder, "train"),
        *(
            lambda builder, cache=cache: input_pipeline.load(builder, "train", 64, cache)
            for cache in ("memory", "disk", "none")
        ),
    ],
    ids=["audit", "memory", "disk", "none"],
)
def test_a_damaged_record_is_one_line_that_names_the_set(damaged, read):
    with pytest.raises(
        UserError,
        match=r"records of train in .*covid_xray.* are damaged .*corrupted.*prepared anew",
    ) as caught:
        read(damaged.builder)
    assert "\n" not in str(caught.value) and not list(damaged.builder.data_path.glob("*.part"))


def test_a_workdir_that_can_only_be_read_is_one_line(tiny_data_dir, tmp_path):
    config = TrainConfig(
        dataset="covid_xray", data_dir=str(tiny_data_dir), workdir=str(tmp_path / "run")
    )
    loop.open_run(config)
    with (
        read_only(tmp_path / "run"),
        pytest.raises(UserError, match=r"cannot write to .*run; use a --workdir") as caught,
    ):
        loop.open_run(config)
    assert "\n" not in str(caught.value)


@contextlib.contextmanager
def read_only(folder):
    """Within, nothing can be written to a folder; root needs a mount for that, which must be allowed."""
    if os.geteuid():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("root can write everywhere")
    if subprocess.run(
        ["mount", "--bind", "-o", "ro", folder, folder], capture_output=True
    ).returncode:
        pytest.skip("root can write everywhere, and may not mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_run_whose_disk_fills_up_stops_with_one_line_and_ends_as_if_it_had_not(
    tiny_data_dir, tmp_path
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
    whole = loop.train_and_evaluate(config)
    filled = dataclasses.replace(config, workdir=str(tmp_path / "filled"))
    save, saved = checkpoint.Checkpoints.save, []

    def filling(self, step):
        saved.append(step)
        with files_no_larger_than(100_000) if len(saved) == 4 else contextlib.nullcontext():
            save(self, step)

    with (
        pytest.MonkeyPatch.context() as patched,
        pytest.raises(UserError, match="cannot be written") as caught,
    ):
        patched.setattr(checkpoint.Checkpoints, "save", filling)
        loop.train_and_evaluate(filled)
    assert (
        "\n" not in str(caught.value)
        and checkpoint.sealed_steps(tmp_path / "filled" / "checkpoints", "step") == saved[:3]
    )
    resumed = loop.train_and_evaluate(filled)
    assert resumed.metrics["weights_sha256"] == whole.metrics["weights_sha256"]
    assert resumed.workdir.history() == whole.workdir.history()
