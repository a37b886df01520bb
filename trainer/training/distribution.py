"""Devices, replicas and workers: which tf.distribute strategy a configuration asks for, and how a global batch is dealt out.

With `multi_worker` every worker runs the same program in step with the others. The first one, the chief, alone writes to the
workdir, which all must be able to read. Keras' own `fit` fails there (github.com/keras-team/keras/issues/20585).
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from trainer.config import TrainConfig
from trainer.errors import UserError

_JOBS = ("chief", "worker")
_HEARTBEAT = 10  # Seconds between TensorFlow's checks of the other workers; its own 30 take up to a minute to end a run.
_EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes that train together, as seen from one of them.

    Attributes:
      strategy: what they share.
      index: which of them this is; 0 is the chief.
      count: how many there are.
    """

    strategy: tf.distribute.Strategy
    index: int = 0
    count: int = 1

    @classmethod
    def of(cls, strategy: tf.distribute.Strategy) -> "Workers":
        """The workers of a strategy: those of its cluster, or this process alone."""
        resolver = getattr(strategy, "cluster_resolver", None)
        tasks = (
            _tasks(resolver.cluster_spec().as_dict())
            if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
            and resolver is not None
            else []
        )
        if len(tasks) < 2:
            return cls(strategy)
        return cls(strategy, tasks.index((resolver.task_type, resolver.task_id)), len(tasks))

    @property
    def chief(self) -> bool:
        """Whether this is the one that writes."""
        return self.index == 0

    def any(self, flag: bool) -> bool:
        """Whether any of them says so. All must ask."""
        return flag if self.count == 1 else self._sum(float(flag)) > 0

    def agree(self, number: int) -> bool:
        """Whether all of them give the same number. All must ask."""
        if self.count == 1:
            return True
        # (Σx)² = n Σx² only where all x are equal (Cauchy–Schwarz), so that all come to the same answer.
        return self._sum(float(number)) ** 2 == self.count * self._sum(float(number) ** 2)

    def wait(self) -> None:
        """Returns once all of them have called it."""
        self.any(False)

    def _sum(self, value: float) -> float:
        found = self.strategy.run(
            lambda: tf.distribute.get_replica_context().all_reduce(
                "sum", tf.constant(value, tf.float64)
            )
        )
        local = self.strategy.num_replicas_in_sync // self.count
        return float(self.strategy.experimental_local_results(found)[0]) / local

    @contextlib.contextmanager
    def chief_first(self) -> Iterator[None]:
        """What stands within is done by the chief, then by the others: so that these find what it prepared."""
        if not self.chief:
            self.wait()
        yield
        if self.chief:
            self.wait()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Ends the process with one line where another worker is lost: its operations fail, and so would every exit handler.

        The line goes to stderr, the exit status is 1.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.count == 1:
                raise
            lost(f"{type(error).__name__}: {str(error).splitlines()[0][:150]}")


def lost(why: str) -> None:
    """Says that another worker cannot be reached, and ends this process at once, with status 1."""
    print(
        f"error: another worker is lost or cannot be reached ({why}); when it is back, give the "
        "same command on every worker: the run goes on from its last checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(1)


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """Sets up the devices and the strategy. Call it before any other TensorFlow operation.

    Raises:
      UserError: the global batch does not divide among the replicas, TF_CONFIG is missing or wrong, or TensorFlow is already
        running on other devices.
    """
    if config.logical_devices:
        _split_cpu(config.logical_devices)
    strategy = {
        "mirrored": _mirrored,
        "one_device": _one_device,
        "multi_worker": _multi_worker,
        "tpu": _tpu,
    }[config.strategy]()
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise UserError(
            f"--batch_size={config.batch_size} does not divide among {replicas} replicas; use a "
            f"multiple of {replicas}."
        )
    return strategy


class Ahead:
    """An iterator that draws each element while the one before it is worked on, in a thread: asking for one takes Python a
    millisecond, and longer where the cores are busy.

    Args:
      elements: what is drawn from; what it raises is raised here.
    """

    def __init__(self, elements: Iterable[Any]):
        self._elements, self._thread = iter(elements), concurrent.futures.ThreadPoolExecutor(1)
        self._drawn = self._thread.submit(next, self._elements)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        drawn, self._drawn = self._drawn, self._thread.submit(next, self._elements)
        return drawn.result()


def deal(workers: Workers, batches: tf.data.Dataset, batch_size: int) -> Ahead:
    """Deals each global batch out: replica r gets the r-th consecutive slice, whatever the number of replicas and workers.

    Args:
      workers: all of them.
      batches: this worker's consecutive slice of each global batch, without end, as `input_pipeline.training_batches` gives it.
      batch_size: the global one.
    """
    replicas = workers.strategy.num_replicas_in_sync
    per_replica, local = batch_size // replicas, replicas // workers.count
    dealt = batches if local == 1 else batches.rebatch(per_replica, drop_remainder=True)
    # Without end: workers that might come to one would ask one another before each step.
    endless = dealt.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return Ahead(
        workers.strategy.distribute_datasets_from_function(lambda _: endless.prefetch(2 * local))
    )


def _devices() -> list[str]:
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return [
        device.name.removeprefix("/physical_device:")
        for device in tf.config.list_logical_devices(kind)
    ]


def _mirrored() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(_devices())


def _one_device() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy(_devices()[0])


def _multi_worker() -> tf.distribute.Strategy:
    _check_cluster(os.environ.get("TF_CONFIG", ""))
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        strategy.extended._check_health_interval = _HEARTBEAT
        return strategy
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"the workers named in TF_CONFIG could not be joined ({str(error).splitlines()[0]}); "
            "start this command on each of them, in a new process."
        ) from error


def _tpu() -> tf.distribute.Strategy:
    """TPU_NAME says which one, as the resolver reads it; untested by us, who have none."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(
            f"no TPU can be reached ({str(error).splitlines()[0]}); set TPU_NAME, or use "
            "--strategy=mirrored."
        ) from error


def _check_cluster(text: str) -> None:
    if not text:
        raise UserError(
            "--strategy=multi_worker reads the workers from TF_CONFIG, which is not set; for "
            f"example {_EXAMPLE}"
        )
    try:
        found = json.loads(text)
        tasks = _tasks(found["cluster"])
        own = found["task"]["type"], int(found["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG is not what TensorFlow expects ({type(error).__name__}: {error}); for "
            f"example {_EXAMPLE}"
        ) from error
    if own not in tasks:
        known = ", ".join(f"{job} {number}" for job, number in tasks)
        raise UserError(
            f"TF_CONFIG calls this process {own[0]} {own[1]}, which is not among {known}; chief "
            "and worker are the jobs that train."
        )


def _tasks(cluster: dict) -> list[tuple[str, int]]:
    """(job, number) of each worker, the chief first."""
    return [(job, number) for job in _JOBS for number in range(len(cluster.get(job, ())))]


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
        # Each device a share of the cores: if each split its operations over all, they would wait for one another's parts.
        tf.config.threading.set_intra_op_parallelism_threads(max(1, (os.cpu_count() or 1) // count))
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise UserError(
                "--logical_devices must be set before TensorFlow starts; use a new process."
            ) from error
