"""Images in memory, in a file, and left in their records: the same numbers, an order that can be entered anywhere."""

import dataclasses

import numpy as np
import pytest

from tests.conftest import write_set
from trainer import workdir
from trainer.data import prepared, records
from trainer.errors import UserError
from trainer.training import input_pipeline, large_sets
from trainer.training.augment import Limits


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """A set of 90 training images in 7 shards."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("sharded")
    write_set(
        folder / "set",
        {
            ("Train", "covid"): 50,
            ("Train", "non_covid"): 40,
            ("Test", "covid"): 4,
            ("Test", "non_covid"): 4,
        },
    )
    module = prepared.load_builder_module("covid_xray")
    made = module.Builder(data_dir=str(folder / "data"), config="gray64")
    made.download_and_prepare(
        download_dir=str(folder),
        file_format="tfrecord",
        download_config=tfds.download.DownloadConfig(manual_dir=str(folder / "set"), num_shards=7),
    )
    assert len(made.info.splits["train"].shard_lengths) == 7
    return made


def batches(examples, count: int, first: int = 0, worker: int = 0, workers: int = 1) -> list[dict]:
    found = input_pipeline.training_batches(
        examples, Limits(horizontal_flip=True, shear=0.1), 8, 5, first, worker, workers
    )
    return list(found.take(count).as_numpy_iterator())


def assert_same(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("side", [64, 40])
def test_a_file_gives_the_same_batches_as_memory(builder, side):
    memory, disk = (
        input_pipeline.load(builder, "train", side, cache) for cache in ("memory", "disk")
    )
    assert isinstance(disk.images, large_sets.DiskImages)
    np.testing.assert_array_equal(disk.images[:], memory.images)
    np.testing.assert_array_equal(disk.filenames, memory.filenames)
    assert_same(batches(disk, 15), batches(memory, 15))
    half = np.arange(0, 90, 2)
    assert_same(batches(disk.take(half), 8), batches(memory.take(half), 8))


@pytest.mark.parametrize("side", [64, 40])
def test_records_hold_the_same_squares(builder, side):
    memory, left = (
        input_pipeline.load(builder, "train", side, cache) for cache in ("memory", "none")
    )
    place = {name: index for index, name in enumerate(memory.filenames)}
    same = memory.take(np.array([place[name] for name in left.filenames]))
    np.testing.assert_array_equal(left.labels, same.labels)
    np.testing.assert_array_equal(left.images[np.array([88, 3, 40])], same.images[[88, 3, 40]])
    read = [batch[:real] for batch, real in input_pipeline.evaluation_batches(left.images, 16)]
    np.testing.assert_array_equal(np.concatenate(read), same.images)


@pytest.mark.parametrize("window", [16, 1024])
def test_every_record_comes_once_an_epoch_in_an_order_that_changes(builder, monkeypatch, window):
    monkeypatch.setattr(large_sets, "WINDOW", window)
    part = np.flatnonzero(np.arange(90) % 5)  # Some are held out.
    train = input_pipeline.load(builder, "train", 64, "none").take(part)
    seen = np.concatenate([batch["index"] for batch in batches(train, 27)])
    epochs = seen[:216].reshape(3, 72)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(72))
    assert (epochs[0] != epochs[1]).mean() > 0.8 and (epochs[0] != np.arange(72)).mean() > 0.8


@pytest.mark.parametrize("first", [1, 3, 8, 9, 10, 20])
def test_records_can_be_entered_at_any_step_and_dealt_to_workers(builder, monkeypatch, first):
    monkeypatch.setattr(large_sets, "WINDOW", 16)
    train = input_pipeline.load(builder, "train", 64, "none").take(
        np.flatnonzero(np.arange(90) % 5)
    )
    whole = batches(train, 24)
    assert_same(batches(train, 3, first), whole[first : first + 3])
    for worker in (0, 1):
        mine = [
            {name: values[worker * 4 : worker * 4 + 4] for name, values in batch.items()}
            for batch in whole[first : first + 2]
        ]
        assert_same(batches(train, 2, first, worker, 2), mine)
    np.testing.assert_array_equal(
        input_pipeline.indices_at(train, 8, 5, first + 1), whole[first]["index"]
    )


def test_where_images_are_kept_follows_from_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(large_sets, "_free_memory", lambda: 1e9)
    disk = dataclasses.make_dataclass("usage", ["free"])
    monkeypatch.setattr(large_sets.shutil, "disk_usage", lambda _: disk(1e9))
    assert [large_sets.choose(count, 500, tmp_path)[0] for count in (400, 1500, 100_000)] == [
        "memory",
        "disk",
        "none",
    ]


def test_a_run_keeps_to_the_order_it_was_started_with(tmp_path, monkeypatch):
    work = workdir.Workdir(tmp_path)
    assert large_sets.settle(work, "none", 10, 64, tmp_path)[0] == "none"
    assert large_sets.settle(work, "auto", 10, 64, tmp_path)[0] == "none"
    with pytest.raises(UserError, match="--cache=none"):
        large_sets.settle(work, "disk", 10, 64, tmp_path)


def test_of_a_large_split_a_sample_is_audited(builder):
    whole, part = records.read(builder, "train"), records.read(builder, "train", most=20)
    assert len(part) == 20 and whole.remark == "" and "20 of 90" in part.remark
    place = {name: index for index, name in enumerate(whole.filenames)}
    np.testing.assert_array_equal(
        part.images, whole.images[[place[name] for name in part.filenames]]
    )
