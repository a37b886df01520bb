"""One side of a comparison in a process of its own, so that neither's threads and settings touch the other's."""

import concurrent.futures
import contextlib
import importlib
import multiprocessing
from collections.abc import Callable
from typing import Any

from tests.benchmark import rows
from trainer import tf_startup

_HELD: dict[str, Callable[[], float]] = {}


class Side:
    """A measurement that is set up once in a new process and then taken there as often as it is called.

    Attributes:
      cores: how many it kept busy when it was last taken.

    Args:
      place: "module:function" below tests.benchmark; called with `settings` it returns the measurement, which returns a
        number.
      settings: what the function is given; must be picklable.

    Raises:
      ImportError: a package that the function needs is not installed.
    """

    def __init__(self, place: str, **settings: Any):
        # Spawned, not forked: TensorFlow and OpenMP do not survive a fork.
        self._process = concurrent.futures.ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn")
        )
        try:
            self._process.submit(_set_up, place, settings).result()
        except BaseException:
            self.close()
            raise

    def __call__(self) -> float:
        value, self.cores = self._process.submit(_take).result()
        return value

    def close(self) -> None:
        """Ends the process."""
        self._process.shutdown()


def together(held: contextlib.ExitStack, *wanted: tuple[str, dict[str, Any]]) -> list[Side | None]:
    """Sets several sides up, two at a time: most of that is imports and tracing, which keep one core busy.

    Args:
      held: closes them.
      wanted: (place, settings) of each.

    Returns:
      the sides; None for one whose package is not installed.
    """

    def opened(one: tuple[str, dict[str, Any]]) -> Side | None:
        try:
            side = Side(one[0], **one[1])
        except ImportError:
            return None
        held.callback(side.close)  # At once: another may fail.
        return side

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(opened, wanted))


def _set_up(place: str, settings: dict[str, Any]) -> None:
    module, _, function = place.partition(":")
    if "torch" not in module:
        tf_startup.start_tensorflow()
    _HELD["measure"] = getattr(importlib.import_module(f"tests.benchmark.{module}"), function)(
        **settings
    )


def _take() -> tuple[float, float]:
    return rows.taken(_HELD["measure"])
