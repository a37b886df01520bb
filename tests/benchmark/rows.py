"""Rows of the table: measurements taken in turns, their ratio, and the target.

    project, peer = rows.interleave(7, measure_project, measure_peer)
    row = rows.compare("one step", "s", project, peer, "plain Keras", 1.3)
    print(rows.format_table([row]))

This module does not import TensorFlow: peers in other processes use it too.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# The note of a row whose peer is missing.
NOT_INSTALLED = "not installed: pip install -e .[bench]"
_COLUMNS = ("what", "ours", "compared with", "peer", "ratio", "by CPU time", "target", "met")
# "–" for a row without a ratio or a target.
_MET = {True: "yes", False: "no", None: "–"}


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and range of some measurements, in the row's unit."""

    median: float
    low: float
    high: float
    n: int  # Number of measurements.

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarises measurements.

        Args:
          values: one or more.
        """
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      name: of the measurement.
      unit: of project and peer; higher is better where it ends in /s, else lower.
      project: this project's measurements; "ours" in the JSON. None if not measured.
      peer: those it is compared with. None if not measured; `note` says why.
      against: description of the peer.
      ratio: factor by which this project is better, or a share; None if not measured.
      target: bound of the ratio; None for a row without one.
      at_most: whether the target is an upper bound.
      cpu_ratio: the ratio in CPU time, which other load on the machine changes less;
        None if not known of both.
      note: remarks below the table.
    """

    name: str
    unit: str
    project: Spread | None = None
    peer: Spread | None = None
    against: str = ""
    ratio: Spread | None = None
    target: float | None = None
    at_most: bool = False
    cpu_ratio: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Result of comparing the median ratio with the target; None if either is missing."""
        if self.ratio is None or self.target is None:
            return None
        if self.at_most:
            return self.ratio.median <= self.target
        return self.ratio.median >= self.target

    def to_dict(self) -> dict[str, Any]:
        """Returns the row as the JSON file holds it."""
        # "ours" is the interface's word for this project.
        values = dataclasses.asdict(self) | {"met": self.met}
        return {"ours" if key == "project" else key: value for key, value in values.items()}


class Series(list[float]):
    """Measurements of one kind.

    Attributes:
      cores: mean number of busy cores during each measurement.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cores: list[float] = []


def measure_once(measure: Callable[[], float]) -> tuple[float, float]:
    """Takes one measurement and counts busy cores.

    Args:
      measure: returns a number. Its attribute `cores`, if there, counts for it;
        else the CPU time of this process does.

    Returns:
      The number, and the mean number of busy cores meanwhile.
    """
    wall_start = time.perf_counter()
    cpu_start = time.process_time()
    value = measure()
    cpu_seconds = time.process_time() - cpu_start
    wall_seconds = time.perf_counter() - wall_start
    # A peer in another process counts its own cores.
    return value, getattr(measure, "cores", cpu_seconds / wall_seconds)


def interleave(rounds: int, *measures: Callable[[], float]) -> list[Series]:
    """Takes measurements in turns (A B A B).

    Other load on the machine then affects all alike.

    Args:
      rounds: measurements of each.
      measures: see `measure_once`.

    Returns:
      One series for each of `measures`.
    """
    all_series = [Series() for _ in measures]
    for _ in range(rounds):
        for series, measure in zip(all_series, measures, strict=True):
            value, cores = measure_once(measure)
            series.append(value)
            series.cores.append(cores)
    return all_series


def elapsed(function: Callable[[], Any]) -> float:
    """Returns the wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_batches(batches: Iterable[Any], count: int) -> float:
    """Returns the seconds in which `count` batches are read.

    Args:
      batches: of more than `count` elements; opened anew. The first one, which includes the
        set-up, is not counted.
      count: number of batches.
    """
    iterator = iter(batches)
    next(iterator)  # Waits for the set-up.
    return elapsed(lambda: [next(iterator) for _ in range(count)])


def ratio_spread(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Summarises the quotients of two series, taken round by round."""
    return Spread.of([a / b for a, b in zip(numerators, denominators, strict=True)])


def cpu_cost(series: Series, is_rate: bool) -> float:
    """Returns the median CPU seconds of a measurement.

    Args:
      series: seconds, or rates.
      is_rate: whether they are rates; the result is then CPU seconds for one unit.
    """
    # Seconds of CPU time are busy cores times seconds, or busy cores over a rate.
    pairs = zip(series, series.cores, strict=True)
    if is_rate:
        return statistics.median([cores / value for value, cores in pairs])
    return statistics.median([cores * value for value, cores in pairs])


def cpu_ratio(
    project: Sequence[float], peer: Sequence[float], is_rate: bool = False
) -> float | None:
    """Returns the factor by which this project takes less CPU time.

    Returns:
      None unless both are `Series`, which know their CPU time.
    """
    if isinstance(project, Series) and isinstance(peer, Series):
        return cpu_cost(peer, is_rate) / cpu_cost(project, is_rate)
    return None


def compare(
    name: str,
    unit: str,
    project: Sequence[float],
    peer: Sequence[float] | None,
    against: str,
    target: float | None,
    note: str = "",
) -> Row:
    """Builds the row of two series that were taken in turns.

    Args:
      name: of the measurement.
      unit: a rate if it ends in /s.
      project: this project's series.
      peer: the other one; None if its package is not installed.
      against: description of the peer.
      target: lower bound of the ratio.
      note: remarks below the table; for a missing peer the reason.
    """
    row = Row(name, unit, Spread.of(project), against=against, target=target, note=note)
    if peer is None:
        return dataclasses.replace(row, note=note or NOT_INSTALLED)
    # The ratio is above one if this project is better: a higher rate or a shorter time.
    is_rate = unit.endswith("/s")
    return dataclasses.replace(
        row,
        peer=Spread.of(peer),
        ratio=ratio_spread(project, peer) if is_rate else ratio_spread(peer, project),
        cpu_ratio=cpu_ratio(project, peer, is_rate),
    )


def format_table(rows: Sequence[Row]) -> str:
    """Formats rows as a Markdown table, with a line below for each note."""
    cells = [_COLUMNS, *(_cells(row) for row in rows)]
    # Padded, so that it reads well on a screen too.
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for values in cells:
        padded = [value.ljust(width) for value, width in zip(values, widths, strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
    rule = "|".join("-" * (width + 2) for width in widths)
    lines.insert(1, f"|{rule}|")  # Below the head.
    # Rows of one measurement with several peers share their note.
    notes = list(dict.fromkeys(f"{row.name}: {row.note}" for row in rows if row.note))
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def format_ratio(row: Row) -> str:
    """Formats the ratio of a row."""
    return str(row.ratio) if row.ratio else "not measured"


def _cells(row: Row) -> tuple[str, ...]:
    bound = "≤" if row.at_most else "≥"
    return (
        row.name,
        f"{row.project} {row.unit}" if row.project else "–",
        row.against or "–",
        f"{row.peer} {row.unit}" if row.peer else "–",
        format_ratio(row),
        f"{row.cpu_ratio:.3g}" if row.cpu_ratio else "–",
        "–" if row.target is None else f"{bound} {row.target:g}",
        _MET[row.met],
    )
