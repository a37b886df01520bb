"""Devices and replicas: which tf.distribute strategy a configuration asks for, and how a global batch is dealt out."""

import tensorflow as tf

from trainer.config import TrainConfig
from trainer.errors import UserError


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """Sets up the devices and the strategy. Call it before any other TensorFlow operation.

    Raises:
      UserError: the global batch does not divide among the replicas, or TensorFlow is already running on other devices.
    """
    if config.logical_devices:
        _split_cpu(config.logical_devices)
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = [device.name.removeprefix("/physical_device:") for device in tf.config.list_logical_devices(kind)]
    if config.strategy == "one_device":
        return tf.distribute.OneDeviceStrategy(devices[0])
    if config.batch_size % len(devices):
        raise UserError(f"--batch_size={config.batch_size} does not divide among {len(devices)} replicas; "
                        f"use a multiple of {len(devices)}.")
    return tf.distribute.MirroredStrategy(devices)


def deal(strategy: tf.distribute.Strategy, global_batches: tf.data.Dataset, batch_size: int):
    """Deals each global batch out: replica r gets the r-th consecutive slice, whatever the number of replicas."""
    per_replica = batch_size // strategy.num_replicas_in_sync
    dealt = global_batches if per_replica == batch_size else global_batches.rebatch(per_replica, drop_remainder=True)
    return strategy.distribute_datasets_from_function(lambda _: dealt.prefetch(2 * strategy.num_replicas_in_sync))


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise UserError("--logical_devices must be set before TensorFlow starts; use a new process.") from error
