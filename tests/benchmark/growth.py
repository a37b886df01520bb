"""Stage of growth: input and steps as functions of images, side and batch.

curves = growth.measure(quick=True)
growth.draw(curves, Path("bench_growth.png"))
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from tests.benchmark import fixtures, rows
from tests.benchmark.rows import Spread, interleave

matplotlib.use("Agg")  # Needs no screen.
from matplotlib import pyplot as plt

_BATCHES = 20  # Many more than are prepared ahead.


@dataclasses.dataclass(frozen=True)
class Curve:
    """A cost as a function of a size, for logarithmic axes.

    Attributes:
      name: of the measurement.
      along: name of the size.
      sizes: measured sizes, rising.
      costs: measurements at each size.
      cost: unit of the costs.
    """

    name: str
    along: str
    sizes: Sequence[int]
    costs: Sequence[Spread]
    cost: str = "seconds"

    @property
    def slope(self) -> float:
        """Exponent of growth: 1 for a cost proportional to the size, 2 for its square."""
        # A straight line on logarithmic axes: cost = constant * size ** slope.
        medians = [cost.median for cost in self.costs]
        return float(np.polyfit(np.log(self.sizes), np.log(medians), 1)[0])

    def to_dict(self) -> dict[str, Any]:
        """Returns the curve as the JSON file holds it."""
        return dataclasses.asdict(self) | {"slope": self.slope}


def measure(quick: bool) -> list[Curve]:
    """Measures input and steps as functions of images, side and batch.

    Args:
      quick: whether to measure fewer sizes.
    """
    counts = (320, 3200, 32000)
    sides = (128, 500) if quick else (128, 256, 500, 750, 1000)
    batches = (8, 32) if quick else (8, 16, 32, 64, 128)
    # (images, side, images a batch, batches to read)
    epochs = [(count, 64, 16, count // 16) for count in counts]
    by_side = [(64, side, 16, _BATCHES) for side in sides]
    by_batch = [(128, 256, batch, _BATCHES) for batch in batches]
    side_settings = [{"image_size": side} for side in sides]
    batch_settings = [{"image_size": 256, "batch_size": batch} for batch in batches]
    step = "a step of the default model"
    return [
        Curve("input, an epoch, side 64", "images", counts, _input_costs(epochs, quick)),
        Curve("input, 20 batches of 16", "side", sides, _input_costs(by_side, quick)),
        Curve(f"{step}, batch 16", "side", sides, _step_costs(side_settings, quick)),
        Curve("input, 20 batches, side 256", "batch", batches, _input_costs(by_batch, quick)),
        Curve(f"{step}, side 256", "batch", batches, _step_costs(batch_settings, quick)),
    ]


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draws the costs, one panel for each of images, side and batch.

    Args:
      curves: to draw.
      path: of the PNG file.
    """
    # In order of appearance, each once.
    names = list(dict.fromkeys(curve.along for curve in curves))
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 4), layout="constrained")
    panels = dict(zip(names, axes, strict=True))
    for curve in curves:
        values = np.array([[cost.low, cost.median, cost.high] for cost in curve.costs])
        low, median, high = values.T  # [sizes] each
        panels[curve.along].errorbar(
            curve.sizes,
            median,
            [median - low, high - median],
            marker="o",
            capsize=3,
            label=f"{curve.name}: slope {curve.slope:.2f}",
        )
    for name, axis in panels.items():
        axis.set(xlabel=name, ylabel="seconds (median and range)", xscale="log", yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _input_costs(sizes: Sequence[tuple[int, int, int, int]], quick: bool) -> list[Spread]:
    """Measures reading noise.

    Args:
      sizes: (images, side, images a batch, batches to read) of each measurement.
      quick: whether to take fewer rounds.
    """
    measures = []
    for count, side, batch, batches in sizes:
        data = fixtures.input_batches(fixtures.noise_examples(count, side), batch)
        measures.append(functools.partial(rows.time_batches, data, batches))
    return [Spread.of(series) for series in interleave(2 if quick else 7, *measures)]


def _step_costs(settings: Sequence[dict[str, int]], quick: bool) -> list[Spread]:
    costs = []
    for fields in settings:  # One after another: together they would not fit into memory.
        measure = fixtures.project_step(steps=1 if quick else 3, **fields)
        costs.append(Spread.of([measure() for _ in range(2 if quick else 5)]))
    return costs
