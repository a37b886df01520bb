"""The training loop: batches in, a trained network and its predictions out.

    trained = train(run, near_duplicates, workers)

`trainer.experiments.run.train_and_evaluate` opens the run before and scores it afterwards.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from trainer.analysis.duplicates import NearDuplicates
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data import prepared, split
from trainer.data.run import Run
from trainer.errors import Stopped
from trainer.training import (
    checkpoint,
    data_service,
    distribution,
    hang_detector,
    image_store,
    input_pipeline,
    interruption,
    models,
    progress,
    recovery,
    run_data,
)
from trainer.training.distribution import Workers
from trainer.training.input_pipeline import Examples
from trainer.training.steps import TrainState, create_train_state
from trainer.workdir import resume_command


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network and its predictions on every split.

    Attributes:
      model: the network with the selected weights, usable without a strategy.
      splits: split name → examples; train, validation and test, without empty ones.
      predictions: split name → predictions before calibration, in the order of the examples.
      history: the lines of metrics.jsonl.
      facts: entries of metrics.json: parameters, steps, best_epoch, incidents, seconds (of the
        loop) and weights_sha256.
    """

    model: keras.Model
    splits: dict[str, Examples]
    predictions: dict[str, Predictions]
    history: list[dict[str, Any]]
    facts: dict[str, Any]


def train(
    run: Run,
    near_duplicates: NearDuplicates,
    workers: Workers,
    find_opacities: Callable[[np.ndarray], np.ndarray] | None = None,
    initialize: Callable[[keras.Model], str] = lambda _network: "",
    with_test: bool = True,
) -> Trained:
    """Trains one network, resuming from the newest checkpoint, and predicts every split.

    Args:
      run: an open run; a stopped one resumes at its last checkpoint, bit for bit.
      near_duplicates: images that count as one group when validation is carved out.
      workers: the processes that train together; each calls this function.
      find_opacities: as for `run_data.load_train`.
      initialize: sets the weights that a new run starts from; returns a line on them, or none.
      with_test: whether to predict the test split.

    Raises:
      UserError: training cannot go on; the message contains the fix.
      Stopped: after Ctrl-C or SIGTERM, with a checkpoint saved.
    """
    config = run.config
    workdir = run.workdir

    # ── Data ──────────────────────────────────────────────────────────────────────────────────
    total = run.data.fingerprint["images"]["train"]
    cache, cache_message = image_store.resolve_cache(
        workdir, config.cache, total, run.image_size, Path(str(run.data.builder.data_path))
    )
    examples, validation, lungs_message = run_data.load_train(
        run, cache, near_duplicates, workers, find_opacities
    )
    epoch_ends = input_pipeline.epoch_end_steps(len(examples), config.epochs, config.batch_size)
    last_step = epoch_ends[-1]
    notes = [run.data.reason, near_duplicates.message, cache_message, *lungs_message]
    _print_plan(run, workers, notes, len(examples), len(validation), last_step)

    # ── Network ───────────────────────────────────────────────────────────────────────────────
    tf.config.experimental.enable_op_determinism()  # Equal seeds then give equal weights.
    steps_per_epoch = len(examples) / config.batch_size  # Not whole: batches may span epochs.
    state = create_train_state(
        config,
        workers.strategy,
        len(run.data.class_names),
        last_step,
        steps_per_epoch,
        examples.labels,
        run_data.positive_index(run),
    )
    checkpoints = checkpoint.Checkpoints(
        workdir.checkpoints, state.model, state.optimizer, config.keep_checkpoints, workers.chief
    )

    # ── Resume ────────────────────────────────────────────────────────────────────────────────
    with workers.exit_if_worker_lost():
        step = recovery.restore_or_initialize(
            checkpoints, workers, bool(config.data_service), lambda: initialize(state.model)
        )
    history, batches = _continue_after(step, run, examples, state, workers)
    if step:
        progress.print_from_chief(workers, f"resumed at step {step} of {last_step}")
    epochs_since_best = progress.epochs_since_best(history)

    # ── Steps ─────────────────────────────────────────────────────────────────────────────────
    training_started = saved_at = time.monotonic()
    # A single process waits for nobody.
    step_timeout = config.step_timeout_seconds if workers.count > 1 else 0.0
    detector = hang_detector.HangDetector(step_timeout, distribution.exit_worker_lost)
    quiet = None if workers.chief else True  # None: tqdm shows a bar on terminals only.
    with (
        interruption.catch_stop_signals() as stop_requested,
        progress.event_writer(workdir).as_default(),
        tqdm(total=last_step, initial=step, unit="step", desc="training", disable=quiet) as bar,
    ):
        tf.summary.text("data", run.data.reason, step=step)
        while step < last_step and not (config.patience and epochs_since_best >= config.patience):
            with detector.step(), workers.exit_if_worker_lost():
                metrics = _take_step(run, state, batches)
            problem = _find_problem(run, history, metrics)
            if problem:
                with workers.exit_if_worker_lost():
                    step = recovery.rollback(
                        workdir, checkpoints, workers, step + 1, problem, examples, config
                    )
                history, batches = _continue_after(step, run, examples, state, workers)
                epochs_since_best = progress.epochs_since_best(history)
                bar.reset()
                bar.update(step)
                continue
            step += 1
            progress.log_step(workdir, bar, history, step, metrics)

            with workers.exit_if_worker_lost():
                # One worker that is asked to stop stops all.
                stopping = workers.any(stop_requested()) and step < last_step
                due = _checkpoint_due(config, workers, step, time.monotonic() - saved_at)
                if step in epoch_ends:
                    _validate(run, workers, state, validation, history, epoch_ends, step)
                    epochs_since_best = progress.epochs_since_best(history)
                    if epochs_since_best == 0:
                        checkpoints.save_best(step)
                if step in epoch_ends or due or stopping:
                    checkpoints.save(step)
                    saved_at = time.monotonic()
            if stopping:
                raise Stopped(
                    f"stopped after step {step} of {last_step}; to go on: "
                    f"{resume_command(run.workdir.path)}"
                )
    detector.end()
    seconds = time.monotonic() - training_started

    # ── Predictions ───────────────────────────────────────────────────────────────────────────
    splits = {"train": examples, "validation": validation}
    if with_test and config.fold is None:  # A member of a cross-validation never sees test.
        splits["test"] = run_data.load_split(run, "test", cache, near_duplicates, workers)
    splits = {name: subset for name, subset in splits.items() if len(subset)}
    with workers.exit_if_worker_lost():
        best_epoch = _select_weights(run, workers, checkpoints, history)
        predictions = {
            name: subset.predictions(state.predict(subset.images), run.data)
            for name, subset in splits.items()
        }
        facts = _facts(run, state, step, best_epoch, seconds)
        model = models.without_strategy(state.model, config)
    return Trained(model, splits, predictions, history, facts)


