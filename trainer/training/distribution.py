"""Devices, replicas and workers: the tf.distribute strategy and the slices of a global batch.

    strategy = make_strategy(config)
    workers = Workers.of(strategy)
    batches = distribute(workers, input_pipeline.training_batches(...), config.batch_size)

With `multi_worker` every worker runs the same program in step with the others. The first one, the
chief, alone writes to the workdir, which all must be able to read. Keras' own `fit` fails there
(github.com/keras-team/keras/issues/20585).
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from trainer import compat
from trainer.config import TrainConfig
from trainer.errors import UserError

_HEALTH_CHECK_SECONDS = 10  # TensorFlow's own 30 take up to a minute to end a run
_EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}\''
)


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes that train together, as one of them knows them.

    Attributes:
      strategy: shared by all.
      index: of this process; 0 is the chief.
      count: number of processes.
    """

    strategy: tf.distribute.Strategy
    index: int = 0
    count: int = 1

    @classmethod
    def of(cls, strategy: tf.distribute.Strategy) -> "Workers":
        """The workers of a strategy's cluster, or this process alone."""
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return cls(strategy)
        resolver = strategy.cluster_resolver
        tasks = _tasks(resolver.cluster_spec().as_dict())
        return cls(strategy, tasks.index((resolver.task_type, resolver.task_id)), len(tasks))

    @property
    def chief(self) -> bool:
        """True for the one process that writes."""
        return self.index == 0

    def any(self, flag: bool) -> bool:
        """Tells if any worker's flag is set; all must call it."""
        return self._sum(float(flag)) > 0

    def all_equal(self, number: int) -> bool:
        """Tells if all workers give the same number; all must call it."""
        # (Σx)² = n Σx² only where all x are equal (Cauchy–Schwarz), so all get the same answer.
        return self._sum(float(number)) ** 2 == self.count * self._sum(float(number) ** 2)

    def barrier(self) -> None:
        """Returns once all workers have called it."""
        self.any(False)

    def _sum(self, value: float) -> float:
        # The sum of the workers' values.
        if self.count == 1:  # A collective operation takes a millisecond.
            return value
        sums = self.strategy.run(
            lambda: tf.distribute.get_replica_context().all_reduce(
                "sum", tf.constant(value, tf.float64)
            )
        )
        # Each replica of a worker adds its value.
        local_replicas = self.strategy.num_replicas_in_sync // self.count
        return float(self.strategy.experimental_local_results(sums)[0]) / local_replicas

    @contextlib.contextmanager
    def chief_runs_first(self) -> Iterator[None]:
        """The chief runs the block first, then the other workers."""
        if not self.chief:
            self.barrier()
        yield
        if self.chief:
            self.barrier()

    @contextlib.contextmanager
    def exit_if_worker_lost(self) -> Iterator[None]:
        """Ends the process if another worker is lost within the block.

        Operations fail then, and so would every exit handler. The line goes to stderr, the exit
        status is 1.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.count == 1:
                raise
            exit_worker_lost(f"{type(error).__name__}: {str(error).splitlines()[0][:150]}")


def exit_worker_lost(reason: str) -> None:
    """Prints that another worker is lost, and ends this process with status 1."""
    print(
        f"error: another worker is lost or cannot be reached ({reason}); when it is back, give the "
        "same command on every worker: the run goes on from its last checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    # Without exit handlers: TensorFlow's would wait for the lost worker.
    os._exit(1)


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """Sets up devices and strategy, before any other TensorFlow operation.

    Raises:
      UserError: the global batch does not divide among the replicas, TF_CONFIG is missing or wrong,
        or TensorFlow is already running on other devices.
    """
    if config.logical_devices:
        _split_cpu(config.logical_devices)
    match config.strategy:
        case "mirrored":
            strategy = _mirrored(tuple(_devices()))
        case "one_device":
            strategy = tf.distribute.OneDeviceStrategy(_devices()[0])
        case "multi_worker":
            strategy = _multi_worker()
        case _:
            strategy = _tpu()
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise UserError(
            f"--batch_size={config.batch_size} does not divide among {replicas} replicas; use a "
            f"multiple of {replicas}."
        )
    return strategy


# Once a process: the collective operations of a second strategy would take the keys of the first.
@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(list(devices))


class Prefetcher:
    """An iterator that fetches elements ahead in a thread.

    Python needs a millisecond to fetch an element, and longer while the cores are busy.

    Args:
      elements: what they raise is raised at their turn.
    """

    def __init__(self, elements: Iterable[Any]):
        self._elements = iter(elements)
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._next = self._thread.submit(next, self._elements)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        current = self._next
        self._next = self._thread.submit(next, self._elements)
        return current.result()


def distribute(workers: Workers, batches: tf.data.Dataset, batch_size: int) -> Prefetcher:
    """Distributes each global batch: replica r gets the r-th consecutive slice.

    That holds for any number of replicas and workers.

    Args:
      workers: all of them.
      batches: this worker's consecutive slice of each global batch, without end, as
        `input_pipeline.training_batches` gives it.
      batch_size: the global one.
    """
    replicas = workers.strategy.num_replicas_in_sync
    local_replicas = replicas // workers.count
    if local_replicas > 1:  # One replica takes the worker's whole slice.
        batches = batches.rebatch(batch_size // replicas, drop_remainder=True)
    # Without a known end, workers would ask one another before each step if one had come to it.
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    prefetched = batches.apply(endless).prefetch(2 * local_replicas)  # two steps ahead
    return Prefetcher(workers.strategy.distribute_datasets_from_function(lambda _: prefetched))


def _devices() -> list[str]:
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]


def _multi_worker() -> tf.distribute.Strategy:
    _check_cluster(os.environ.get("TF_CONFIG", ""))
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"the workers named in TF_CONFIG could not be joined ({str(error).splitlines()[0]}); "
            "start this command on each of them, in a new process."
        ) from error
    compat.set_health_check_interval(strategy, _HEALTH_CHECK_SECONDS)
    return strategy


def _tpu() -> tf.distribute.Strategy:
    # Untested for want of a TPU.
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
        tf_config = json.loads(text)
        tasks = _tasks(tf_config["cluster"])
        task = (tf_config["task"]["type"], int(tf_config["task"]["index"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG is not what TensorFlow expects ({type(error).__name__}: {error}); for "
            f"example {_EXAMPLE}"
        ) from error
    if task not in tasks:
        names = ", ".join(f"{job} {number}" for job, number in tasks)
        raise UserError(
            f"TF_CONFIG calls this process {task[0]} {task[1]}, which is not among {names}; chief "
            "and worker are the jobs that train."
        )


def _tasks(cluster: dict) -> list[tuple[str, int]]:
    # (job, number) of each worker, the chief first.
    return [
        (job, number) for job in ("chief", "worker") for number in range(len(cluster.get(job, ())))
    ]


def _split_cpu(count: int) -> None:
    # Each device gets a share of the cores: if each split its operations over all, they would wait
    # for one another.
    threads = max(1, (os.cpu_count() or 1) // count)
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * count,
        )
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        # TensorFlow runs already; an earlier run of this process may have split it alike.
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise UserError(
                "--logical_devices must be set before TensorFlow starts; use a new process."
            ) from error
