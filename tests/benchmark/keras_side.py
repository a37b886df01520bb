"""How plain Keras does it: ImageDataGenerator, preprocessing layers, `fit`; as the reference and its manual have it."""

import contextlib
import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tests.benchmark.rows import seconds

SHEAR, ZOOM, FILTERS, UNITS = 0.2, 0.2, (32, 32, 64, 64, 128), (512, 256, 128, 64)


def generator(folder: Path, side: int, batch: int, augmented: bool = True):
    """The reference's ImageDataGenerator over a folder of class folders: grey, nearest pixel, shear, zoom, flip."""
    moves = {"shear_range": SHEAR, "zoom_range": ZOOM, "horizontal_flip": True} if augmented else {}
    with contextlib.redirect_stdout(io.StringIO()):  # It says how many images it found.
        return tf.keras.preprocessing.image.ImageDataGenerator(
            rescale=1.0 / 255.0, **moves
        ).flow_from_directory(
            str(folder),
            (side, side),
            "grayscale",
            class_mode="sparse",
            batch_size=batch,
            follow_links=True,
            shuffle=augmented,
        )


def layers_rate(images: np.ndarray, batch: int, batches: int) -> Callable[[], float]:
    """Images a second of Keras preprocessing layers in a data set of squares in memory ([n, side, side, 1] uint8)."""
    changed = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomShear(x_factor=SHEAR / 90.0, fill_mode="nearest"),
            keras.layers.RandomZoom((-ZOOM, ZOOM), (-ZOOM, ZOOM), fill_mode="nearest"),
            keras.layers.Rescaling(1.0 / 255.0),
        ]
    )
    squares = (
        tf.data.Dataset.from_tensor_slices(images)
        .cache()
        .repeat()
        .shuffle(len(images))
        .batch(batch)
    )
    data = squares.map(
        lambda part: changed(part, training=True), num_parallel_calls=tf.data.AUTOTUNE
    ).prefetch(2)
    return lambda: rate_of(data, batch, batches)


def rate_of(data: tf.data.Dataset, batch: int, batches: int) -> float:
    """Images a second over `batches` batches of a data set opened anew; the first, with its set-up, is not counted."""
    iterator = iter(data)
    next(iterator)
    return batch * batches / seconds(lambda: [next(iterator) for _ in range(batches)])


def generator_rate(folder: Path, side: int, batch: int, batches: int) -> float:
    """Images a second over the first `batches` batches of the reference's generator, opened anew."""
    flow = generator(folder, side, batch)
    found: list[int] = []
    spent = seconds(
        lambda: found.extend(
            len(images) for images, _ in itertools.islice(flow, min(batches, len(flow)))
        )
    )
    return sum(found) / spent


def network(side: int) -> keras.Model:
    """The reference's network."""
    body = [keras.Input((side, side, 1))]
    for filters in FILTERS:
        body += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    body += [
        keras.layers.Dropout(0.5),
        keras.layers.Flatten(),
        *(keras.layers.Dense(units, activation="relu") for units in UNITS),
        keras.layers.Dense(2, activation="softmax"),
    ]
    return keras.Sequential(body)


def compiled(side: int, jit: bool | str = "auto") -> keras.Model:
    """The reference's network with Adam at its default rate, compiled as `compile` does where nothing is said, or so told."""
    model = network(side)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return model


def step(side: int, batch: int, steps: int, jit: bool | str) -> Callable[[], float]:
    """The seconds a step of `fit` takes, over `steps` steps of one batch in memory.

    Taken from the end of one step to that of the next: what `fit` does before its first is none of theirs.
    """
    model = compiled(side, jit)
    rng = np.random.default_rng(0)
    one = (
        rng.uniform(0, 1, (batch, side, side, 1)).astype(np.float32),
        (np.arange(batch) % 2).astype(np.int32),
    )
    data = tf.data.Dataset.from_tensors(one).repeat()
    ends: list[np.ndarray] = []
    noted = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(
            np.array([time.perf_counter(), time.process_time()])
        )
    )

    def measure() -> float:
        ends.clear()
        model.fit(data, steps_per_epoch=steps + 1, verbose=0, shuffle=False, callbacks=[noted])
        wall, cpu = (ends[-1] - ends[0]).tolist()
        measure.cores = cpu / wall
        return wall / steps

    measure()
    return measure
