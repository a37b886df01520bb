"""Tests of the parallel map: in order, bounded, and with the first exception raised."""

import time

import pytest

from trainer.data import parallel


@pytest.mark.parametrize("count", [0, 1, parallel.LOOK_AHEAD, 3 * parallel.LOOK_AHEAD + 1])
def test_results_are_in_the_order_of_the_items(count):
    def negate(number: int) -> int:
        time.sleep(0.002 * (number % 3))  # Later items may finish earlier.
        return -number

    results = list(parallel.map_in_order(negate, range(count)))
    assert results == [(number, -number) for number in range(count)]


def test_look_ahead_is_bounded():
    started = []
    results = parallel.map_in_order(started.append, range(10 * parallel.LOOK_AHEAD))
    # One result is enough to start the threads.
    next(results)
    assert len(started) <= parallel.LOOK_AHEAD + 1
    results.close()


def test_first_exception_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(parallel.map_in_order(lambda number: 1 // number, [1, 0, 2]))
