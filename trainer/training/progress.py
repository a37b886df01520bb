"""Records of a training run: log lines, TensorBoard events, the progress bar.

The history is the list of lines in metrics.jsonl, oldest first. A line with an epoch ends one;
every other line is a step.
"""

import itertools
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from trainer.analysis import predictions
from trainer.training.distribution import Workers
from trainer.workdir import Workdir

_STEP_METRICS = ("loss", "accuracy", "gradient_norm", "learning_rate")


def print_from_chief(workers: Workers, text: str) -> None:
    """Prints on the chief alone."""
    if workers.chief:
        print(text, flush=True)


def event_writer(workdir: Workdir) -> tf.summary.SummaryWriter:
    """Makes a run's TensorBoard writer; of several workers only the chief's writes."""
    if not workdir.writes:
        return tf.summary.create_noop_writer()
    return tf.summary.create_file_writer(str(workdir.path / "events"))


def recent_losses(history: list[dict], count: int) -> list[float]:
    """The losses of the last `count` steps, oldest first."""
    # From the end, so that the cost does not grow with the history.
    losses = (line["loss"] for line in reversed(history) if "epoch" not in line)
    return list(itertools.islice(losses, count))[::-1]


def log_step(
    workdir: Workdir, bar: tqdm, history: list[dict], step: int, metrics: dict[str, float]
) -> None:
    """Records one step in metrics.jsonl, TensorBoard, the progress bar and `history`.

    Args:
      workdir: of the run.
      bar: of the run.
      history: of the run; it grows by one line.
      step: counted from 1.
      metrics: loss, accuracy, gradient_norm and learning_rate.
    """
    history.append(workdir.log(step=step, **{name: metrics[name] for name in _STEP_METRICS}))
    write_events("step", history[-1])
    bar.set_postfix(
        loss=f"{metrics['loss']:.3f}", accuracy=f"{metrics['accuracy']:.3f}", refresh=False
    )
    bar.update()


def epoch_record(
    history: list[dict],
    epoch_ends: list[int],
    step: int,
    probabilities: np.ndarray,
    labels: np.ndarray,
) -> dict[str, Any]:
    """Means over an epoch's steps, and its scores on validation.

    Args:
      history: of the run.
      epoch_ends: from `input_pipeline.epoch_end_steps`.
      step: that ends the epoch.
      probabilities: [n, classes], of the validation images; n may be 0.
      labels: [n] int, or [n, findings] int.
    """
    epoch = epoch_ends.index(step) + 1
    previous_end = epoch_ends[epoch - 2] if epoch > 1 else 0
    lines = [line for line in history if "epoch" not in line and previous_end < line["step"]]
    record = {
        "step": step,
        "epoch": epoch,
        "train_loss": float(np.mean([line["loss"] for line in lines])),
        "train_accuracy": float(np.mean([line["accuracy"] for line in lines])),
    }
    if len(labels):
        record["validation_loss"] = float(predictions.log_losses(labels, probabilities).mean())
        accuracies = predictions.accuracies(labels, probabilities)
        record["validation_accuracy"] = float(accuracies.mean())
    return record


def describe_epoch(record: dict[str, Any], epochs: int) -> str:
    """One line for the screen."""
    metrics = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in record.items()
        if name not in ("step", "epoch")
    ]
    return f"epoch {record['epoch']}/{epochs}  " + "  ".join(metrics)


def best_record(history: list[dict]) -> dict[str, Any] | None:
    """The line of the epoch with the lowest validation loss; None without validation."""
    return min(
        (line for line in history if "validation_loss" in line),
        key=lambda line: line["validation_loss"],
        default=None,
    )


def epochs_since_best(history: list[dict]) -> int:
    """Number of epochs since the lowest validation loss; 0 without validation."""
    best = best_record(history)
    if best is None:
        return 0
    return max(line["epoch"] for line in history if "epoch" in line) - best["epoch"]


def write_events(kind: str, line: dict[str, Any]) -> None:
    """Writes the numbers of one log line to the current TensorBoard writer.

    Args:
      kind: step or epoch, the prefix of the tags.
      line: its step, and the values.
    """
    # One event for all values: one each by tf.summary.scalar takes four times as long.
    event = tf.compat.v1.Summary(
        value=[
            tf.compat.v1.Summary.Value(tag=f"{kind}/{name}", simple_value=value)
            for name, value in line.items()
            if name not in ("step", "epoch")
        ]
    )
    tf.summary.experimental.write_raw_pb(event.SerializeToString(), step=line["step"])
