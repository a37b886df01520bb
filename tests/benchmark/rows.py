"""A row of the table: what ours costs, what the peer costs, taken in turns; and whether the target is met."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

INSTALL = "not installed: pip install -e .[bench]"


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some measurements and their range, in the row's unit."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      name: what is measured.
      unit: of ours and peer; a higher number is better where it ends in /s, else worse.
      ours, peer: None where it was not measured; `note` says why.
      against: what the peer is.
      ratio: how many times better ours is, or the share the target speaks of; None where there is none.
      target: as the ratio compares with it; None for a row that is only shown.
      at_most: whether the target is an upper bound.
      cpu_ratio: the ratio of CPU time, both single processes: what others do on the machine changes it less.
      note: what the numbers do not say.
    """

    name: str
    unit: str
    ours: Spread | None = None
    peer: Spread | None = None
    against: str = ""
    ratio: Spread | None = None
    target: float | None = None
    at_most: bool = False
    cpu_ratio: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median ratio meets the target; None where either is missing."""
        if self.ratio is None or self.target is None:
            return None
        return (
            self.ratio.median <= self.target if self.at_most else self.ratio.median >= self.target
        )

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        return dataclasses.asdict(self) | {"met": self.met}


class Series(list[float]):
    """Measurements of one kind, and for each how many cores were kept busy meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.cores: list[float] = []

    def take(self, measure: Callable[[], float]) -> None:
        """Measures once."""
        value, cores = taken(measure)
        self.append(value)
        self.cores.append(cores)


def taken(measure: Callable[[], float]) -> tuple[float, float]:
    """The number, and how many cores were kept busy meanwhile: those of this process, unless `measure` has `cores`."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = measure()
    own = (time.process_time() - cpu) / (time.perf_counter() - wall)
    return value, getattr(measure, "cores", own)


def in_turns(rounds: int, *measures: Callable[[], float]) -> list[Series]:
    """Takes measurements A B … A B …, so that what else the machine does falls on all alike; one series a measure."""
    found = [Series() for _ in measures]
    for _ in range(rounds):
        for series, measure in zip(found, measures, strict=True):
            series.take(measure)
    return found


def quotients(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The spread of the quotients of measurements taken in turns, round by round."""
    return Spread.of([a / b for a, b in zip(over, under, strict=True)])


def seconds(work: Callable[[], Any]) -> float:
    """The wall-clock seconds a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compared(
    name: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float],
    against: str,
    target: float | None,
    note: str = "",
) -> Row:
    """The row of two series taken in turns; the ratio says how many times better ours is."""
    faster = unit.endswith("/s")
    ratio = quotients(ours, peer) if faster else quotients(peer, ours)
    return Row(
        name,
        unit,
        Spread.of(ours),
        Spread.of(peer),
        against,
        ratio,
        target,
        cpu_ratio=cpu_ratio(ours, peer, faster),
        note=note,
    )


def cpu_ratio(ours: Sequence[float], peer: Sequence[float], faster: bool = False) -> float | None:
    """How many times less CPU time ours takes for the same work; None where it is not known of both."""
    if not (isinstance(ours, Series) and isinstance(peer, Series)):
        return None
    own, other = (
        [
            cores / value if faster else cores * value
            for value, cores in zip(series, series.cores, strict=True)
        ]
        for series in (ours, peer)
    )
    return statistics.median(other) / statistics.median(own)


def missing(
    name: str,
    unit: str,
    against: str,
    target: float | None,
    note: str = INSTALL,
    ours: Sequence[float] | None = None,
) -> Row:
    """The row of a peer that is not there."""
    return Row(
        name, unit, Spread.of(ours) if ours else None, None, against, None, target, note=note
    )
