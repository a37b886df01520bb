"""Trains one model and writes its workdir: one linear function, to be read from top to bottom.

Library use: `from trainer.training.loop import train_and_evaluate; train_and_evaluate(TrainConfig(epochs=3))`.
"""

import dataclasses
import shlex
import sys
import time
from pathlib import Path

import keras
import tensorflow as tf
from tqdm import tqdm

from trainer import workdir
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig, resolved
from trainer.data import prepared
from trainer.errors import Stopped
from trainer.evaluation import export_network, finish, near_duplicates
from trainer.training import (
    augment,
    checkpoint,
    data_service,
    distribution,
    divergence,
    hang_detector,
    input_pipeline,
    interruption,
    large_sets,
    models,
    recovery,
    split,
    steps,
    summary,
)

_EVALUATION_BATCH = 32


def train_and_evaluate(
    config: TrainConfig, out_of_fold: Predictions | None = None
) -> summary.Result:
    """Trains one model, keeps the best weights, scores every split once, and writes everything to the workdir.

    The same configuration and workdir resume an interrupted run, and only report a finished one. A cross-validation or a
    repetition is made of several such runs: `repeats.train`.

    Args:
      config: as the user gave it; what is left open is resolved here and recorded in the workdir's config.json.
      out_of_fold: what the members of a cross-validation said of the parts held out from them, for the model trained on all
        of Train: its temperature and thresholds come from there.

    Returns:
      Where everything lies, and the scores.

    Raises:
      UserError: something the user can mend; nothing of theirs was overwritten.
      Stopped: after Ctrl-C or SIGTERM, with a checkpoint saved.
    """
    started = time.monotonic()
    strategy = distribution.make_strategy(resolved(config))
    workers = distribution.Workers.of(strategy)
    with workers.together(), workers.chief_first():
        config, data, work = open_run(config, workers.chief)
        known_copies = (
            None if work.finished else near_duplicates.of_prepared(data, config.group_copies)
        )
    if known_copies is None:
        return summary.Result(work, work.metrics(), resumed=True)

    # ── Data ────────────────────────────────────────────────────────────────────────────────────────────────────────────
    cache, kept = large_sets.settle(
        work,
        config.cache,
        data.fingerprint["images"]["train"],
        config.image_size,
        Path(str(data.builder.data_path)),
    )
    with workers.chief_first():
        everything = input_pipeline.load(data.builder, "train", config.image_size, cache)
    everything = everything.with_groups(known_copies.join(everything.filenames, everything.groups))
    train_part, validation_part = split.parts(everything.labels, everything.groups, config)
    train, validation = everything.take(train_part), everything.take(validation_part)
    limits = augment.Limits.from_config(config)
    ends = input_pipeline.epoch_ends(len(train), config.epochs, config.batch_size)
    summary.say(
        workers,
        f"{data.reason}\n"
        f"{known_copies.remark}\n"
        f"{kept}\n"
        f"{len(train)} images to train on, {len(validation)} to validate, side "
        f"{config.image_size}; {config.model}, {config.epochs} epochs, {ends[-1]} steps of "
        f"{config.batch_size} on {strategy.num_replicas_in_sync} replica(s); workdir {work.path}",
    )

    # ── Model ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(config.precision)
    rate = steps.make_rate(config, ends[-1], len(train) / config.batch_size)
    with strategy.scope():
        model = models.build(config, len(data.class_names))
        optimizer = steps.make_optimizer(config, rate)
        optimizer.build(model.trainable_variables)
    weights = steps.class_weights(train.labels, len(data.class_names), config.class_weights)
    train_step = steps.make_train_step(model, optimizer, strategy, config, weights)
    predict = steps.make_predict(model, strategy, _EVALUATION_BATCH)

    # ── Resume ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    checkpoints = checkpoint.Checkpoints(
        work.checkpoints, model, optimizer, config.keep_checkpoints, workers.chief
    )
    with workers.together():
        step = recovery.start(checkpoints, workers, bool(config.data_service))
    history = work.cut_history(step)
    if step:
        summary.say(workers, f"resumed at step {step} of {ends[-1]}")

    def batches_after(step: int):
        rate.scale(divergence.rate_factor(work.incidents(), step))
        own = (
            data_service.batches(config, work, train, limits, step, workers.count)
            if config.data_service
            else input_pipeline.training_batches(
                train, limits, config.batch_size, config.seed, step, workers.index, workers.count
            )
        )
        return distribution.deal(workers, own, config.batch_size)

    # ── Train ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    batches, stale = batches_after(step), summary.epochs_without_progress(history)
    training_started = saved = time.monotonic()
    watched = hang_detector.StepWatch(
        config.step_timeout_seconds if workers.count > 1 else 0.0, distribution.lost
    )
    with (
        interruption.watched() as asked_to_stop,
        summary.events(work).as_default(),
        tqdm(
            total=ends[-1],
            initial=step,
            unit="step",
            desc="training",
            disable=None if workers.chief else True,
        ) as bar,
    ):
        tf.summary.text("data", data.reason, step=step)
        while step < ends[-1] and not (config.patience and stale >= config.patience):
            with watched.step(), workers.together(), prepared.reading(data.builder, "train"):
                loss, accuracy, norm, used = (float(value) for value in train_step(next(batches)))
            if wrong := divergence.problem(
                summary.losses(history, divergence.LOOKED_AT),
                loss,
                norm,
                len(data.class_names),
                config.precision == "mixed_float16",
            ):
                with workers.together():
                    step = recovery.take_back(
                        work, checkpoints, workers, step + 1, wrong, train, config
                    )
                history, batches = work.cut_history(step), batches_after(step)
                stale = summary.epochs_without_progress(history)
                bar.reset()
                bar.update(step)
                continue
            step += 1
            summary.note_step(work, bar, history, step, loss, accuracy, norm, used)

            with workers.together():
                stopping = workers.any(asked_to_stop()) and step < ends[-1]
                due = config.checkpoint_every_steps and step % config.checkpoint_every_steps == 0
                if config.checkpoint_every_minutes:
                    due = workers.any(
                        due or time.monotonic() - saved >= 60.0 * config.checkpoint_every_minutes
                    )
                if step in ends:
                    line = summary.epoch_line(
                        history, ends, step, predict(validation.images), validation.labels
                    )
                    history.append(work.log(**line))
                    summary.write_events("epoch", line)
                    if workers.chief:
                        tqdm.write(summary.describe_epoch(line, config.epochs))
                    stale = summary.epochs_without_progress(history)
                    if stale == 0:
                        checkpoints.save_best(step)
                if step in ends or due or stopping:
                    checkpoints.save(step)
                    saved = time.monotonic()
            if stopping:
                raise Stopped(
                    f"stopped after step {step} of {ends[-1]}; to go on: {command(config)}"
                )
    watched.end()
    training_seconds = time.monotonic() - training_started

    # ── Score ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    best = summary.best_epoch(history) if split.selects_best(config) and len(validation) else None
    parts = {"train": train, "validation": validation}
    if config.fold is None:  # A member of a cross-validation never sees test.
        with workers.chief_first():
            test = input_pipeline.load(data.builder, "test", config.image_size, cache)
        parts["test"] = test.with_groups(known_copies.join(test.filenames, test.groups))
    with workers.together():
        workers.wait()
        if best is not None:
            checkpoints.restore_best(summary.best_step(history))
        said = {
            name: finish.predictions_of(part, predict(part.images), data)
            for name, part in parts.items()
            if len(part)
        }
        sha256, alone = checkpoint.weights_sha256(model), models.without_strategy(model, config)
    if workers.chief:
        summary.draw_training(work, data, config, history, train, limits)
        finish.finish(
            work,
            data,
            config,
            finish.Scored(parts, said, out_of_fold or said.get("validation"), known_copies),
            lambda temperature: export_network.export_of(alone, data.side, temperature),
            {
                "parameters": model.count_params(),
                "steps": step,
                "best_epoch": best,
                "incidents": work.incidents(),
                "seconds": {
                    "training": round(training_seconds, 1),
                    "total": round(time.monotonic() - started, 1),
                },
                "weights_sha256": sha256,
            },
        )
    with workers.together():
        workers.wait()  # What the chief has written is there.
    return summary.Result(work, work.metrics())


