"""The rows as text and as a picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from tests.benchmark.rows import Row

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_COLOURS = {
    True: "#009e73",
    False: "#d55e00",
    None: "#999999",
}  # Okabe & Ito 2008: safe for colour-blind eyes.
_HEAD = ("what", "ours", "against", "theirs", "ratio", "by CPU time", "target", "met")


def shown(rows: Sequence[Row]) -> str:
    """A table in Markdown, which reads well on a screen too: median [least, most]; a line below for each note."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = list(dict.fromkeys(f"{row.name}: {row.note}" for row in rows if row.note))
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def draw(rows: Sequence[Row], path: Path) -> None:
    """How far each row is from its target: 1 is just met, to the right is better."""
    measured = [row for row in rows if row.met is not None and row.ratio is not None and row.target]
    figure, axis = plt.subplots(
        figsize=(11, 1.2 + 0.36 * max(len(measured), 1)), layout="constrained"
    )
    for place, row in enumerate(reversed(measured)):
        low, middle, high = (
            _reached(row, value) for value in (row.ratio.low, row.ratio.median, row.ratio.high)
        )
        axis.barh(place, middle, color=_COLOURS[row.met])
        axis.plot(sorted((low, high)), [place, place], color="black", linewidth=1)
        axis.text(max(low, middle, high), place, f"  {_number(row)}", va="center", fontsize=8)
    axis.set_yticks(
        range(len(measured)),
        [f"{row.name}\n{row.against}" for row in reversed(measured)],
        fontsize=7,
    )
    axis.axvline(1.0, color="black", linestyle="--", linewidth=1)
    axis.margins(y=0.01)
    reached = [
        _reached(row, value)
        for row in measured
        for value in (row.ratio.low, row.ratio.median, row.ratio.high)
    ]
    axis.set(
        xscale="log",
        xlim=(min([0.5, *reached]) / 1.2, max([2.0, *reached]) * 6.0),
        xlabel="ratio over target (target over share where it is an upper bound); black: range",
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _cells(row: Row) -> tuple[str, ...]:
    unit = f" {row.unit}"
    return (
        row.name,
        f"{row.ours}{unit}" if row.ours else "–",
        row.against or "–",
        f"{row.peer}{unit}" if row.peer else "–",
        _number(row),
        f"{row.cpu_ratio:.3g}" if row.cpu_ratio else "–",
        "–" if row.target is None else f"{'≤' if row.at_most else '≥'} {row.target:g}",
        {True: "yes", False: "no", None: "–"}[row.met],
    )


def _number(row: Row) -> str:
    return str(row.ratio) if row.ratio else "not measured"


def _reached(row: Row, value: float) -> float:
    """How many times the target; at most 100 where a share is next to nothing."""
    return row.target / max(value, row.target / 100) if row.at_most else value / row.target
