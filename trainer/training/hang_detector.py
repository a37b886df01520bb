"""Detection of a step that does not end.

That happens after the loss of another worker, whose connection may stay open for minutes.

    detector = HangDetector(config.step_timeout_seconds, distribution.exit_worker_lost)
    with detector.step():
        train_step(batch)
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_MAX_RATIO = 20.0  # of a step to the longest before it
_MIN_FIRST_LIMIT = 600.0  # seconds: the first step builds the graph


class HangDetector:
    """Calls a function if a step takes far longer than those before it.

    Args:
      seconds: every step may take this long; 0 for no detection.
      on_hang: called with a description, in another thread.
    """

    def __init__(self, seconds: float, on_hang: Callable[[str], None]):
        self._seconds = seconds
        self._on_hang = on_hang
        self._longest: float | None = None  # seconds, of the steps after the first
        self._deadline = float("inf")
        self._ended = threading.Event()
        if seconds:
            threading.Thread(target=self._check_deadline, daemon=True).start()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Watches the block as one step."""
        started = time.monotonic()
        self._deadline = started + self._limit()
        yield
        self._deadline = float("inf")
        # The first step builds the graph, so its time tells nothing about the others.
        self._longest = (
            0.0 if self._longest is None else max(self._longest, time.monotonic() - started)
        )

    def end(self) -> None:
        """Ends the thread."""
        self._ended.set()

    def _limit(self) -> float:
        limit = _MIN_FIRST_LIMIT if self._longest is None else _MAX_RATIO * self._longest
        return max(self._seconds, limit)

    def _check_deadline(self) -> None:
        while not self._ended.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() > self._deadline:
                self._on_hang(f"no step ended within {self._limit():.0f} s")
                return
