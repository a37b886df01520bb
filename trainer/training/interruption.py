"""Turns Ctrl-C and SIGTERM into a question the loop can ask between two steps, so that nothing is lost."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether the user or the system asked to stop. A second Ctrl-C interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # Signals reach the main thread only.
        return

    def note(number: int, _) -> None:
        if asked.is_set():
            signal.signal(number, before[number])
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
