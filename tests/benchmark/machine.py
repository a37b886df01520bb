"""What the machine is and what it can do at most: rate of matrix products, bandwidth of memory, versions of everything."""

import os
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import tensorflow as tf

from tests.benchmark.rows import seconds

_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "pillow",
    "torch",
    "torchvision",
)
_SIDE = 2048
_STREAM = 64_000_000  # Floats; far more than caches hold.


def describe() -> dict[str, Any]:
    """Processor, cores that may be used, memory, system, and how busy it was."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        if hasattr(os, "sysconf")
        else None
    )
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": memory and round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Python's and those of the packages compared, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Limits:
    """The machine's limits, each the best of three measurements when asked, in turns with what is compared to it."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._a, self._b = (
            tf.constant(rng.normal(size=(_SIDE, _SIDE)), tf.float32) for _ in range(2)
        )
        self._long = tf.zeros([_STREAM])
        self._product = tf.function(lambda a, b: tf.reduce_sum(tf.matmul(a, b)[0]))
        self._copy = tf.function(lambda long: long + 1.0)
        for _ in range(2):
            self.matrix_rate(), self.bandwidth()

    def matrix_rate(self) -> float:
        """Floating-point operations a second of a product of large float32 matrices, on all cores."""
        return 2.0 * _SIDE**3 / _least(lambda: self._product(self._a, self._b).numpy())

    def bandwidth(self) -> float:
        """Bytes a second, read and written, of adding one to a long vector."""
        return 8.0 * _STREAM / _least(lambda: self._copy(self._long)[:1].numpy())


def _least(work: Callable[[], Any]) -> float:
    return min(seconds(work) for _ in range(3))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
