"""Batches from tf.data service: real servers on 127.0.0.1, every image once an epoch, and no exact resume."""

import contextlib
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT, run_command, write_set
from trainer.config import TrainConfig, resolved
from trainer.data import prepared
from trainer.errors import UserError
from trainer.training import data_service, input_pipeline, loop, steps
from trainer.training.augment import Limits
from trainer.workdir import Workdir

LIMITS = Limits(horizontal_flip=True, zoom=0.1)
PARTS = {
    ("Train", "covid"): 34,
    ("Train", "non_covid"): 30,
    ("Test", "covid"): 4,
    ("Test", "non_covid"): 4,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data_dir with a set of 64 training images in 4 shards."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("served")
    write_set(folder / "set", PARTS)
    made = prepared.load_builder_module("covid_xray").Builder(
        data_dir=str(folder / "data"), config="gray64"
    )
    made.download_and_prepare(
        download_dir=str(folder),
        file_format="tfrecord",
        download_config=tfds.download.DownloadConfig(manual_dir=str(folder / "set"), num_shards=4),
    )
    return folder / "data"


@pytest.fixture
def service():
    """The address of a dispatcher with two input machines, in this process."""
    parts = tf.data.experimental.service
    dispatcher = parts.DispatchServer()
    workers = [
        parts.WorkerServer(parts.WorkerConfig(dispatcher_address=dispatcher.target.split("://")[1]))
        for _ in range(2)
    ]
    yield dispatcher.target.replace("localhost", "127.0.0.1")
    del workers


@pytest.fixture
def train(data_dir):
    data = prepared.open_dataset("covid_xray", data_dir=str(data_dir), config_name="gray64")
    return input_pipeline.load(data.builder, "train", 64, "none")


def config_of(data_dir, service, tmp_path, **more) -> TrainConfig:
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
        **{"checkpoint_every_steps": 2, **more},
    )


def test_two_machines_share_the_images_out_and_each_time_they_have_another_view_and_noise(
    train, service, data_dir, tmp_path
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    config = resolved(config_of(data_dir, service, tmp_path))
    found = data_service.batches(config, Workdir(tmp_path / "run"), train, LIMITS, 0, 1)
    batches = list(found.take(8 * 8).as_numpy_iterator())
    times = np.bincount(np.concatenate([batch["index"] for batch in batches]), minlength=64)
    assert (
        times.min() >= 3 and times.max() <= 13
    )  # Eight epochs, less what is on the way: it varies with the machines' speed.
    for batch in batches:
        assert batch["image"].shape == (8, 64, 64, 1) and batch["image"].dtype == np.float32
        np.testing.assert_array_equal(batch["label"], train.labels[batch["index"]])
    seeds = np.concatenate([batch["noise_seed"] for batch in batches])
    assert len(np.unique(seeds, axis=0)) == len(seeds)
    views = [
        image
        for batch in batches
        for image, place in zip(batch["image"], batch["index"], strict=True)
        if place == 5
    ]
    assert len(views) > 1 and any((view != views[0]).any() for view in views[1:])


def test_every_image_comes_once_an_epoch_but_for_those_in_the_window(train):
    batches = list(data_service.pipeline(train, Limits(), 8, 3).take(16).as_numpy_iterator())
    times = np.bincount(np.concatenate([batch["index"] for batch in batches]), minlength=64)
    assert times.max() <= 3 and np.abs(times - 2).sum() <= 2 * 64 // 4
    plain = train.images[batches[0]["index"]].astype(np.float32)
    np.testing.assert_array_equal(batches[0]["image"], plain)


@pytest.mark.slow
def test_a_run_is_fed_and_its_exact_resume_is_refused_in_one_line(
    service, data_dir, tmp_path, monkeypatch
):
    config, make = config_of(data_dir, service, tmp_path), steps.make_train_step

    def stopping(*arguments):
        step, taken = make(*arguments), []

        def counted(batch):
            taken.append(1)
            if len(taken) == 6:
                raise KeyboardInterrupt
            return step(batch)

        return counted

    monkeypatch.setattr(steps, "make_train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        loop.train_and_evaluate(config)
    monkeypatch.setattr(steps, "make_train_step", make)
    with pytest.raises(UserError, match=r"exact resume is refused.*step 4") as caught:
        loop.train_and_evaluate(config)
    assert "\n" not in str(caught.value)
    own = dataclasses.replace(config, data_service=None)  # As the message says.
    logged = [
        line["step"]
        for line in loop.train_and_evaluate(own).workdir.history()
        if "epoch" not in line
    ]
    assert logged == list(range(1, len(logged) + 1)) and len(logged) > 6


def test_a_dispatcher_that_does_not_answer_is_one_line(data_dir, tmp_path):
    with pytest.raises(
        UserError, match=r"grpc://127.0.0.1:1 does not answer.*trainer.input_server --port=1"
    ):
        loop.train_and_evaluate(config_of(data_dir, "grpc://127.0.0.1:1", tmp_path))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"data_service": "localhost"}, "grpc://HOST:PORT"),
        ({"data_service": "grpc://h:1", "cache": "disk"}, "--cache=disk"),
    ],
)
def test_what_cannot_be_served_is_refused(values, words):
    with pytest.raises(UserError, match=words):
        TrainConfig(**values)


@contextlib.contextmanager
def serving(*flags: str):
    """An input server as a process: yields its first line."""
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
def test_servers_in_processes_of_their_own_feed_a_run_to_its_end(data_dir, tmp_path):
    with serving("--name=127.0.0.1") as said:
        address = said.split("--data_service=")[1].strip()
        place = address.removeprefix("grpc://")
        with (
            serving("--name=127.0.0.1", f"--dispatcher={place}") as one,
            serving("--name=127.0.0.1", f"--dispatcher={place}") as other,
        ):
            assert one == other == f"making batches for {place}\n"
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
                f"--data_service={address}",
            )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "images are kept: none" in done.stdout and (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    "flags, words", [(("--dispatcher=here",), "give HOST:PORT"), (("x",), "is not a flag")]
)
def test_mistakes_at_the_input_server_are_one_line(flags, words):
    done = run_command("-m", "trainer.input_server", *flags)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
