"""Measures what one image costs on the way to the network and in it, at the default settings: the numbers of BUILD.md's plan.

python -m tests.studies.rate [--images=256]

Phantoms of 500 pixels. Input is processor time, all threads together: an input machine of n cores makes n times as many.
"""

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from trainer.config import TrainConfig, resolved
from trainer.data import prepared
from trainer.training import augment, distribution, input_pipeline, models, steps

_BATCHES = 24


def cost(take: Callable[[], object]) -> tuple[float, float]:
    """(processor seconds, seconds) of a call, in the mean of 24 after 3 that are not counted."""
    for _ in range(3):
        take()
    spent, started = time.process_time(), time.monotonic()
    for _ in range(_BATCHES):
        take()
    return (time.process_time() - spent) / _BATCHES, (time.monotonic() - started) / _BATCHES


def main() -> None:
    """Prints one line for each kind of input, and one for a step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=256)
    count = parser.parse_args().images
    config = resolved(TrainConfig(dataset="phantom"))
    limits = augment.Limits.from_config(config)
    with tempfile.TemporaryDirectory() as scratch:
        builder = prepared.open_dataset("phantom", data_dir=scratch, phantom_train=count).builder
        whole = tfds.decode.PartialDecoding(
            {"image": True}, decoders={"image": tfds.decode.SkipDecoding()}
        )
        stored = np.mean(
            [
                len(row["image"])
                for row in builder.as_dataset("train", decoders=whole).as_numpy_iterator()
            ]
        )
        print(
            f"an image: {stored / 1e3:.0f} kB in its record, {500 * 500 / 1e3:.0f} kB as a square"
        )
        for cache in ("memory", "disk", "none"):
            examples = input_pipeline.load(builder, "train", config.image_size, cache)
            batches = iter(input_pipeline.training_batches(examples, limits, config.batch_size, 0))
            spent, _ = cost(lambda batches=batches: next(batches))
            print(
                f"input, cache={cache}: {spent / config.batch_size * 1e3:.2f} ms of a core an "
                f"image, {config.batch_size / spent:.0f} images/s a core",
                flush=True,
            )
        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
        with strategy.scope():
            model = models.build(config, 2)
            optimizer = steps.make_optimizer(config, steps.make_rate(config, 1000, 100.0))
        step = steps.make_train_step(
            model, optimizer, strategy, config, steps.class_weights(np.array([0, 1]), 2, False)
        )
        few = (
            input_pipeline.training_batches(examples, limits, config.batch_size, 0)
            .take(4)
            .cache()
            .repeat()
        )
        dealt = distribution.deal(distribution.Workers(strategy), few, config.batch_size)
        spent, clock = cost(lambda: step(next(dealt)))
        print(
            f"step of {config.batch_size}, {config.model}, {model.count_params() / 1e6:.2f} M "
            f"weights: {clock:.2f} s, {spent / config.batch_size * 1e3:.1f} ms of a core an image"
        )


if __name__ == "__main__":
    main()
