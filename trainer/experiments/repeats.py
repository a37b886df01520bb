"""Several runs as one: repeated with other seeds, or cross-validated by group; resumable, with one summary of the spread.

python -m trainer.main --folds=5        python -m trainer.main --seeds=5 --ensemble
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trainer import workdir
from trainer.analysis import predictions
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.errors import Stopped
from trainer.experiments import ensemble
from trainer.training import loop, summary

_SPLIT_SCORED = {
    True: "validation",
    False: "test",
}  # A fold scores the part held out from it, a seed the test split.


def train(config: TrainConfig) -> summary.Result:
    """Does what the configuration asks for: one run, or a repetition and what follows from it.

    --folds=K: K members, each scored on the part of Train held out from it, then a model on all of Train whose temperature
    and thresholds come from those predictions. --seeds=K: the run itself and K - 1 more. --ensemble: the model saved is the
    mean of all members. The workdir is that of the last model, the members lie in its members/; the same command goes on.

    Raises:
      UserError, Stopped: as `loop.train_and_evaluate`.
    """
    if config.fold is not None or not (config.folds or config.seeds > 1):
        return loop.train_and_evaluate(config)
    started = time.monotonic()
    config, data, work = loop.open_run(config)
    first = None if config.folds or config.ensemble else loop.train_and_evaluate(config)
    members = [_run(config, name, member) for name, member in _members(config, work.path).items()]
    results = [first, *members] if first else members
    spread = spread_of([result.metrics[_SPLIT_SCORED[bool(config.folds)]] for result in results])
    workdir.write_json(
        work.path / "summary.json",
        {
            "kind": "folds" if config.folds else "seeds",
            "scored_on": _SPLIT_SCORED[bool(config.folds)],
            "members": [str(result.workdir.path.relative_to(work.path)) for result in results],
            "spread": spread,
        },
    )
    if config.ensemble:
        return ensemble.save_and_score(config, data, work, results, _held_out(members), started)
    if config.folds:
        return loop.train_and_evaluate(config, _held_out(members))
    return first


def spread_of(scores: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, float | int]]:
    """Mean, standard deviation (n - 1), least and most of each score over the members, and of how many.

    Args:
      scores: for each member name → estimate, as metrics.json holds them; values that are None are left out.
    """
    found = {}
    for name in scores[0]:
        values = [member[name]["value"] for member in scores if member[name]["value"] is not None]
        if values:
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found[name] = {
                "mean": float(np.mean(values)),
                "deviation": deviation,
                "least": min(values),
                "most": max(values),
                "members": len(values),
            }
    return found


def _members(config: TrainConfig, top: Path) -> dict[str, TrainConfig]:
    """The configuration of each member by its name."""

    def member(name: str, **changes: Any) -> tuple[str, TrainConfig]:
        return name, dataclasses.replace(
            config, ensemble=False, workdir=str(top / "members" / name), **changes
        )

    if config.folds:
        return dict(member(f"fold_{fold}", fold=fold) for fold in range(config.folds))
    first = 0 if config.ensemble else 1
    return dict(
        member(f"seed_{config.seed + step}", seeds=1, seed=config.seed + step)
        for step in range(first, config.seeds)
    )


def _run(config: TrainConfig, name: str, member: TrainConfig) -> summary.Result:
    keras.utils.clear_session()  # Else the graphs of all members stay in memory.
    print(f"── {name} ──", flush=True)
    try:
        return loop.train_and_evaluate(member)
    except Stopped as stop:
        raise Stopped(f"stopped in {name}; to go on: {loop.command(config)}") from stop


def _held_out(members: list[summary.Result]) -> Predictions | None:
    parts = [member.workdir.predictions / "validation.csv" for member in members]
    found = [predictions.read(part) for part in parts if part.exists()]
    return predictions.concatenate(found) if found else None
