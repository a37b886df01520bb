"""Batches as a pure function of (seed, step): nothing dropped, nothing twice, and any step can come first."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.training import distribution, input_pipeline
from trainer.training.augment import Limits
from trainer.training.input_pipeline import Examples


def examples(count: int = 11, side: int = 8) -> Examples:
    rng = np.random.default_rng(0)
    return Examples(
        rng.integers(0, 256, (count, side, side, 1)).astype(np.uint8),
        np.arange(count, dtype=np.int32) % 3,
        np.array([f"g{i // 2}" for i in range(count)]),
        np.array([f"f{i}" for i in range(count)]),
    )


def indices(count: int, batch: int, seed: int, first: int, steps: int) -> np.ndarray:
    return np.concatenate(
        list(input_pipeline.order_of(count, batch, seed, first).take(steps).as_numpy_iterator())
    )


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 2**31 - 1))
def test_batches_are_consecutive_slices_of_permutations(count, batch, seed):
    steps = -(-3 * count // batch)
    found = indices(count, batch, seed, 0, steps)
    for epoch in range(len(found) // count):
        assert sorted(found[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(st.integers(2, 40), st.integers(1, 16), st.integers(0, 20))
def test_any_step_can_come_first(count, batch, first):
    whole = indices(count, batch, 5, 0, first + 3)
    np.testing.assert_array_equal(whole[first * batch :], indices(count, batch, 5, first, 3))


def test_epochs_and_seeds_give_other_orders():
    found = indices(30, 10, 1, 0, 6)
    assert not np.array_equal(found[:30], found[30:])
    assert not np.array_equal(found, indices(30, 10, 2, 0, 6))


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 64))
def test_steps_cover_every_epoch_and_waste_less_than_a_batch(count, epochs, batch):
    ends = input_pipeline.epoch_ends(count, epochs, batch)
    assert len(ends) == epochs and ends == sorted(ends)
    for epoch, end in enumerate(ends, start=1):
        assert 0 <= end * batch - epoch * count < batch


def test_batches_hold_images_labels_and_seeds_of_their_examples_and_resume_exactly():
    source, limits = examples(), Limits(zoom=0.2, horizontal_flip=True)
    whole = list(
        input_pipeline.training_batches(source, limits, 4, seed=3).take(6).as_numpy_iterator()
    )
    late = list(
        input_pipeline.training_batches(source, limits, 4, seed=3, first_step=4)
        .take(2)
        .as_numpy_iterator()
    )
    for expected, found in zip(whole[4:], late, strict=True):
        for name in expected:
            np.testing.assert_array_equal(expected[name], found[name])
    plain = next(input_pipeline.training_batches(source, Limits(), 4, seed=3).as_numpy_iterator())
    np.testing.assert_array_equal(plain["image"], source.images[plain["index"]].astype(np.float32))
    np.testing.assert_array_equal(plain["label"], source.labels[plain["index"]])
    seeds = np.concatenate([batch["noise_seed"] for batch in whole])
    assert len(np.unique(seeds, axis=0)) == len(seeds)


def test_every_image_is_evaluated_once_and_padding_is_counted():
    images = examples().images
    batches = list(input_pipeline.evaluation_batches(images, 4))
    assert [real for _, real in batches] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([batch[:real] for batch, real in batches]), images)
    assert all(batch.shape[0] == 4 and batch.dtype == np.float32 for batch, _ in batches)


def test_a_prepared_set_is_loaded_in_order_of_its_filenames(tiny_data_dir):
    from trainer.data import prepared

    data = prepared.open_dataset("covid_xray", data_dir=str(tiny_data_dir))
    found = input_pipeline.load(data.builder, "train", 64)
    assert found.images.shape == (26, 64, 64, 1) and found.images.dtype == np.uint8
    assert list(found.filenames) == sorted(found.filenames)
    assert [name.split("/")[1] == "covid" for name in found.filenames] == [
        bool(label) for label in found.labels
    ]
    assert len(set(found.groups)) == 13


def test_the_default_strategy_deals_whole_batches():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    batches = input_pipeline.training_batches(examples(), Limits(), 4, seed=3)
    dealt = next(distribution.deal(distribution.Workers(strategy), batches, 4))
    np.testing.assert_array_equal(dealt["index"], next(batches.as_numpy_iterator())["index"])


def test_the_next_is_drawn_while_one_is_worked_on_and_what_fails_fails_at_its_place():
    asked = threading.Semaphore(0)

    def elements():
        for number in range(3):
            asked.release()
            yield number
        raise ValueError("a damaged record")

    found = distribution.Ahead(elements())
    assert asked.acquire(timeout=10)  # Nobody has asked.
    for number in range(3):
        assert next(found) == number
        assert number == 2 or asked.acquire(timeout=10)
    with pytest.raises(ValueError, match="a damaged record"):
        next(found)


def test_a_thread_that_draws_ends_with_its_iterator():
    found = distribution.Ahead(itertools.count())
    assert next(found) == 0
    thread = next(iter(found._thread._threads))
    assert thread.is_alive()
    del found
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_images_are_handed_over_without_a_copy_wherever_they_lie():
    few = examples().images
    assert input_pipeline._rows(few, np.arange(len(few)) % 2 == 0).shape == few[::2].shape
    held = input_pipeline._rows(few, np.array([3, 0, -1]))
    np.testing.assert_array_equal(held, few[[3, 0, -1]])
    shared = input_pipeline._tensor(held)
    held[0, 0, 0, 0] ^= 255
    np.testing.assert_array_equal(shared, held)
    for part in (held[1:], held[:, 1:], few[:0], np.broadcast_to(held[:1], (2, *held.shape[1:]))):
        np.testing.assert_array_equal(input_pipeline._tensor(part), part)
    with pytest.raises(IndexError):
        input_pipeline._rows(few, np.array([len(few)]))
