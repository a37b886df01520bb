"""Ctrl-C and SIGTERM as a question between two steps.

with catch_stop_signals() as stop_requested:
    while not stop_requested():
        ...
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells if a stop was requested.

    A second Ctrl-C interrupts at once.
    """
    requested = threading.Event()
    # Python delivers signals to the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def handle(number: int, _: FrameType | None) -> None:
        if requested.is_set():
            signal.signal(number, previous[number])
            raise KeyboardInterrupt
        requested.set()

    previous: dict[int, Any] = {
        number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