def _print_plan(
    run: Run, workers: Workers, notes: list[str], images: int, validation_images: int, steps: int
) -> None:
    """Prints notes on the data, then the size of the run."""
    config = run.config
    replicas = workers.strategy.num_replicas_in_sync
    plan = (
        f"{images} images to train on, {validation_images} to validate, side {config.image_size}; "
        f"{config.model}, {config.epochs} epochs, {steps} steps of {config.batch_size} on "
        f"{replicas} replica(s); workdir {run.workdir.path}"
    )
    progress.print_from_chief(workers, "\n".join([*notes, plan]))


def _continue_after(
    step: int, run: Run, examples: Examples, state: TrainState, workers: Workers
) -> tuple[list[dict[str, Any]], distribution.Prefetcher]:
    """Sets the learning rate after a restored step; returns history and batches from there."""
    config = run.config
    # Lines after the checkpoint will be logged again.
    history = run.workdir.truncate_history(step)
    # Each rollback up to this step halves the rate.
    factor = recovery.learning_rate_factor(run.workdir.incidents(), step)
    state.learning_rate.scale(factor)
    positive = run_data.positive_index(run)
    if config.data_service:
        batches = data_service.batches(config, run.workdir, examples, step, workers.count, positive)
    else:
        batches = input_pipeline.training_batches(
            examples,
            config,
            first_step=step,
            worker=workers.index,
            workers=workers.count,
            positive=positive,
        )
    return history, distribution.distribute(workers, batches, config.batch_size)


def _take_step(run: Run, state: TrainState, batches: distribution.Prefetcher) -> dict[str, float]:
    """Updates the weights on the next batch and waits for its metrics."""
    # Records are read while training runs, so damage may show at any step.
    with prepared.convert_read_errors(run.data.builder, "train"):
        outputs = state.train_step(next(batches))
        # The conversion waits for the device: a hang or an error falls into this block.
        return {name: float(value) for name, value in outputs.items()}


def _find_problem(run: Run, history: list[dict[str, Any]], metrics: dict[str, float]) -> str:
    return recovery.find_problem(
        progress.recent_losses(history, recovery.WINDOW),
        metrics["loss"],
        metrics["gradient_norm"],
        # A finding is there or not.
        2 if run.data.multi_label else len(run.data.class_names),
        run.config.precision == "mixed_float16",
    )


def _validate(
    run: Run,
    workers: Workers,
    state: TrainState,
    validation: Examples,
    history: list[dict[str, Any]],
    epoch_ends: list[int],
    step: int,
) -> None:
    """Scores validation and adds the line of an epoch to the history."""
    probabilities = state.predict(validation.images)  # [n, classes], n may be 0
    record = progress.epoch_record(history, epoch_ends, step, probabilities, validation.labels)
    history.append(run.workdir.log(**record))
    progress.write_events("epoch", record)
    if workers.chief:
        # Plain print would break the progress bar.
        tqdm.write(progress.describe_epoch(record, run.config.epochs))


def _checkpoint_due(config: TrainConfig, workers: Workers, step: int, seconds: float) -> bool:
    """Tells whether a checkpoint is due after a step, `seconds` after the last one."""
    due = bool(config.checkpoint_every_steps) and step % config.checkpoint_every_steps == 0
    if config.checkpoint_every_minutes:
        # Clocks differ between workers: one that is due makes it due for all.
        due = workers.any(due or seconds >= 60.0 * config.checkpoint_every_minutes)
    return due


def _select_weights(
    run: Run,
    workers: Workers,
    checkpoints: checkpoint.Checkpoints,
    history: list[dict[str, Any]],
) -> int | None:
    """Restores the weights of the best epoch, and returns that; None if the last ones stay."""
    workers.barrier()  # The chief has written them.
    best = progress.best_record(history) if split.selects_best(run.config) else None
    if best is None:  # Without validation, too.
        return None
    checkpoints.restore_best(best["step"])
    return best["epoch"]


def _facts(
    run: Run, state: TrainState, step: int, best_epoch: int | None, seconds: float
) -> dict[str, Any]:
    return {
        "parameters": state.model.count_params(),
        "steps": step,
        "best_epoch": best_epoch,
        "incidents": run.workdir.incidents(),
        "seconds": {"training": round(seconds, 1)},
        # Of the selected weights: equal for two runs that agree bit for bit.
        "weights_sha256": checkpoint.weights_sha256(state.model),
    }
