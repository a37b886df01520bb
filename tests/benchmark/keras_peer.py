"""The reference recipe in plain Keras: generator, preprocessing layers, `fit`.

rate = keras_peer.generator_rate(folder, side=500, batch=16, batches=3)
step = peers.PeerProcess("keras_peer:FitStep", side=500, batch=16, steps=1, jit=False)
"""

import contextlib
import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.benchmark.peers import FILTERS, SHEAR, UNITS, ZOOM
from tests.benchmark.rows import time_batches


def generator(folder: Path, side: int, batch: int, augmented: bool = True) -> keras.utils.PyDataset:
    """Opens the reference's ImageDataGenerator: grey, nearest pixel, shear, zoom, flip.

    Args:
      folder: with a folder for each class.
      side: in pixels.
      batch: images in each batch.
      augmented: whether images are augmented and shuffled, as for training.
    """
    ranges: dict[str, Any] = {}
    # Shear in degrees, zoom as a fraction.
    if augmented:
        ranges = {"shear_range": SHEAR, "zoom_range": ZOOM, "horizontal_flip": True}
    images = tf.keras.preprocessing.image.ImageDataGenerator(rescale=1.0 / 255.0, **ranges)
    with contextlib.redirect_stdout(io.StringIO()):  # Keras prints the number of images.
        return images.flow_from_directory(
            str(folder),
            (side, side),
            "grayscale",  # [batch, side, side, 1] float32
            class_mode="sparse",
            batch_size=batch,
            follow_links=True,  # `ImageSet.link` makes symbolic links.
            shuffle=augmented,
        )


def generator_rate(folder: Path, side: int, batch: int, batches: int) -> float:
    """Measures images a second of the reference's generator, opened anew.

    Args:
      folder: with a folder for each class.
      side: in pixels.
      batch: images in each batch.
      batches: the first so many are read, at most one epoch.
    """
    flow = generator(folder, side, batch)
    first = itertools.islice(flow, min(batches, len(flow)))  # It would go on for ever.
    start = time.perf_counter()
    count = sum(len(images) for images, _ in first)
    return count / (time.perf_counter() - start)


def layers_rate(images: np.ndarray, batch: int, batches: int) -> Callable[[], float]:
    """Prepares the measurement of Keras preprocessing layers in tf.data.

    Args:
      images: [n, side, side, 1] uint8.
      batch: images in each batch.
      batches: batches of one measurement.

    Returns:
      A function that returns images a second.
    """
    augment = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomShear(x_factor=SHEAR / 90.0, fill_mode="nearest"),
            keras.layers.RandomZoom((-ZOOM, ZOOM), (-ZOOM, ZOOM), fill_mode="nearest"),
            keras.layers.Rescaling(1.0 / 255.0),
        ]
    )
    # Cached first: only shuffling and augmentation are measured.
    squares = tf.data.Dataset.from_tensor_slices(images).cache()
    data = (
        squares.repeat()
        .shuffle(len(images))
        .batch(batch)
        .map(lambda squares: augment(squares, training=True), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(2)
    )
    return lambda: batch * batches / time_batches(data, batches)


def compiled_network(side: int, jit: bool | str = "auto") -> keras.Model:
    """Builds and compiles the reference's network, with Adam at its default rate.

    Args:
      side: of the images, in pixels.
      jit: `jit_compile` of `keras.Model.compile`; "auto" is its default.
    """
    layers = [keras.Input((side, side, 1))]
    for filters in FILTERS:
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Dropout(0.5), keras.layers.Flatten()]
    layers += [keras.layers.Dense(units, activation="relu") for units in UNITS]
    layers += [keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential(layers)  # [batch, side, side, 1] to [batch, 2]
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return model


class FitStep:
    """Measures one step of `fit`, in seconds.

    The time from the end of a step to that of the next counts. Work that `fit` does before its
    first step does not.

    Attributes:
      cores: mean number of busy cores during the last measurement.

    Args:
      side: of the images, in pixels.
      batch: images in the batch.
      steps: steps of one measurement, all on one batch in memory.
      jit: see `compiled_network`.
    """

    def __init__(self, side: int, batch: int, steps: int, jit: bool | str) -> None:
        self.cores = 0.0
        self._steps = steps
        self._model = compiled_network(side, jit)
        rng = np.random.default_rng(0)
        images = rng.uniform(0, 1, (batch, side, side, 1)).astype(np.float32)
        labels = (np.arange(batch) % 2).astype(np.int32)
        self._data = tf.data.Dataset.from_tensors((images, labels)).repeat()
        self()  # Traces.

    def __call__(self) -> float:
        step_ends: list[tuple[float, float]] = []  # (wall clock, CPU time)
        record_end = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: step_ends.append(
                (time.perf_counter(), time.process_time())
            )
        )
        self._model.fit(
            self._data,
            steps_per_epoch=self._steps + 1,  # The first one only starts the clock.
            verbose=0,
            shuffle=False,
            callbacks=[record_end],
        )
        wall_seconds = step_ends[-1][0] - step_ends[0][0]
        cpu_seconds = step_ends[-1][1] - step_ends[0][1]
        self.cores = cpu_seconds / wall_seconds
        return wall_seconds / self._steps
