"""All stages in order: runs them, writes the JSON file and the figures, returns the table.

print(suite.measure(suite.Settings("bench.json", quick=True)))
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from tqdm import tqdm

from tests.benchmark import (
    STAGES,
    fixtures,
    growth,
    machine,
    recorded_runs,
    training_stages,
    usage_stages,
)
from tests.benchmark.rows import Row, format_ratio, format_table
from trainer.errors import UserError

matplotlib.use("Agg")  # Needs no screen.
from matplotlib import pyplot as plt

# Okabe & Ito 2008: colours that colour-blind readers can tell apart.
_COLOURS = {True: "#009e73", False: "#d55e00"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the command.

    Attributes:
      output: the JSON file; figures go beside it.
      quick: whether to take fewer images and rounds.
      only: names of stages; empty for all.
      data_dir: the folder of prepared sets, as for trainer.main.
      manual_dir: radiographs, as for trainer.main; None for synthetic ones.
      recorded: the folder of recorded trainings; None for OUTPUT_runs beside the output.
      train: whether to train the runs that are not recorded.
    """

    output: str
    quick: bool = False
    only: tuple[str, ...] = ()
    data_dir: str | None = None
    manual_dir: str | None = None
    recorded: str | None = None
    train: bool = False


def measure(settings: Settings) -> str:
    """Measures all chosen stages and writes their results.

    Args:
      settings: of the command.

    Returns:
      The table as text, and the names of the files that were written.

    Raises:
      UserError: an unknown stage, no such data, or an output that cannot be written.
    """
    unknown = [name for name in settings.only if name not in STAGES]
    if unknown:
        raise UserError(f"--only={unknown[0]}: choose among {', '.join(STAGES)}.")
    output = Path(settings.output).expanduser()
    try:
        output.touch()  # Before an hour of measuring.
    except OSError as error:
        raise UserError(
            f"cannot write {output} ({error.strerror}); give another --output."
        ) from error
    rows, curves = _run_stages(settings, output)
    paths = [output]
    if rows:
        paths.append(output.with_suffix(".png"))
        draw_rows(rows, paths[-1])
    if curves:
        paths.append(output.with_name(f"{output.stem}_growth.png"))
        growth.draw(curves, paths[-1])
    slopes = [
        f"{curve.name}: grows with {curve.along} to the power {curve.slope:.2f}" for curve in curves
    ]
    written = ", ".join(map(str, paths))
    return "\n".join([format_table(rows), *slopes, f"written: {written}"])


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """Draws the ratio of each row over its target; 1 is just met, more is better.

    Args:
      rows: those without a target or a ratio are left out.
      path: of the PNG file.
    """
    # barh counts from below: the first row comes last.
    measured = [row for row in reversed(rows) if row.met is not None and row.target]
    height = 1.2 + 0.36 * max(len(measured), 1)
    figure, axis = plt.subplots(figsize=(11, height), layout="constrained")
    factors = [1.0]
    for position, row in enumerate(measured):
        low, median, high = _over_target(row)
        factors += [low, median, high]
        axis.barh(position, median, color=_COLOURS[bool(row.met)])
        axis.plot([low, high], [position, position], color="black", linewidth=1)  # The range.
        axis.text(high, position, f"  {format_ratio(row)}", va="center", fontsize=8)
    labels = [f"{row.name}\n{row.against}" for row in measured]
    axis.set_yticks(range(len(measured)), labels, fontsize=7)
    # The target.
    axis.axvline(1.0, color="black", linestyle="--", linewidth=1)
    axis.margins(y=0.01)
    axis.set(
        xscale="log",
        xlim=(min(0.5, *factors) / 1.2, max(2.0, *factors) * 6.0),  # Room for the text.
        xlabel="ratio over target (target over share where it is an upper bound); black: range",
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _run_stages(settings: Settings, output: Path) -> tuple[list[Row], list[growth.Curve]]:
    """Runs the chosen stages and writes the JSON file after each."""
    rows: list[Row] = []
    curves: list[growth.Curve] = []
    result: dict[str, Any] = {
        # First: the load is that of other programs.
        "machine": machine.describe(),
        "versions": machine.versions(),
        "quick": settings.quick,
        "seconds": {},
    }
    names = [name for name in STAGES if not settings.only or name in settings.only]
    with fixtures.open_images(settings.data_dir, settings.manual_dir, settings.quick) as images:
        result["dataset"] = {
            "name": images.data.name,
            "synthetic": images.data.synthetic,
            "training_images": len(images.train),
        }
        # No bar where the output is not a terminal.
        for name in tqdm(names, "measuring", unit=" stages", disable=None):
            start = time.perf_counter()
            if name == "growth":
                curves = growth.measure(settings.quick)
            else:
                rows += _measure_stage(name, settings, images, output)
            result["seconds"][name] = round(time.perf_counter() - start, 1)
            result["rows"] = [row.to_dict() for row in rows]
            result["growth"] = [curve.to_dict() for curve in curves]
            # After each stage: an interrupted command leaves what it has measured.
            output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return rows, curves


def _measure_stage(
    name: str, settings: Settings, images: fixtures.ImageSet, output: Path
) -> Iterable[Row]:
    quick = settings.quick
    # By the names of --only.
    stages: dict[str, Callable[[], Iterable[Row]]] = {
        "pipeline": lambda: training_stages.measure_pipeline(images, quick),
        "step": lambda: training_stages.measure_step(quick),
        "convolutions": lambda: machine.measure_convolutions(quick),
        "overheads": lambda: training_stages.measure_overheads(images, quick),
        "start": lambda: usage_stages.measure_start(quick),
        "answer": lambda: usage_stages.measure_inference(quick),
        "build": lambda: usage_stages.measure_build(images, quick),
        "runs": lambda: _measure_runs(settings, images, output),
    }
    return stages[name]()


def _measure_runs(settings: Settings, images: fixtures.ImageSet, output: Path) -> Iterable[Row]:
    folder = output.with_name(f"{output.stem}_runs")
    if settings.recorded:
        folder = Path(settings.recorded)
    # Recorded runs are not trained again.
    if settings.train:
        # The same data as here.
        flags = [f"--dataset={images.data.name}", f"--data_dir={images.data.data_dir}"]
        if settings.manual_dir:
            flags.append(f"--manual_dir={settings.manual_dir}")
        recorded_runs.train_missing(folder, images, flags)
    return recorded_runs.measure(folder)


def _over_target(row: Row) -> tuple[float, float, float]:
    """Ratio over target, or target over share for an upper bound: low, median, high."""
    if row.ratio is None or row.target is None:
        raise ValueError(f"{row.name} has no ratio or no target")
    ratios = np.array([row.ratio.low, row.ratio.median, row.ratio.high])
    factors = ratios / row.target
    if row.at_most:
        factors = 1 / np.maximum(factors, 0.01)  # A share may be almost 0.
    low, median, high = sorted(factors.tolist())
    return low, median, high
