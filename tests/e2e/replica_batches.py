"""Compares the batches that replicas get with those of a single device.

    python -m tests.e2e.replica_batches

A process of its own, because logical devices must be set before TensorFlow starts.
"""

import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from trainer.config import TrainConfig
from trainer.training import distribution, input_pipeline, layers

BATCH = 8
STEPS = 8
CONFIG = TrainConfig(
    batch_size=BATCH,
    seed=7,
    zoom=0.2,
    horizontal_flip=True,
    shear=math.degrees(0.1),
    brightness=0.1,
)


def make_examples() -> input_pipeline.Examples:
    """Builds eleven images of noise: batches of eight span epochs."""
    rng = np.random.default_rng(0)
    # [11, 8, 8, 1]
    images = rng.integers(0, 256, (11, 8, 8, 1)).astype(np.uint8)
    empty = np.array([""] * 11)
    return input_pipeline.Examples(images, np.arange(11, dtype=np.int32), empty, empty)


def batches_of_replicas(devices: int, first_step: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of steps `first_step` to 7, put together from all replicas.

    Args:
      devices: number of replicas.
      first_step: steps before it are passed over, as after a restart.

    Yields:
      The fields of `input_pipeline.training_batches`, and mask [batch, 30], the dropout mask.
    """
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)])
    batches = input_pipeline.training_batches(make_examples(), CONFIG, first_step)
    workers = distribution.Workers(strategy)
    distributed = distribution.distribute(workers, batches, BATCH)
    dropout = layers.StatelessDropout(0.5)

    # In a graph, as in a training step.
    @tf.function
    def masks(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        def replica_mask(replica_batch: dict[str, tf.Tensor]) -> tf.Tensor:
            with layers.example_seeds(replica_batch["noise_seed"]):
                return dropout(tf.ones([BATCH // devices, 30]), training=True)

        return strategy.run(replica_mask, (batch,))

    for _ in range(first_step, STEPS):
        batch = next(distributed)
        fields = {**batch, "mask": masks(batch)}
        # Replica r has the r-th slice of the batch.
        yield {
            name: np.concatenate(strategy.experimental_local_results(value))
            for name, value in fields.items()
        }


def main() -> None:
    """Raises AssertionError where a field differs; otherwise prints one line."""
    device = tf.config.list_physical_devices("CPU")[0]
    logical_devices = [tf.config.LogicalDeviceConfiguration()] * 4
    tf.config.set_logical_device_configuration(device, logical_devices)
    single = list(batches_of_replicas(1, 0))
    # The last two begin in mid-run, as a restart does.
    for devices, first_step in ((2, 0), (4, 0), (4, 5), (2, 3)):
        replicated = batches_of_replicas(devices, first_step)
        for expected, batch in zip(single[first_step:], replicated, strict=True):
            for name in ("image", "label", "index", "noise_seed", "mask"):
                np.testing.assert_array_equal(batch[name], expected[name])
    # Each step has a mask of its own.
    assert len({batch["mask"].tobytes() for batch in single}) == STEPS
    print("all the same")


if __name__ == "__main__":
    main()
