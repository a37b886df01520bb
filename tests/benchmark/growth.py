"""Stage: how costs grow with the number of images, the side and the batch, with the slopes of their curves."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from tests.benchmark import keras_side, our_side
from tests.benchmark.rows import Spread, in_turns
from trainer.training import input_pipeline

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_BATCHES = 20  # Many more than are prepared ahead.


@dataclasses.dataclass(frozen=True)
class Curve:
    """A cost against a size, both on logarithmic axes.

    Attributes:
      name, along, cost: what it is and what its axes are.
      sizes: where it was measured.
      costs: what was measured there.
    """

    name: str
    along: str
    cost: str
    sizes: Sequence[int]
    costs: Sequence[Spread]

    @property
    def slope(self) -> float:
        """The exponent: 1 where the cost grows as the size, 2 as its square."""
        return float(
            np.polyfit(np.log(self.sizes), np.log([cost.median for cost in self.costs]), 1)[0]
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"slope": self.slope}


def measure(quick: bool) -> list[Curve]:
    """An epoch's input over images 1, 10, 100 times; input and step over the side; input and step over the batch."""
    images = (320, 3200, 32000)
    sides = (128, 500) if quick else (128, 256, 500, 750, 1000)
    sizes = (8, 32) if quick else (8, 16, 32, 64, 128)
    return [
        Curve(
            "input, an epoch, side 64",
            "images",
            "seconds",
            images,
            _taken(
                quick, [_epoch(our_side.squares(count, 64), 16, count // 16) for count in images]
            ),
        ),
        Curve(
            "input, 20 batches of 16",
            "side",
            "seconds",
            sides,
            _taken(quick, [_epoch(our_side.squares(64, side), 16, _BATCHES) for side in sides]),
        ),
        _steps(
            "a step of the default model, batch 16",
            "side",
            sides,
            quick,
            [{"image_size": side} for side in sides],
        ),
        Curve(
            "input, 20 batches, side 256",
            "batch",
            "seconds",
            sizes,
            _taken(quick, [_epoch(our_side.squares(128, 256), size, _BATCHES) for size in sizes]),
        ),
        _steps(
            "a step of the default model, side 256",
            "batch",
            sizes,
            quick,
            [{"image_size": 256, "batch_size": size} for size in sizes],
        ),
    ]


def draw(curves: Sequence[Curve], path: Path) -> None:
    """One panel for each of images, side, batch."""
    names = list(dict.fromkeys(curve.along for curve in curves))
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 4), layout="constrained")
    for axis, along in zip(axes, names, strict=True):
        for curve in (curve for curve in curves if curve.along == along):
            low, middle, high = (
                np.array([getattr(cost, part) for cost in curve.costs])
                for part in ("low", "median", "high")
            )
            axis.errorbar(
                curve.sizes,
                middle,
                [middle - low, high - middle],
                marker="o",
                capsize=3,
                label=f"{curve.name}: slope {curve.slope:.2f}",
            )
        axis.set(xlabel=along, ylabel="seconds (median and range)", xscale="log", yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _epoch(held: input_pipeline.Examples, batch: int, batches: int) -> Callable[[], float]:
    """Seconds in which so many batches are drawn; a batch is waited for first, so that setting up is not counted."""
    data = our_side.batches(held, batch)
    return lambda: batch * batches / keras_side.rate_of(data, batch, batches)


def _steps(
    name: str, along: str, sizes: Sequence[int], quick: bool, settings: Sequence[dict[str, int]]
) -> Curve:
    costs = []
    for chosen in settings:  # One after another: all at once would not fit into memory.
        measure = our_side.step(steps=1 if quick else 3, **chosen)
        costs.append(Spread.of([measure() for _ in range(2 if quick else 5)]))
    return Curve(name, along, "seconds", sizes, costs)


def _taken(quick: bool, measures: Sequence[Callable[[], float]]) -> list[Spread]:
    return [Spread.of(values) for values in in_turns(2 if quick else 7, *measures)]
