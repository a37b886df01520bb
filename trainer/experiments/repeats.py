"""Several runs as one: cross-validated by group, or repeated with other seeds.

python -m trainer.main --folds=5        python -m trainer.main --seeds=5 --ensemble

Members are resumable runs in WORKDIR/members; summary.json holds the spread of their scores.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trainer.analysis import calibration, predictions
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data.run import open_run
from trainer.errors import Stopped
from trainer.evaluation import finish
from trainer.evaluation.result import Result
from trainer.experiments import ensemble, self_training, starting_weights
from trainer.experiments.run import train_and_evaluate
from trainer.training import distribution, models
from trainer.workdir import resume_command, write_json


def run(config: TrainConfig, teaches: bool = False) -> Result:
    """Trains what a configuration asks for: one model, or the members of a repetition.

    --folds=K trains K members, each scored on the fold held out from it, then a model on all of
    Train whose temperature and thresholds are fitted to the members' predictions. --seeds=K trains
    the run itself and K - 1 more. --ensemble saves the mean of the members as the model. The
    workdir is that of the last model; the same command resumes.

    Args:
      config: as the user gave it.
      teaches: whether the model only teaches the next round; then nothing is scored on test.

    Raises:
      UserError, Stopped: as `train_and_evaluate`.
    """
    if config.fold is not None or not (config.folds or config.seeds > 1):
        return _train_rounds(config, teaches=teaches)
    started = time.monotonic()
    # Opened before the members, so that wrong settings are an error before hours of training.
    resolved = models.resolve(config)
    distribution.make_strategy(resolved)  # Before any other TensorFlow operation.
    starting_weights.check(resolved)
    opened = open_run(resolved, requested=config)
    config = opened.config
    if config.ensemble and config.seeds > 1 and config.rounds > 1:
        # Of all seeds: the mean of their maps is a better target than the map of one.
        before = self_training.round_before(config)
        _train_member(config, f"round {before.rounds}", before, teaches=True)
    results = []
    if not config.folds and not config.ensemble:
        results.append(_train_rounds(config))  # The run itself is the first of the seeds.
    for name, member in _members(config, opened.workdir.path).items():
        results.append(_train_member(config, name, member, teaches))

    if not teaches:
        _write_summary(config, opened.workdir.path, results)
    if config.ensemble:
        # Its members had finished, too, and were not trained again.
        if opened.workdir.finished:
            return finish.reopen(opened.workdir)
        seconds = time.monotonic() - started
        return ensemble.save_and_score(opened, results, _held_out(results), seconds, teaches)
    if config.folds:
        return _train_rounds(config, _held_out(results, calibrated=False))
    return results[0]


def summarize_scores(scores: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, float | int]]:
    """Computes mean, standard deviation (n - 1), minimum and maximum of each score.

    Args:
      scores: for each member name → estimate, as in metrics.json; values of None are left out.

    Returns:
      Score name → mean, deviation, min, max and the number of members.
    """
    summary = {}
    for name in scores[0]:
        # No value: the member's split lacked a class.
        values = [member[name]["value"] for member in scores if member[name]["value"] is not None]
        if values:
            summary[name] = {
                "mean": float(np.mean(values)),
                "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "min": min(values),
                "max": max(values),
                "members": len(values),
            }
    return summary


def _write_summary(config: TrainConfig, root: Path, results: list[Result]) -> None:
    # A fold is scored on the images held out from it, a seed on the test split.
    split = "validation" if config.folds else "test"
    summary = {
        "kind": "folds" if config.folds else "seeds",
        "scored_on": split,
        "members": [str(result.workdir.path.relative_to(root)) for result in results],
        "spread": summarize_scores([result.metrics[split] for result in results]),
    }
    write_json(root / "summary.json", summary)


def _members(config: TrainConfig, root: Path) -> dict[str, TrainConfig]:
    """Returns the configuration of each member by its name."""
    changes: dict[str, dict[str, Any]]
    if config.folds:
        changes = {f"fold_{fold}": {"fold": fold} for fold in range(config.folds)}
    else:
        # Without --ensemble the first seed is the run itself.
        first = config.seed + (0 if config.ensemble else 1)
        seeds = range(first, config.seed + config.seeds)
        changes = {f"seed_{seed}": {"seed": seed, "seeds": 1} for seed in seeds}
        if config.ensemble and config.rounds > 1:
            learnt = {"rounds": 1, "teacher": self_training.round_before(config).workdir}
            changes = {name: change | learnt for name, change in changes.items()}
    return {
        name: dataclasses.replace(
            config, ensemble=False, workdir=str(root / "members" / name), **change
        )
        for name, change in changes.items()
    }


def _train_rounds(
    config: TrainConfig, out_of_fold: Predictions | None = None, teaches: bool = False
) -> Result:
    """Trains one model, after the rounds of self-training before it.

    Args:
      config: of the last round; the others are members of its workdir.
      out_of_fold: as for `train_and_evaluate`.
      teaches: as for `train_and_evaluate`.
    """
    if config.rounds > 1:
        opened = open_run(models.resolve(config), requested=config)
        config = opened.config
        if not opened.workdir.finished:
            # That of a fold never sees the fold either.
            before = dataclasses.replace(
                self_training.round_before(config),
                folds=0 if config.fold is None else config.folds,
                seeds=1,
                ensemble=False,
            )
            _train_member(config, f"round {before.rounds}", before, teaches=True)
            keras.utils.clear_session()
    return train_and_evaluate(config, out_of_fold, teaches)


def _train_member(
    config: TrainConfig, name: str, member: TrainConfig, teaches: bool = False
) -> Result:
    keras.utils.clear_session()  # The graphs of earlier members would stay in memory.
    print(f"── {name} ──", flush=True)
    try:
        return run(member, teaches)
    except Stopped as stop:
        command = resume_command(Path(str(config.workdir)))
        raise Stopped(f"stopped in {name}; to go on: {command}") from stop


def _held_out(members: list[Result], calibrated: bool = True) -> Predictions | None:
    """Joins the members' predictions of images held out from them; None if nothing was."""
    # A member that held nothing out has no such file.
    splits = []
    for member in members:
        path = member.workdir.predictions / "validation.csv"
        if path.exists():
            held_out = predictions.read(path, member.metrics["dataset"]["positive_class"])
            if not calibrated:
                held_out = calibration.restore(held_out, member.metrics["temperature"])
            splits.append(held_out)
    return predictions.concatenate(splits) if splits else None
