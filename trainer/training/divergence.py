"""Tells when training has broken down, and how far the rate is lowered after it was taken back. Pure functions."""

import math
from collections.abc import Sequence
from typing import Any

MOST_RETURNS = 2
_LOWERED = 0.5  # The learning rate after each return.
LOOKED_AT, _LEAST = 100, 20  # Steps a blow-up is judged by.
_TIMES_MEDIAN, _TIMES_CHANCE = 30.0, 10.0


def problem(losses: Sequence[float], loss: float, norm: float, classes: int, scaled: bool) -> str:
    """What is wrong with a step, in words; empty where nothing is.

    A loss blows up where it is 30 times the median of the last 100 and 10 times that of guessing, log(classes).

    Args:
      losses: of the steps before, oldest first; the last `LOOKED_AT` are looked at.
      loss, norm: of this step and of its gradient.
      classes: how many there are.
      scaled: the loss is scaled for float16, whose overflows the optimizer passes over by itself.
    """
    if not math.isfinite(loss) or not (math.isfinite(norm) or scaled):
        return f"the loss ({loss}) or its gradient ({norm}) is not finite"
    recent = sorted(losses[-LOOKED_AT:])
    if len(recent) < _LEAST:
        return ""
    median = recent[len(recent) // 2]
    if loss > _TIMES_MEDIAN * median and loss > _TIMES_CHANCE * math.log(classes):
        return f"the loss ({loss:.3g}) is more than {_TIMES_MEDIAN:.0f} times the median of the steps before ({median:.3g})"
    return ""


def rate_factor(incidents: Sequence[dict[str, Any]], step: int) -> float:
    """What the learning rate is multiplied by after `step`: halved for each return to that step or an earlier one."""
    return _LOWERED ** sum(incident["restored"] <= step for incident in incidents)


def return_before(incidents: Sequence[dict[str, Any]], step: int) -> tuple[int, ...]:
    """Before which step the checkpoint to return to must lie; where none does, the next value holds.

    A checkpoint that was returned to and did not help may itself be what is wrong, so the one before it comes first.
    """
    return (incidents[-1]["restored"], step) if incidents else (step,)
