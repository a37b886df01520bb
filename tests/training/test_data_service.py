"""Tests of batches from tf.data service, with real servers on 127.0.0.1."""

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT, build_shards, run_command, write_set
from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.errors import UserError
from trainer.experiments.run import train_and_evaluate
from trainer.training import data_service, input_pipeline, models, steps
from trainer.workdir import Workdir

COUNTS = {
    ("Train", "covid"): 34,
    ("Train", "non_covid"): 30,
    ("Test", "covid"): 4,
    ("Test", "non_covid"): 4,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data_dir with a set of 64 training images in 4 shards."""
    folder = tmp_path_factory.mktemp("served")
    write_set(folder / "set", COUNTS)
    build_shards(folder, shards=4)
    return folder / "data"


@pytest.fixture
def service():
    """The address of a dispatcher with two input machines, in this process."""
    api = tf.data.experimental.service
    dispatcher = api.DispatchServer()
    address = dispatcher.target.split("://")[1]
    config = api.WorkerConfig(dispatcher_address=address)
    workers = [api.WorkerServer(config) for _ in range(2)]
    yield dispatcher.target.replace("localhost", "127.0.0.1")
    # They stop when they are freed.
    del workers


@pytest.fixture
def train(data_dir):
    config = TrainConfig(dataset="covid_xray", data_dir=str(data_dir), prepared_side=64)
    data = prepared.open_from_config(config)
    return input_pipeline.load(data.builder, "train", 64, "none")


def make_config(data_dir, service, tmp_path, **settings) -> TrainConfig:
    return TrainConfig(
        dataset="covid_xray",
        data_dir=str(data_dir),
        prepared_side=64,
        image_size=64,
        model="compact",
        epochs=2,
        batch_size=8,
        data_service=service,
        workdir=str(tmp_path / "run"),
        group_copies=False,
        checkpoint_every_steps=2,
        **settings,
    )


def test_two_machines_share_the_images_with_new_views_and_noise_each_time(
    train, service, data_dir, tmp_path
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}", encoding="utf-8")
    # Without shear: zoom alone shows that views differ.
    config = models.resolve(make_config(data_dir, service, tmp_path, shear=0.0, zoom=0.1, seed=3))
    served = data_service.batches(config, Workdir(tmp_path / "run"), train, step=0, workers=1)
    batches = list(served.take(8 * 8).as_numpy_iterator())  # eight epochs of 64 images
    counts = np.bincount(np.concatenate([batch["index"] for batch in batches]), minlength=64)
    # Eight epochs, less the images in windows: the speed of the machines varies.
    assert counts.min() >= 3
    assert counts.max() <= 13
    for batch in batches:
        assert batch["image"].shape == (8, 64, 64, 1)
        assert batch["image"].dtype == np.float32
        np.testing.assert_array_equal(batch["label"], train.labels[batch["index"]])
    # No example of the run gets the noise of another.
    seeds = np.concatenate([batch["noise_seed"] for batch in batches])
    assert len(np.unique(seeds, axis=0)) == len(seeds)
    # All views of one image.
    views = np.concatenate([batch["image"][batch["index"] == 5] for batch in batches])
    assert len(views) > 1
    assert (views[1:] != views[0]).any()


def test_every_image_comes_once_an_epoch_but_for_those_in_the_window(train):
    config = TrainConfig(batch_size=8, seed=3, horizontal_flip=False, shear=0.0, zoom=0.0)
    batches = list(data_service.pipeline(train, config).take(16).as_numpy_iterator())
    counts = np.bincount(np.concatenate([batch["index"] for batch in batches]), minlength=64)
    # Two epochs; a window of 16 moves images between them.
    assert counts.max() <= 3
    assert np.abs(counts - 2).sum() <= 2 * 64 // 4
    # Without augmentation the pixels are those of the records.
    images = train.images[batches[0]["index"]].astype(np.float32)
    np.testing.assert_array_equal(batches[0]["image"], images)


@pytest.mark.slow
def test_exact_resume_of_a_served_run_is_refused_in_one_line(
    service, data_dir, tmp_path, monkeypatch
):
    config = make_config(data_dir, service, tmp_path)
    make_train_step = steps.make_train_step

    def make_interrupted_step(*arguments):
        train_step = make_train_step(*arguments)
        calls = []

        def interrupted_step(batch):
            calls.append(1)
            # After five steps, so the last checkpoint is of step 4.
            if len(calls) == 6:
                raise KeyboardInterrupt
            return train_step(batch)

        return interrupted_step

    monkeypatch.setattr(steps, "make_train_step", make_interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config)
    # From here on as in a new process.
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"exact resume is refused.*step 4") as caught:
        train_and_evaluate(config)
    assert "\n" not in str(caught.value)
    # The message says that the run can go on without the service.
    unserved = dataclasses.replace(config, data_service=None)
    history = train_and_evaluate(unserved).workdir.history()
    # No step is missing and none is logged twice.
    logged = [line["step"] for line in history if "epoch" not in line]
    assert logged == list(range(1, len(logged) + 1))
    assert len(logged) > 6


def test_dispatcher_that_does_not_answer_is_one_line(data_dir, tmp_path):
    # Nobody listens on port 1.
    message = r"grpc://127.0.0.1:1 does not answer.*trainer.input_server --port=1"
    with pytest.raises(UserError, match=message):
        train_and_evaluate(make_config(data_dir, "grpc://127.0.0.1:1", tmp_path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data_service": "localhost"}, "grpc://HOST:PORT"),
        ({"data_service": "grpc://h:1", "cache": "disk"}, "--cache=disk"),
    ],
)
def test_settings_that_cannot_be_served_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**values)


@contextlib.contextmanager
def start_server(*flags: str) -> Iterator[str]:
    """Runs an input server as a process: yields its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.input_server", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_servers_in_other_processes_feed_a_run_to_its_end(data_dir, tmp_path):
    # One dispatcher, then two input machines that it sends their tasks.
    with start_server("--name=127.0.0.1") as dispatcher_line:
        url = dispatcher_line.split("--data_service=")[1].strip()
        address = url.removeprefix("grpc://")
        worker_flags = ("--name=127.0.0.1", f"--dispatcher={address}")
        with start_server(*worker_flags) as first, start_server(*worker_flags) as second:
            # The address is that of the dispatcher, in both.
            assert first == second == f"making batches for {address}\n"
            done = run_command(
                "-m",
                "trainer.main",
                "--dataset=covid_xray",
                f"--data_dir={data_dir}",
                "--prepared_side=64",
                "--image_size=64",
                "--model=compact",
                "--epochs=3",
                "--batch_size=8",
                "--nogroup_copies",
                f"--workdir={tmp_path / 'run'}",
                f"--data_service={url}",
            )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "images are kept: none" in done.stdout
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"), [(("--dispatcher=here",), "give HOST:PORT"), (("x",), "is not a flag")]
)
def test_mistakes_at_the_input_server_are_one_line(flags, message):
    done = run_command("-m", "trainer.input_server", *flags)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