def open_run(
    config: TrainConfig, writes: bool = True
) -> tuple[TrainConfig, prepared.Prepared, workdir.Workdir]:
    """Opens the data and the workdir a configuration names: (the configuration with nothing left open, data, workdir).

    `writes` says whether this process makes the workdir and writes to it; of several workers only the chief does.

    Raises:
      UserError: no such data; or a workdir of another run, or one that cannot be written.
    """
    requested, config = config, _with_recorded_dataset(resolved(config))
    data = prepared.open_dataset(
        config.dataset,
        data_dir=config.data_dir,
        manual_dir=config.manual_dir,
        phantom_train=config.phantom_train,
        phantom_test=config.phantom_test,
        phantom_shortcut=config.phantom_shortcut,
        config_name=f"gray{config.prepared_side}",
    )
    config = dataclasses.replace(config, dataset=data.name)
    work = workdir.open_or_create(config, requested, data.fingerprint, writes)
    return dataclasses.replace(config, workdir=str(work.path)), data, work


def _with_recorded_dataset(config: TrainConfig) -> TrainConfig:
    """`auto` is resolved once: a workdir that exists keeps the set it was started with."""
    recorded = workdir.recorded_config(Path(config.workdir)) if config.workdir else None
    if recorded and config.dataset == "auto":
        return dataclasses.replace(config, dataset=recorded.dataset)
    return config


def command(config: TrainConfig) -> str:
    """The command line that goes on with this run."""
    if Path(sys.argv[0]).name != "main.py":
        return f"call train_and_evaluate with workdir={config.workdir!r}"
    kept = [
        argument
        for argument in sys.argv[1:]
        if not argument.startswith(("--workdir", "--data_service"))
    ]
    return shlex.join(["python", "-m", "trainer.main", *kept, f"--workdir={config.workdir}"])
