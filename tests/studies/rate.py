"""Processor time an image of input and training, at the default settings.

    python -m tests.studies.rate [--images=256]

The images are phantoms of 500 pixels. Cost of input is processor time over all threads: an input
machine of n cores delivers n times as many images.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.studies import parse_arguments
from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.training import distribution, input_pipeline, models, steps

_WARMUP = 3  # Calls that trace functions and fill buffers.
_BATCHES = 24


def cost(call: Callable[[], object]) -> tuple[float, float]:
    """Measures a call: (processor seconds, seconds), mean of 24 after 3 that are not counted."""
    for _ in range(_WARMUP):
        call()
    processor_start = time.process_time()  # Of all threads.
    clock_start = time.monotonic()
    for _ in range(_BATCHES):
        call()
    processor = time.process_time() - processor_start
    clock = time.monotonic() - clock_start
    return processor / _BATCHES, clock / _BATCHES


def stored_bytes(builder: Any) -> float:
    """Mean size of an encoded image of the train split, in bytes."""
    # Without decoding: the bytes as they are stored.
    encoded = tfds.decode.PartialDecoding(
        {"image": True}, decoders={"image": tfds.decode.SkipDecoding()}
    )
    rows = builder.as_dataset("train", decoders=encoded).as_numpy_iterator()
    return float(np.mean([len(row["image"]) for row in rows]))


def measure_input(builder: Any, config: TrainConfig, cache: str) -> input_pipeline.Examples:
    """Prints the cost of a training batch from one kind of cache; returns the examples."""
    assert config.image_size is not None  # models.resolve has set it.
    examples = input_pipeline.load(builder, "train", config.image_size, cache)
    batches = iter(input_pipeline.training_batches(examples, config))
    processor, _ = cost(lambda: next(batches))
    milliseconds = processor / config.batch_size * 1e3
    rate = config.batch_size / processor
    print(
        f"input, cache={cache}: {milliseconds:.2f} ms of a core an image, "
        f"{rate:.0f} images/s a core",
        flush=True,
    )
    return examples


def measure_step(examples: input_pipeline.Examples, config: TrainConfig) -> None:
    """Prints the cost of a training step on one CPU device."""
    # Two classes; the number of steps matters only to the learning rate.
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    state = steps.create_train_state(config, strategy, 2, 1000, 100.0, examples.labels)
    # Four batches in memory, so that input costs next to nothing.
    batches = input_pipeline.training_batches(examples, config).take(4).cache().repeat()
    workers = distribution.Workers(strategy)
    distributed = distribution.distribute(workers, batches, config.batch_size)
    processor, clock = cost(lambda: state.train_step(next(distributed)))
    milliseconds = processor / config.batch_size * 1e3
    weights = state.model.count_params() / 1e6
    print(
        f"step of {config.batch_size}, {config.model}, {weights:.2f} M weights: "
        f"{clock:.2f} s, {milliseconds:.1f} ms of a core an image"
    )


def main() -> None:
    """Prints one line for each kind of input, and one for a step."""
    count = parse_arguments(__doc__, images=256).images
    with tempfile.TemporaryDirectory() as folder:
        requested = TrainConfig(dataset="phantom", data_dir=folder, phantom_train=count)
        builder = prepared.open_from_config(requested).builder
        config = models.resolve(requested)
        size = stored_bytes(builder) / 1e3
        print(f"an image: {size:.0f} kB in its record, {500 * 500 / 1e3:.0f} kB as a square")
        for cache in ("memory", "disk", "none"):
            examples = measure_input(builder, config, cache)
        # The step is measured on the last ones: its batches are cached anyway.
        measure_step(examples, config)


if __name__ == "__main__":
    main()
