"""Trains one model and writes its workdir: one linear function, to be read from top to bottom.

Library use: `from trainer.training.loop import train_and_evaluate; train_and_evaluate(TrainConfig(epochs=3))`.
"""

import dataclasses
import shlex
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from trainer import prepared, workdir
from trainer.config import TrainConfig, resolved
from trainer.errors import Stopped, UserError
from trainer.evidence import copies
from trainer.evidence.predictions import Predictions
from trainer.training import (
    augment,
    checkpoint,
    distribution,
    explained,
    input_pipeline,
    interruption,
    models,
    scoring,
    split,
    steps,
    summary,
)

_EVALUATION_BATCH = 32


def train_and_evaluate(config: TrainConfig, out_of_fold: Predictions | None = None) -> summary.Result:
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
    config, data, work = open_run(config)
    if work.finished:
        return summary.Result(work, work.metrics(), resumed=True)

    # ── Data ────────────────────────────────────────────────────────────────────────────────────────────────────────────
    known_copies = copies.of_prepared(data, config.group_copies)
    everything = input_pipeline.load(data.builder, "train", config.image_size)
    everything = everything.with_groups(known_copies.join(everything.filenames, everything.groups))
    train_part, validation_part = split.parts(everything.labels, everything.groups, config)
    train, validation = everything.take(train_part), everything.take(validation_part)
    limits = augment.Limits.from_config(config)
    ends = input_pipeline.epoch_ends(len(train), config.epochs, config.batch_size)
    print(f"{data.reason}\n{known_copies.remark}\n{len(train)} images to train on, {len(validation)} to validate, side "
          f"{config.image_size}; "
          f"{config.model}, {config.epochs} epochs, {ends[-1]} steps of {config.batch_size} on "
          f"{strategy.num_replicas_in_sync} replica(s); workdir {work.path}", flush=True)

    # ── Model ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(config.precision)
    with strategy.scope():
        model = models.build(config, len(data.class_names))
        optimizer = steps.make_optimizer(config, ends[-1], len(train) / config.batch_size)
        optimizer.build(model.trainable_variables)
    weights = steps.class_weights(train.labels, len(data.class_names), config.class_weights)
    train_step = steps.make_train_step(model, optimizer, strategy, config, weights)
    predict = steps.make_predict(model, _EVALUATION_BATCH)

    # ── Resume ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    checkpoints = checkpoint.Checkpoints(work.checkpoints, model, optimizer)
    first = checkpoints.restore()
    history = work.cut_history(first)
    events = tf.summary.create_file_writer(str(work.path / "events"))
    if first:
        print(f"resumed at step {first} of {ends[-1]}", flush=True)

    # ── Train ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    batches = input_pipeline.training_batches(train, limits, config.batch_size, config.seed, first)
    dealt = iter(distribution.deal(strategy, batches, config.batch_size))
    training_started = time.monotonic()
    stale = summary.epochs_without_progress(history)
    with (interruption.watched() as asked_to_stop, events.as_default(),
          tqdm(total=ends[-1], initial=first, unit="step", desc="training", disable=None) as bar):
        tf.summary.text("data", data.reason, step=first)
        for step in range(first + 1, ends[-1] + 1):
            if config.patience and stale >= config.patience:
                break
            loss, accuracy, norm = (float(value) for value in train_step(next(dealt)))
            if not np.isfinite(loss) or not (np.isfinite(norm) or config.precision == "mixed_float16"):
                raise _not_finite(train, config, step, loss, norm)
            history.append(work.log(step=step, loss=loss, accuracy=accuracy, gradient_norm=norm,
                                    learning_rate=float(tf.convert_to_tensor(optimizer.learning_rate))))
            summary.write_events("step", history[-1])
            bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
            bar.update()

            if step in ends:
                line = summary.epoch_line(history, ends, step, predict(validation.images), validation.labels)
                history.append(work.log(**line))
                summary.write_events("epoch", line)
                tqdm.write(summary.describe_epoch(line, config.epochs))
                stale = summary.epochs_without_progress(history)
                if stale == 0:
                    checkpoints.save_best()
                checkpoints.save(step)
            elif config.checkpoint_every_steps and step % config.checkpoint_every_steps == 0:
                checkpoints.save(step)
            if asked_to_stop() and step < ends[-1]:
                checkpoints.save(step)
                raise Stopped(f"stopped after step {step} of {ends[-1]}; to go on: {command(config)}")
    training_seconds = time.monotonic() - training_started

    # ── Score ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    best = summary.best_epoch(history) if split.selects_best(config) and len(validation) else None
    if best is not None:
        checkpoints.restore_best()
    parts = {"train": train, "validation": validation}
    if config.fold is None:  # A member of a cross-validation never sees test.
        test = input_pipeline.load(data.builder, "test", config.image_size)
        parts["test"] = test.with_groups(known_copies.join(test.filenames, test.groups))
    said = {name: scoring.predictions_of(part, predict(part.images), data) for name, part in parts.items() if len(part)}
    summary.draw_training(work, data, config, history, train, limits)
    return scoring.finish(
        work, data, config, scoring.Scored(parts, said, out_of_fold or said.get("validation"), known_copies),
        lambda temperature: explained.export_of(model, summary.PREPARED_SIDE, temperature),
        {"parameters": model.count_params(), "steps": history[-1]["step"], "best_epoch": best,
         "seconds": {"training": round(training_seconds, 1), "total": round(time.monotonic() - started, 1)},
         "weights_sha256": checkpoint.weights_sha256(model)})


def open_run(config: TrainConfig) -> tuple[TrainConfig, prepared.Prepared, workdir.Workdir]:
    """Opens the data and the workdir a configuration names: (the configuration with nothing left open, data, workdir).

    Raises:
      UserError: no such data; or a workdir of another run, or one that cannot be written.
    """
    requested, config = config, _with_recorded_dataset(resolved(config))
    data = prepared.open_dataset(config.dataset, data_dir=config.data_dir, manual_dir=config.manual_dir,
                                 phantom_train=config.phantom_train, phantom_test=config.phantom_test,
                                 phantom_shortcut=config.phantom_shortcut)
    config = dataclasses.replace(config, dataset=data.name)
    work = workdir.open_or_create(config, requested, data.fingerprint)
    return dataclasses.replace(config, workdir=str(work.path)), data, work


def _with_recorded_dataset(config: TrainConfig) -> TrainConfig:
    """`auto` is resolved once: a workdir that exists keeps the set it was started with."""
    recorded = workdir.recorded_config(Path(config.workdir)) if config.workdir else None
    if recorded and config.dataset == "auto":
        return dataclasses.replace(config, dataset=recorded.dataset)
    return config


def _not_finite(train: input_pipeline.Examples, config: TrainConfig, step: int, loss: float, norm: float) -> UserError:
    order = input_pipeline.order_of(len(train), config.batch_size, config.seed, step - 1)
    names = train.filenames[next(order.as_numpy_iterator())]
    return UserError(f"the loss ({loss}) or its gradient ({norm}) is not finite at step {step}; lower --learning_rate or set "
                     f"--clip_norm=1. The batch held: {', '.join(names)}")


def command(config: TrainConfig) -> str:
    """The command line that goes on with this run."""
    if Path(sys.argv[0]).name != "main.py":
        return f"call train_and_evaluate with workdir={config.workdir!r}"
    kept = [argument for argument in sys.argv[1:] if not argument.startswith("--workdir")]
    return shlex.join(["python", "-m", "trainer.main", *kept, f"--workdir={config.workdir}"])
