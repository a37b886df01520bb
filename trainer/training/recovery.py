"""Where a run starts from, and where it is taken back to when its loss breaks down."""

import sys

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training import divergence, input_pipeline
from trainer.training.checkpoint import Checkpoints
from trainer.training.distribution import Workers
from trainer.workdir import Workdir


def start(checkpoints: Checkpoints, workers: Workers, served: bool) -> int:
    """Restores the newest whole checkpoint and returns its step; where there is none, saves the beginning and returns 0.

    Args:
      checkpoints, workers: of the run.
      served: whether its batches come from --data_service, in an order that cannot be entered.

    Raises:
      UserError: workers found different ones; or the run is served and has begun.
    """
    found = checkpoints.restore()
    if not workers.agree(-1 if found is None else found):
        raise UserError(
            "the workers do not see the same checkpoints; give a --workdir on storage that all of "
            "them share."
        )
    if found and served:
        raise UserError(
            "no order was promised with --data_service, so exact resume is refused: leave it out "
            f"to go on after step {found} with this machine's own input, or give a new --workdir."
        )
    if found is None:
        checkpoints.save(0)  # A loss that breaks down early has somewhere to return to.
    return found or 0


def take_back(
    work: Workdir,
    checkpoints: Checkpoints,
    workers: Workers,
    step: int,
    wrong: str,
    train: input_pipeline.Examples,
    config: TrainConfig,
) -> int:
    """Returns to an earlier checkpoint after `step` went wrong, and notes it; the rate is lowered from there on.

    Returns:
      The step of that checkpoint.

    Raises:
      UserError: it has been taken back often enough, or there is no whole checkpoint; the message names the batch's files.
    """
    incidents = work.incidents()
    names = [] if config.data_service else _batch_names(train, config, step)
    held = (
        f"The batch held: {', '.join(names)}"
        if names
        else "Which images the batch held is not known with --data_service."
    )
    evidence = f"{wrong} at step {step}; lower --learning_rate or set --clip_norm=1. {held}"
    if len(incidents) >= divergence.MOST_RETURNS:
        raise UserError(
            f"{evidence} (taken back {len(incidents)} times already, with half the rate each time: "
            f"see {work.path / 'incidents.jsonl'})"
        )
    for before in divergence.return_before(incidents, step):
        restored = checkpoints.restore(before)
        if restored is not None:
            break
    else:
        raise UserError(evidence)
    checkpoints.drop_after(restored)
    workers.wait()  # None reads the incidents while the chief writes them.
    work.note_incident(step=step, wrong=wrong, files=names, restored=restored)
    workers.wait()
    if workers.chief:
        print(
            f"{wrong} at step {step}: taken back to step {restored}, with half the learning rate",
            file=sys.stderr,
            flush=True,
        )
    return restored


def _batch_names(train: input_pipeline.Examples, config: TrainConfig, step: int) -> list[str]:
    return [
        str(name)
        for name in train.filenames[
            input_pipeline.indices_at(train, config.batch_size, config.seed, step)
        ]
    ]
