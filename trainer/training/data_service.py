"""Training batches made on other machines, by tf.data service.

`batches(config, workdir, examples, step, workers)` suits images whose preparation outgrows the
trainer's CPUs. Every record is used once an epoch, with its own view and noise, but its batch
depends on the speed of the machines. So such a run cannot be resumed exactly, and two of them
differ. While no input machine is left, trainers wait.
"""

import dataclasses
import functools
import socket
import urllib.parse
from typing import Any

import tensorflow as tf

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training import input_pipeline, record_images
from trainer.workdir import Workdir

_TIMEOUT = 10.0  # seconds to wait for the dispatcher; TensorFlow itself would wait for an hour


def batches(
    config: TrainConfig,
    workdir: Workdir,
    examples: input_pipeline.Examples,
    step: int,
    workers: int,
    positive: int | None = None,
) -> tf.data.Dataset:
    """Yields batches like `input_pipeline.training_batches`, but in any order.

    Args:
      config: its `data_service` names the dispatcher.
      workdir: of the run; all workers of one run share its batches out.
      examples: the training split with `RecordImages`, which input machines read under the same
        path.
      step: the run starts after it.
      workers: number of trainers; each gets batches of its share of the global size.
      positive: as for `input_pipeline.training_batches`.

    Raises:
      UserError: the dispatcher does not answer.
    """
    url = urllib.parse.urlsplit(config.data_service or "")
    try:
        socket.create_connection((url.hostname, url.port), _TIMEOUT).close()
    except OSError as error:
        raise UserError(
            f"the dispatcher {config.data_service} does not answer ({error.strerror or error}); "
            f"start it with: python -m trainer.input_server --port={url.port}"
        ) from error
    # A run that was taken back or started anew must not get the rest of an earlier job.
    created = (workdir.path / "config.json").stat().st_mtime_ns
    per_worker = dataclasses.replace(config, batch_size=config.batch_size // workers)
    return pipeline(examples, per_worker, positive).apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=config.data_service,
            job_name=f"{workdir.path.resolve()} {created} {step} {len(workdir.incidents())}",
        )
    )


def pipeline(
    examples: input_pipeline.Examples, config: TrainConfig, positive: int | None = None
) -> tf.data.Dataset:
    """Builds the pipeline that the input machines run.

    Its one source, which they share out, is a number for each shard of each epoch.

    Args:
      examples: the training split with `RecordImages`.
      config: its batch_size (of one worker), seed and augmentation settings.
      positive: as for `input_pipeline.training_batches`.
    """
    images: Any = examples.images
    lungs: Any = examples.lungs
    labels = tf.constant(examples.labels, tf.int32)

    def read_shard(number: tf.Tensor) -> tf.data.Dataset:
        epoch, shard = images.shard_at(
            number,
            functools.partial(input_pipeline.record_seed, config.seed),
        )
        # The position is unique to an example in an epoch.
        return shard.map(
            lambda index, record: (epoch * 2**32 + tf.cast(index, tf.int64), index, record)
        )

    def make_batch(
        positions: tf.Tensor, index: tf.Tensor, records: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        batch = {
            "image": images.decode(records),
            "label": tf.gather(labels, index),
            "index": index,
        }
        if lungs is not None:
            batch["lungs"] = lungs.decode(records)
        # The first position is in place of the step: no other batch has it.
        return input_pipeline.make_batch(batch, config, positions[0], positions, positive=positive)

    return (
        tf.data.Dataset.range(2**31 - 1)
        .flat_map(read_shard)
        # A wider window would mix many epochs of a small set.
        .shuffle(max(1, min(record_images.WINDOW, len(examples) // 4)), config.seed)
        .batch(config.batch_size, drop_remainder=True)
        .map(make_batch, num_parallel_calls=tf.data.AUTOTUNE)
    )
