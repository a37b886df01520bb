"""The machine: its description, its ceilings, and each convolution beside its roofline.

    for row in machine.measure_convolutions(quick=True):
        print(row.name, row.ratio)

Roofline (Williams 2009, doi:10.1145/1498765.1498785): an operation is not faster than its
arithmetic at the rate of large matrix products, nor than reading its inputs and writing its output
once at the bandwidth of memory.
"""

import dataclasses
import os
import platform
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.benchmark.fixtures import BATCH, SIDE
from tests.benchmark.peers import FILTERS
from tests.benchmark.rows import Row, Series, Spread, cpu_cost, elapsed, interleave, ratio_spread

# Their versions go into the JSON file.
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
_MATRIX_SIDE = 2048  # Large enough to reach the highest rate.
_VECTOR_LENGTH = 64_000_000  # Far more than caches hold.
_FLOAT_BYTES = 4.0
_TRIALS = 3


def describe() -> dict[str, Any]:
    """Returns processor, usable cores, memory, system and load."""
    # Windows and macOS lack some of these functions.
    can_count = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if can_count else os.cpu_count()
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": pages and round(os.sysconf("SC_PAGE_SIZE") * pages / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load": load and [round(average, 1) for average in load],
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that are installed."""
    installed = {package.name.lower(): package.version for package in metadata.distributions()}
    chosen = {name: installed[name] for name in _PACKAGES if name in installed}
    return {"python": platform.python_version(), **chosen}


class Ceilings:
    """The machine's highest rates, each the best of three trials."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        shape = (_MATRIX_SIDE, _MATRIX_SIDE)
        self._left = tf.constant(rng.normal(size=shape), tf.float32)
        self._right = tf.constant(rng.normal(size=shape), tf.float32)
        self._vector = tf.zeros([_VECTOR_LENGTH])
        # Reduced, so that reading the result costs nothing.
        self._product = tf.function(lambda a, b: tf.reduce_sum(tf.matmul(a, b)[0]))
        self._add_one = tf.function(lambda vector: vector + 1.0)
        for _ in range(2):  # Traces, and lets the processor reach its clock.
            self.matrix_rate()
            self.bandwidth()

    def matrix_rate(self) -> float:
        """Measures operations a second of float32 matrix products on all cores."""
        seconds = _best_time(lambda: self._product(self._left, self._right).numpy())
        return 2.0 * _MATRIX_SIDE**3 / seconds  # A product and a sum each.

    def bandwidth(self) -> float:
        """Measures bytes a second, read and written, of adding one to a vector."""
        seconds = _best_time(lambda: self._add_one(self._vector)[:1].numpy())
        return 2.0 * _FLOAT_BYTES * _VECTOR_LENGTH / seconds  # Read and written.


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution without padding.

    Attributes:
      side: of its input, in pixels.
      channels: of its input.
      filters: of its output.
    """

    side: int
    channels: int
    filters: int

    @property
    def output_side(self) -> int:
        """Side of the output, in pixels."""
        return self.side - 2

    @property
    def flops(self) -> float:
        """Arithmetic operations of one pass over a batch."""
        return 2.0 * 9 * self.channels * self.filters * self.output_side**2 * BATCH

    @property
    def bytes_moved(self) -> float:
        """Bytes of input and output of one pass over a batch."""
        values = self.side**2 * self.channels + self.output_side**2 * self.filters
        return _FLOAT_BYTES * BATCH * values

    def passes(self) -> list[Callable[[], float]]:
        """Prepares the measurements of its forward and backward passes.

        Returns:
          Functions that return seconds: forward, to the kernel, and to the input. The last one is
          missing if the input is the image, whose gradient training does not compute.
        """
        image_shape = [BATCH, self.side, self.side, self.channels]
        kernel_shape = [3, 3, self.channels, self.filters]
        output_shape = [BATCH, self.output_side, self.output_side, self.filters]
        images = tf.random.stateless_normal(image_shape, [0, 1])
        kernel = tf.random.stateless_normal(kernel_shape, [0, 2])
        gradient = tf.random.stateless_normal(output_shape, [0, 3])
        stride = [1, 1, 1, 1]

        def to_kernel() -> tf.Tensor:
            return tf.raw_ops.Conv2DBackpropFilter(
                input=images,
                filter_sizes=kernel.shape,
                out_backprop=gradient,
                strides=stride,
                padding="VALID",
            )

        def to_input() -> tf.Tensor:
            return tf.raw_ops.Conv2DBackpropInput(
                input_sizes=images.shape,
                filter=kernel,
                out_backprop=gradient,
                strides=stride,
                padding="VALID",
            )

        functions = [lambda: tf.nn.conv2d(images, kernel, 1, "VALID"), to_kernel]
        if self.channels > 1:
            functions.append(to_input)
        return [_timed(function) for function in functions]


def measure_convolutions(quick: bool) -> Iterator[Row]:
    """Measures each convolution of seed_cnn beside its roofline.

    Args:
      quick: whether to take fewer rounds.

    Yields:
      One row a convolution: the roofline's time over the time of its passes.
    """
    ceilings = Ceilings()  # Measured in turns with each convolution.
    side = SIDE
    channels = 1
    for index, filters in enumerate(FILTERS, start=1):
        convolution = Convolution(side, channels, filters)
        *passes, matrix_rates, bandwidths = interleave(
            3 if quick else 7,
            *convolution.passes(),
            ceilings.matrix_rate,
            ceilings.bandwidth,
        )
        yield _roofline_row(f"conv{index}", convolution, passes, matrix_rates, bandwidths)
        side = convolution.output_side // 2  # 2x2 pooling follows.
        channels = filters  # Of the next input.


def _roofline_row(
    name: str,
    convolution: Convolution,
    passes: list[Series],
    matrix_rates: Series,
    bandwidths: Series,
) -> Row:
    """Compares the seconds of a convolution's passes with the least the machine allows."""
    flops = len(passes) * convolution.flops
    times = [sum(values) for values in zip(*passes, strict=True)]
    # One bound a round: the ceilings change with other load too.
    bounds = [
        len(passes) * max(convolution.flops / rate, convolution.bytes_moved / bandwidth)
        for rate, bandwidth in zip(matrix_rates, bandwidths, strict=True)
    ]
    rate = Spread.of(matrix_rates).median
    bandwidth = Spread.of(bandwidths).median
    bound = "arithmetic"
    cpu_share = None
    if convolution.bytes_moved / bandwidth > convolution.flops / rate:
        bound = "memory"
    else:
        # Like against like: a matrix product's CPU time an operation, times the operations.
        cpu_seconds = sum(cpu_cost(series, is_rate=False) for series in passes)
        cpu_share = flops * cpu_cost(matrix_rates, is_rate=True) / cpu_seconds
    gflops = flops / Spread.of(times).median / 1e9
    shape = f"{convolution.side}x{convolution.side}x{convolution.channels}"
    return Row(
        f"{name} {shape} to {convolution.filters}, of its roofline",
        "s",
        Spread.of(times),
        Spread.of(bounds),
        f"roofline, bound by {bound}",
        ratio_spread(bounds, times),
        0.6,
        cpu_ratio=cpu_share,
        note=f"{gflops:.0f} GFLOP/s; matrix products {rate / 1e9:.0f} GFLOP/s, "
        f"memory {bandwidth / 1e9:.0f} GB/s",
    )


def _timed(function: Callable[[], tf.Tensor]) -> Callable[[], float]:
    """Compiles a function and returns one that measures its seconds."""
    compiled = tf.function(function)
    compiled()
    # Reading one value waits for the operation.
    return lambda: elapsed(lambda: compiled()[0, 0, 0, 0].numpy())


def _best_time(function: Callable[[], Any]) -> float:
    return min(elapsed(function) for _ in range(_TRIALS))


def _processor() -> str:
    path = Path("/proc/cpuinfo")  # Linux only.
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    match = re.search(r"^model name\s*:(.*)", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()
