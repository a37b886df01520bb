"""Training batches made on other machines, by tf.data service: for images whose preparation outgrows the trainer's CPUs.

Every record is handed out once an epoch, with a view and noise of its own, but which batch it comes in depends on which machine
was quicker. So such a run cannot be resumed exactly, and two of them differ. Where no input machine is left, trainers wait.
"""

import socket
import urllib.parse

import tensorflow as tf

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training import augment, input_pipeline, large_sets
from trainer.workdir import Workdir

_PATIENCE = 10.0  # Seconds to wait for the dispatcher; TensorFlow itself would wait for an hour.


def batches(
    config: TrainConfig,
    work: Workdir,
    examples: input_pipeline.Examples,
    limits: augment.Limits,
    step: int,
    workers: int,
) -> tf.data.Dataset:
    """Batches as `input_pipeline.training_batches` gives them, but in no promised order, without end.

    Args:
      config: its `data_service` names the dispatcher.
      work: of the run; all workers of one run share its batches out.
      examples: what is trained on, left in its records, where the input machines find them under the same path.
      limits: how far the views may go.
      step: the run starts after.
      workers: how many trainers there are; each gets batches of its share of the global size.

    Raises:
      UserError: the dispatcher does not answer.
    """
    _reach(config.data_service)
    started = (work.path / "config.json").stat().st_mtime_ns
    served = tf.data.experimental.service.distribute(
        processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
        service=config.data_service,
        job_name=f"{work.path.resolve()} {started} {step} {len(work.incidents())}",
    )
    return pipeline(examples, limits, config.batch_size // workers, config.seed).apply(served)


def pipeline(
    examples: input_pipeline.Examples, limits: augment.Limits, batch_size: int, seed: int
) -> tf.data.Dataset:
    """What the input machines run: they share its one source out, numbers that stand for a shard in an epoch."""
    images, labels = examples.images, tf.constant(examples.labels, tf.int32)

    def visit(number: tf.Tensor) -> tf.data.Dataset:
        epoch, shard = images.shard_at(
            number, lambda *wanted: input_pipeline.record_stream(seed, *wanted)
        )
        return shard.map(
            lambda place, record: (epoch * 2**32 + tf.cast(place, tf.int64), place, record)
        )

    def batch_of(visits: tf.Tensor, places: tf.Tensor, records: tf.Tensor) -> dict[str, tf.Tensor]:
        return input_pipeline.batch_of(
            images.decoded(records),
            tf.gather(labels, places),
            places,
            limits,
            seed,
            visits[0],
            visits,
        )

    window = max(
        1, min(large_sets.WINDOW, len(examples) // 4)
    )  # A wider one would mix many epochs of a small set.
    mixed = tf.data.Dataset.range(2**31 - 1).flat_map(visit).shuffle(window, seed)
    return mixed.batch(batch_size, drop_remainder=True).map(
        batch_of, num_parallel_calls=tf.data.AUTOTUNE
    )


def _reach(address: str) -> None:
    place = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((place.hostname, place.port), _PATIENCE).close()
    except OSError as error:
        raise UserError(
            f"the dispatcher {address} does not answer ({error.strerror or error}); start it with: "
            f"python -m trainer.input_server --port={place.port}"
        ) from error
