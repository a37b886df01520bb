"""Notices that a step does not end, as when another worker is cut off: its connection may stay open for minutes."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_FACTOR = 20.0  # A step may take this many times the longest before it.
_FIRST = 600.0  # Seconds for the first, in which the graph is built.


class StepWatch:
    """Calls a function where a step takes far longer than those before it.

    Args:
      seconds: how long a step may take at least; 0 for no watch at all.
      late: what is called, with words, in a thread of its own.
    """

    def __init__(self, seconds: float, late: Callable[[str], None]):
        self._seconds, self._late = seconds, late
        self._longest, self._deadline, self._steps = 0.0, float("inf"), 0
        self._ended = threading.Event()
        if seconds:
            threading.Thread(target=self._look, daemon=True).start()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """A step is taken within."""
        started = time.monotonic()
        self._deadline = started + self._limit()
        yield
        self._deadline = float("inf")
        if self._steps:  # The first builds the graph and says nothing of the next.
            self._longest = max(self._longest, time.monotonic() - started)
        self._steps += 1

    def end(self) -> None:
        """Ends the watch."""
        self._ended.set()

    def _limit(self) -> float:
        return (
            max(self._seconds, _FACTOR * self._longest)
            if self._steps
            else max(self._seconds, _FIRST)
        )

    def _look(self) -> None:
        while not self._ended.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() > self._deadline:
                self._late(f"no step ended within {self._limit():.0f} s")
                return
