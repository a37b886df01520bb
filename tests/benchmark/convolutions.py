"""Stage: how near each convolution of seed_cnn comes to what the machine can do: its roofline (Williams 2009).

An operation cannot be faster than its arithmetic at the rate of large matrix products, nor than reading its inputs and writing
its output once at the bandwidth of memory; both are measured in turns with it.
"""

from collections.abc import Callable, Iterator

import tensorflow as tf

from tests.benchmark.keras_side import FILTERS
from tests.benchmark.machine import Limits
from tests.benchmark.material import BATCH, SIDE
from tests.benchmark.rows import Row, Spread, in_turns, quotients, seconds


def measure(quick: bool) -> Iterator[Row]:
    """A row a convolution: the roofline's time over that of its forward and backward operations; forward alone where its
    input is the image."""
    limits, side, channels = Limits(), SIDE, 1
    rounds = 3 if quick else 7
    for index, filters in enumerate(FILTERS, start=1):
        name = f"conv{index} {side}x{side}x{channels} to {filters}, of its roofline"
        out = side - 2
        flops = 2.0 * 9 * channels * filters * out * out * BATCH
        moved = 4.0 * BATCH * (side * side * channels + out * out * filters)
        operations = _operations(side, channels, filters)
        *spent, rates, widths = in_turns(rounds, *operations, limits.matrix_rate, limits.bandwidth)
        taken = [sum(parts) for parts in zip(*spent, strict=True)]
        busy = sum(
            Spread.of([c * v for c, v in zip(part.cores, part, strict=True)]).median
            for part in spent
        )
        alone = Spread.of(
            [c / v for c, v in zip(rates.cores, rates, strict=True)]
        ).median  # CPU seconds an operation takes.
        least = [
            len(operations) * max(flops / rate, moved / width)
            for rate, width in zip(rates, widths, strict=True)
        ]
        bound = (
            "memory"
            if moved / Spread.of(widths).median > flops / Spread.of(rates).median
            else "arithmetic"
        )
        rate = len(operations) * flops / Spread.of(taken).median / 1e9
        yield Row(
            name,
            "s",
            Spread.of(taken),
            Spread.of(least),
            f"roofline, bound by {bound}",
            quotients(least, taken),
            0.6,
            cpu_ratio=len(operations) * flops * alone / busy if bound == "arithmetic" else None,
            note=f"{rate:.0f} GFLOP/s; matrix products {Spread.of(rates).median / 1e9:.0f} GFLOP/s, memory "
            f"{Spread.of(widths).median / 1e9:.0f} GB/s",
        )
        side, channels = out // 2, filters


def _operations(side: int, channels: int, filters: int) -> list[Callable[[], float]]:
    images = tf.random.stateless_normal([BATCH, side, side, channels], [0, 1])
    kernel = tf.random.stateless_normal([3, 3, channels, filters], [0, 2])
    gradient = tf.random.stateless_normal([BATCH, side - 2, side - 2, filters], [0, 3])
    unit = [1, 1, 1, 1]
    forward = tf.function(lambda: tf.nn.conv2d(images, kernel, 1, "VALID"))
    to_filter = tf.function(
        lambda: tf.raw_ops.Conv2DBackpropFilter(
            input=images,
            filter_sizes=kernel.shape,
            out_backprop=gradient,
            strides=unit,
            padding="VALID",
        )
    )
    to_input = tf.function(
        lambda: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=images.shape,
            filter=kernel,
            out_backprop=gradient,
            strides=unit,
            padding="VALID",
        )
    )
    wanted = [forward, to_filter] + (
        [to_input] if channels > 1 else []
    )  # None asks for the gradient of the image.
    for operation in wanted:
        operation()

    def timed(operation: Callable[[], tf.Tensor]) -> Callable[[], float]:
        return lambda: seconds(lambda: operation()[0, 0, 0, 0].numpy())

    return [timed(operation) for operation in wanted]
