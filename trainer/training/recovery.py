"""Resuming from a checkpoint, and rollback after divergence.

problem = find_problem(losses, loss, norm, classes, scaled)   # "" if the step is fine
if problem:
    step = rollback(workdir, checkpoints, workers, step, problem, examples, config)
"""

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training import checkpoint, distribution, input_pipeline, progress
from trainer.workdir import Workdir

WINDOW = 100  # steps whose losses a new one is compared with
_MIN_STEPS = 20
_MAX_MEDIANS = 30.0
_MAX_CHANCES = 10.0

_MAX_ROLLBACKS = 2
_RATE_FACTOR = 0.5  # of the learning rate after each rollback


def restore_or_initialize(
    checkpoints: checkpoint.Checkpoints,
    workers: distribution.Workers,
    served: bool,
    initialize: Callable[[], str] = lambda: "",
) -> int:
    """Restores the newest whole checkpoint, or saves one of step 0.

    Args:
      checkpoints: of the run.
      workers: all of them.
      served: whether batches come from --data_service, in an order that cannot be entered.
      initialize: called before the checkpoint of step 0 is saved; its line is printed.

    Returns:
      The step of the checkpoint.

    Raises:
      UserError: the workers restored different steps, or a served run has begun already.
    """
    step = checkpoints.restore()
    if not workers.all_equal(-1 if step is None else step):
        raise UserError(
            "the workers do not see the same checkpoints; give a --workdir on storage that all of "
            "them share."
        )
    if step and served:
        raise UserError(
            "no order was promised with --data_service, so exact resume is refused: leave it out "
            f"to go on after step {step} with this machine's own input, or give a new --workdir."
        )
    if step is None:
        if note := initialize():
            progress.print_from_chief(workers, note)
        checkpoints.save(0)  # a loss that diverges early needs a checkpoint to return to
    return step or 0


def find_problem(
    losses: Sequence[float], loss: float, norm: float, classes: int, scaled: bool
) -> str:
    """Describes the problem of a step; empty if there is none.

    A loss diverges where it is 30 times the median of the last 100 and 10 times that of guessing,
    log(classes).

    Args:
      losses: of the steps before, oldest first; the last `WINDOW` count.
      loss: of this step.
      norm: of its gradient.
      classes: number of classes.
      scaled: whether the loss is scaled for float16; the optimizer skips its overflows by itself.
    """
    # With float16 an infinite gradient only means that the scale was too high.
    if not math.isfinite(loss) or not (math.isfinite(norm) or scaled):
        return f"the loss ({loss}) or its gradient ({norm}) is not finite"
    recent = losses[-WINDOW:]
    if len(recent) < _MIN_STEPS:
        return ""
    median = statistics.median_high(recent)
    # Late losses are near 0, where 30 times the median is no divergence: hence the second bound.
    if loss > _MAX_MEDIANS * median and loss > _MAX_CHANCES * math.log(classes):
        return (
            f"the loss ({loss:.3g}) is more than {_MAX_MEDIANS:.0f} times the median of the steps "
            f"before ({median:.3g})"
        )
    return ""


def learning_rate_factor(incidents: Sequence[dict[str, Any]], step: int) -> float:
    """The factor of the learning rate after `step`: half for each rollback up to it."""
    return _RATE_FACTOR ** sum(incident["restored"] <= step for incident in incidents)


def rollback(
    workdir: Workdir,
    checkpoints: checkpoint.Checkpoints,
    workers: distribution.Workers,
    step: int,
    problem: str,
    train: input_pipeline.Examples,
    config: TrainConfig,
) -> int:
    """Returns to an earlier checkpoint after `step` failed, and records the incident.

    Args:
      workdir: of the run.
      checkpoints: of the run.
      workers: all of them.
      step: that failed.
      problem: from `find_problem`.
      train: the training split.
      config: of the run.

    Returns:
      The step of the checkpoint; the learning rate is lower from there on.

    Raises:
      UserError: two rollbacks did not help, or no whole checkpoint is left; the message names the
        files of the batch.
    """
    incidents = workdir.incidents()
    filenames = []
    contents = "Which images the batch held is not known with --data_service."
    if not config.data_service:
        # The order is a function of the step, so the images of the batch can be named.
        filenames = train.filenames[input_pipeline.batch_indices(train, config, step)].tolist()
        contents = f"The batch held: {', '.join(filenames)}"
    advice = f"{problem} at step {step}; lower --learning_rate or set --clip_norm=1. {contents}"
    if len(incidents) >= _MAX_ROLLBACKS:
        raise UserError(
            f"{advice} (taken back {len(incidents)} times already, with half the rate each time: "
            f"see {workdir.path / 'incidents.jsonl'})"
        )
    # The checkpoint of the last rollback may itself be the cause, so an earlier one comes first.
    restored = checkpoints.restore(before=incidents[-1]["restored"]) if incidents else None
    if restored is None:
        restored = checkpoints.restore(before=step)
    if restored is None:
        raise UserError(advice)
    checkpoints.drop_after(restored)
    workers.barrier()  # no worker reads the incidents while the chief writes them
    workdir.log_incident(step=step, wrong=problem, files=filenames, restored=restored)
    workers.barrier()
    if workers.chief:
        print(
            f"{problem} at step {step}: taken back to step {restored}, with half the learning rate",
            file=sys.stderr,
            flush=True,
        )
    return restored
