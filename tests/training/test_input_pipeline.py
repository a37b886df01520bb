"""Tests of the batches: a pure function of (seed, step), with nothing dropped or repeated."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.training import aligned, distribution, input_pipeline
from trainer.training.input_pipeline import Examples

PLAIN = TrainConfig(batch_size=4, seed=3, horizontal_flip=False, shear=0.0, zoom=0.0)
AUGMENTED = dataclasses.replace(PLAIN, horizontal_flip=True, zoom=0.2)


def make_examples(count: int = 11, side: int = 8) -> Examples:
    rng = np.random.default_rng(0)
    return Examples(
        rng.integers(0, 256, (count, side, side, 1)).astype(np.uint8),
        np.arange(count, dtype=np.int32) % 3,
        np.array([f"g{i // 2}" for i in range(count)]),
        np.array([f"f{i}" for i in range(count)]),
    )


def make_indices(count: int, batch: int, seed: int, first: int, steps: int) -> np.ndarray:
    batches = input_pipeline.index_batches(count, batch, seed, first).take(steps)
    return np.concatenate(list(batches.as_numpy_iterator()))


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 2**31 - 1))
def test_batches_are_consecutive_slices_of_permutations(count, batch, seed):
    steps = -(-3 * count // batch)  # three epochs, rounded up
    indices = make_indices(count, batch, seed, 0, steps)
    # Each slice of `count` indices is one epoch, wherever batches end.
    for epoch in range(len(indices) // count):
        assert sorted(indices[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(st.integers(2, 40), st.integers(1, 16), st.integers(0, 20))
def test_run_can_start_at_any_step(count, batch, first):
    # Entering later gives the tail of the whole run.
    whole = make_indices(count, batch, 5, 0, first + 3)
    np.testing.assert_array_equal(whole[first * batch :], make_indices(count, batch, 5, first, 3))


def test_epochs_and_seeds_give_other_orders():
    indices = make_indices(30, 10, 1, 0, 6)
    # Two epochs of 30 images.
    assert not np.array_equal(indices[:30], indices[30:])
    assert not np.array_equal(indices, make_indices(30, 10, 2, 0, 6))


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 64))
def test_steps_cover_every_epoch_and_waste_less_than_a_batch(count, epochs, batch):
    epoch_ends = input_pipeline.epoch_end_steps(count, epochs, batch)
    assert len(epoch_ends) == epochs
    assert epoch_ends == sorted(epoch_ends)
    for epoch, end in enumerate(epoch_ends, start=1):
        # Each epoch ends with the batch that completes it.
        assert 0 <= end * batch - epoch * count < batch


def test_resumed_batches_equal_those_of_a_whole_run():
    batches = input_pipeline.training_batches(make_examples(), AUGMENTED).take(6)
    resumed = input_pipeline.training_batches(make_examples(), AUGMENTED, first_step=4).take(2)
    whole = list(batches.as_numpy_iterator())
    for expected, batch in zip(whole[4:], resumed.as_numpy_iterator(), strict=True):
        for name in expected:
            np.testing.assert_array_equal(expected[name], batch[name])
    # Noise is never repeated, not even for the same image.
    seeds = np.concatenate([batch["noise_seed"] for batch in whole])
    assert len(np.unique(seeds, axis=0)) == len(seeds)


def test_batch_has_the_images_and_labels_of_its_examples():
    examples = make_examples()
    batch = next(input_pipeline.training_batches(examples, PLAIN).as_numpy_iterator())
    # Nothing is augmented, so pixels are equal.
    images = examples.images[batch["index"]].astype(np.float32)
    np.testing.assert_array_equal(batch["image"], images)
    np.testing.assert_array_equal(batch["label"], examples.labels[batch["index"]])


def test_every_image_is_evaluated_once_and_padding_is_counted():
    images = make_examples().images
    batches = list(input_pipeline.evaluation_batches(images, 4))
    assert [count for _, count in batches] == [4, 4, 3]  # 11 images
    evaluated = np.concatenate([batch[:count] for batch, count in batches])
    np.testing.assert_array_equal(evaluated, images)
    for batch, _ in batches:
        assert batch.shape[0] == 4
        assert batch.dtype == np.float32


def test_prepared_set_is_loaded_in_order_of_its_filenames(tiny_data_dir):
    config = TrainConfig(dataset="covid_xray", data_dir=str(tiny_data_dir))
    data = prepared.open_from_config(config)
    examples = input_pipeline.load(data.builder, "train", 64)
    assert examples.images.shape == (26, 64, 64, 1)
    assert examples.images.dtype == np.uint8
    assert list(examples.filenames) == sorted(examples.filenames)
    is_covid = [name.split("/")[1] == "covid" for name in examples.filenames]
    assert is_covid == [bool(label) for label in examples.labels]
    # Two images of each patient.
    assert len(set(examples.groups)) == 13


def test_default_strategy_distributes_whole_batches():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    batches = input_pipeline.training_batches(make_examples(), PLAIN)
    distributed = next(distribution.distribute(distribution.Workers(strategy), batches, 4))
    # One replica gets the global batch as it is.
    expected = next(batches.as_numpy_iterator())["index"]
    np.testing.assert_array_equal(distributed["index"], expected)


def test_prefetcher_reads_ahead_and_raises_an_error_at_its_turn():
    fetched = threading.Semaphore(0)

    def elements():
        for number in range(3):
            fetched.release()
            yield number
        raise ValueError("a damaged record")

    prefetcher = distribution.Prefetcher(elements())
    assert fetched.acquire(timeout=10)  # before the first next()
    for number in range(3):
        assert next(prefetcher) == number
        # The next element is fetched before it is asked for.
        assert number == 2 or fetched.acquire(timeout=10)
    with pytest.raises(ValueError, match="a damaged record"):
        next(prefetcher)


def test_thread_of_a_prefetcher_ends_with_it():
    prefetcher = distribution.Prefetcher(itertools.count())
    assert next(prefetcher) == 0
    thread = next(iter(prefetcher._thread._threads))
    assert thread.is_alive()
    del prefetcher
    # The executor ends its thread when it is freed.
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_aligned_images_are_shared_with_tensorflow_and_others_copied():
    images = make_examples().images
    mask = np.arange(len(images)) % 2 == 0
    assert aligned.take(images, mask).shape == images[::2].shape
    taken = aligned.take(images, np.array([3, 0, -1]))
    np.testing.assert_array_equal(taken, images[[3, 0, -1]])
    tensor = aligned.as_tensor(taken)
    # The tensor shows the change: it is the same memory.
    taken[0, 0, 0, 0] ^= 255
    np.testing.assert_array_equal(tensor, taken)
    # None of these can be shared: not aligned, with gaps, empty, read-only.
    read_only = np.broadcast_to(taken[:1], (2, *taken.shape[1:]))
    for array in (taken[1:], taken[:, 1:], images[:0], read_only):
        np.testing.assert_array_equal(aligned.as_tensor(array), array)
    with pytest.raises(IndexError):
        aligned.take(images, np.array([len(images)]))
