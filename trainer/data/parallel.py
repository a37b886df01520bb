"""Parallel map over threads, in order and with a bounded look-ahead.

for entry, square in parallel.map_in_order(read_square, entries):
    ...
"""

import collections
import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = os.cpu_count() or 1
LOOK_AHEAD = 8 * WORKERS  # Items in flight, so that one slow file stalls no thread.


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    """Yields (item, result) in order, computed in one thread per core.

    Threads suffice: Pillow and numpy release the interpreter lock while they decode and compute. At
    most `LOOK_AHEAD` results wait in memory.

    Args:
      function: called once for each item; its first exception is raised here.
      items: the arguments, in the order of the results.
    """
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as executor:
        futures = ((item, executor.submit(function, item)) for item in items)
        pending = collections.deque(itertools.islice(futures, LOOK_AHEAD + 1))
        while pending:
            item, future = pending.popleft()
            yield item, future.result()
            # One more starts for each that is taken.
            pending.extend(itertools.islice(futures, 1))
