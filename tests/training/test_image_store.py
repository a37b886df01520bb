"""Tests of images in memory, on disk and in records: the same values, entered at any step."""

import dataclasses
import math

import numpy as np
import pytest

from tests.conftest import build_shards, write_set
from trainer.config import TrainConfig
from trainer.data import records
from trainer.errors import UserError
from trainer.training import image_store, input_pipeline, record_images
from trainer.training.image_store import DiskImages
from trainer.workdir import Workdir

CONFIG = TrainConfig(batch_size=8, seed=5, horizontal_flip=True, shear=math.degrees(0.1), zoom=0.0)
COUNTS = {
    ("Train", "covid"): 50,
    ("Train", "non_covid"): 40,
    ("Test", "covid"): 4,
    ("Test", "non_covid"): 4,
}


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """A set of 90 training images in 7 shards."""
    folder = tmp_path_factory.mktemp("sharded")
    write_set(folder / "set", COUNTS)
    builder = build_shards(folder, shards=7)
    assert len(builder.info.splits["train"].shard_lengths) == 7
    return builder


def read_batches(examples, count: int, first: int = 0, worker: int = 0, workers: int = 1) -> list:
    batches = input_pipeline.training_batches(examples, CONFIG, first, worker, workers)
    return list(batches.take(count).as_numpy_iterator())


def assert_same(batches: list[dict], expected: list[dict]) -> None:
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


@pytest.mark.parametrize("side", [64, 40])
def test_images_on_disk_give_the_batches_of_memory(builder, side):
    memory = input_pipeline.load(builder, "train", side, "memory")
    disk = input_pipeline.load(builder, "train", side, "disk")
    assert isinstance(disk.images, DiskImages)
    np.testing.assert_array_equal(disk.images[:], memory.images)
    # By an int, too.
    np.testing.assert_array_equal(disk.images[3], memory.images[3])
    np.testing.assert_array_equal(disk.filenames, memory.filenames)
    assert_same(read_batches(disk, 15), read_batches(memory, 15))
    # A subset stays on disk.
    half = np.arange(0, 90, 2)
    assert_same(read_batches(disk.take(half), 8), read_batches(memory.take(half), 8))


@pytest.mark.parametrize("side", [64, 40])
def test_records_have_the_same_images(builder, side):
    memory = input_pipeline.load(builder, "train", side, "memory")
    unread = input_pipeline.load(builder, "train", side, "none")
    position = {name: index for index, name in enumerate(memory.filenames)}
    expected = memory.take(np.array([position[name] for name in unread.filenames]))
    np.testing.assert_array_equal(unread.labels, expected.labels)
    few = unread.images[np.array([88, 3, 40])]  # from several shards, not in order
    np.testing.assert_array_equal(few, expected.images[[88, 3, 40]])
    # All of them, the last batch padded.
    batches = input_pipeline.evaluation_batches(unread.images, 16)
    images = np.concatenate([batch[:count] for batch, count in batches])
    np.testing.assert_array_equal(images, expected.images)


@pytest.mark.parametrize("window", [16, 1024])
def test_every_record_comes_once_an_epoch_in_a_changing_order(builder, monkeypatch, window):
    monkeypatch.setattr(record_images, "WINDOW", window)
    subset = np.flatnonzero(np.arange(90) % 5)  # as if some were held out
    train = input_pipeline.load(builder, "train", 64, "none").take(subset)
    indices = np.concatenate([batch["index"] for batch in read_batches(train, 27)])
    epochs = indices[:216].reshape(3, 72)  # three epochs of 72 images
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(72))
    # Chance leaves a few in their place.
    assert (epochs[0] != epochs[1]).mean() > 0.8
    assert (epochs[0] != np.arange(72)).mean() > 0.8


@pytest.mark.parametrize("first", [1, 3, 8, 9, 10, 20])
def test_records_can_be_entered_at_any_step_and_split_over_workers(builder, monkeypatch, first):
    monkeypatch.setattr(record_images, "WINDOW", 16)
    subset = np.flatnonzero(np.arange(90) % 5)
    train = input_pipeline.load(builder, "train", 64, "none").take(subset)
    whole = read_batches(train, 24)  # more than two epochs
    assert_same(read_batches(train, 3, first), whole[first : first + 3])
    # Each worker gets its half of every global batch.
    for worker in (0, 1):
        rows = slice(worker * 4, worker * 4 + 4)
        expected = [
            {name: values[rows] for name, values in batch.items()}
            for batch in whole[first : first + 2]
        ]
        assert_same(read_batches(train, 2, first, worker, 2), expected)
    indices = input_pipeline.batch_indices(train, CONFIG, first + 1)  # counted from 1
    np.testing.assert_array_equal(indices, whole[first]["index"])


@pytest.mark.parametrize(
    ("count", "expected"), [(400, "memory"), (1500, "disk"), (100_000, "none")]
)
def test_cache_follows_from_free_memory_and_disk(tmp_path, monkeypatch, count, expected):
    # A machine with 1 GB of free memory and disk.
    usage = dataclasses.make_dataclass("usage", ["free"])
    monkeypatch.setattr(image_store, "_free_memory", lambda: 1e9)
    monkeypatch.setattr(image_store.shutil, "disk_usage", lambda _: usage(1e9))
    assert image_store.choose_cache(count, 500, tmp_path)[0] == expected


def test_run_stays_with_the_order_it_was_started_with(tmp_path):
    workdir = Workdir(tmp_path)
    assert image_store.resolve_cache(workdir, "none", 10, 64, tmp_path)[0] == "none"
    assert image_store.resolve_cache(workdir, "auto", 10, 64, tmp_path)[0] == "none"
    # An explicit request is refused, auto follows the record.
    with pytest.raises(UserError, match="--cache=none"):
        image_store.resolve_cache(workdir, "disk", 10, 64, tmp_path)


def test_audit_of_a_large_split_reads_a_sample(builder):
    whole = records.read(builder, "train")
    sample = records.read(builder, "train", max_images=20)
    assert len(sample) == 20
    # All were read, so there is nothing to note.
    assert whole.sampling_note == ""
    assert "20 of 90" in sample.sampling_note
    position = {name: index for index, name in enumerate(whole.filenames)}
    expected = whole.images[[position[name] for name in sample.filenames]]
    np.testing.assert_array_equal(sample.images, expected)


def test_records_of_some_filenames_are_those_of_the_whole(builder):
    whole = records.read(builder, "train")
    names = whole.filenames[[5, 80, 41]]
    some = records.read(builder, "train", only=names)
    np.testing.assert_array_equal(some.filenames, np.sort(names))
    np.testing.assert_array_equal(some.images, whole.images[[5, 41, 80]])
    assert some.sampling_note == ""
    # More than an audit takes: the sample is drawn from these names.
    sample = records.read(builder, "train", max_images=2, only=names)
    assert set(sample.filenames) < set(names)
    assert "2 of 3" in sample.sampling_note
