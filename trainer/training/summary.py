"""What a run says of itself: log lines, events, predictions, figures, the saved model, the last lines on the screen."""

import csv
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from trainer import workdir
from trainer.config import TrainConfig
from trainer.evidence import figures, metrics
from trainer.evidence.intervals import Estimate
from trainer.prepared import Prepared
from trainer.training import augment, input_pipeline, models
from trainer.workdir import Workdir

PREPARED_SIDE = 500  # Builders write squares of this side; the saved model takes them.


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
      workdir: its folder.
      metrics: as metrics.json holds them.
      resumed: whether it had ended before and was only looked up.
    """

    workdir: Workdir
    metrics: dict[str, Any]
    resumed: bool = False

    def __str__(self) -> str:
        """The scores, where everything lies, and the next command."""
        lines = ["this run had ended before; its scores:"] if self.resumed else []
        if self.metrics["dataset"]["synthetic"]:
            lines.append("SYNTHETIC DATA: drawn, not radiographs of people; these scores say nothing about patients.")
        for name in ("train", "validation", "test"):
            found = self.metrics.get(name, {})
            shown = [f"{key} {Estimate(**value)}" for key, value in found.items()]
            if shown:
                count = found["accuracy"]
                lines.append(f"{name} ({count['n']} images, {count['groups']} groups): " + "  ".join(shown))
        lines.append(f"everything lies in {self.workdir.path}: metrics.json, figures/, predictions/, model/, events/")
        lines.append(f"next: tensorboard --logdir={self.workdir.path / 'events'}")
        return "\n".join(lines)


def epoch_line(
    history: list[dict], ends: list[int], step: int, probabilities: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """What is logged at the end of an epoch: means over its training steps, and the scores on validation if there is one."""
    epoch = ends.index(step) + 1
    before = ends[epoch - 2] if epoch > 1 else 0
    trained = [line for line in history if "epoch" not in line and before < line["step"] <= step]
    line = {"step": step, "epoch": epoch, "train_loss": float(np.mean([line["loss"] for line in trained])),
            "train_accuracy": float(np.mean([line["accuracy"] for line in trained]))}
    if len(labels):
        own = np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1.0)
        line |= {"validation_loss": float(-np.log(own).mean()),
                 "validation_accuracy": float((probabilities.argmax(axis=1) == labels).mean())}
    return line


def describe_epoch(line: dict[str, Any], epochs: int) -> str:
    """One line for the screen."""
    parts = [f"{name.replace('_', ' ')} {line[name]:.4f}" for name in
             ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy") if name in line]
    return f"epoch {line['epoch']}/{epochs}  " + "  ".join(parts)


def best_epoch(history: list[dict]) -> int | None:
    """The epoch with the lowest validation loss; None where nothing was validated."""
    scored = [line for line in history if "validation_loss" in line]
    return min(scored, key=lambda line: line["validation_loss"])["epoch"] if scored else None


def epochs_without_progress(history: list[dict]) -> int:
    """How many epochs ago the validation loss was lowest; 0 where nothing was validated."""
    best = best_epoch(history)
    return 0 if best is None else max(line["epoch"] for line in history if "epoch" in line) - best


def write_events(kind: str, line: dict[str, Any]) -> None:
    """Writes the numbers of one log line to the TensorBoard writer in force."""
    for name, value in line.items():
        if name not in ("step", "epoch"):
            tf.summary.scalar(f"{kind}/{name}", value, step=line["step"])


def write_predictions(
    work: Workdir, split: str, part: input_pipeline.Examples, probabilities: np.ndarray, class_names: tuple[str, ...]
) -> None:
    """Writes predictions/SPLIT.csv: filename, group, label and one probability a class."""
    work.predictions.mkdir(exist_ok=True)
    with open(work.predictions / f"{split}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "group", "label", *(f"probability_{name}" for name in class_names)])
        for name, group, label, row in zip(part.filenames, part.groups, part.labels, probabilities, strict=True):
            writer.writerow([name, group, class_names[label], *(f"{value:.8f}" for value in row)])


def draw(
    work: Workdir, data: Prepared, config: TrainConfig, history: list[dict], train: input_pipeline.Examples,
    limits: augment.Limits, test: input_pipeline.Examples, probabilities: np.ndarray
) -> None:
    """Draws the figures of a run into its workdir; `probabilities` are those of the test split."""
    about = f"{config.model} on {data.name}" + (" (synthetic data)" if data.synthetic else "")
    names, positive, folder = data.class_names, data.positive_class, work.figures
    figures.learning_curves(history, folder / "learning_curves.png", f"Learning curves: {about}")
    figures.confusion_matrix(test.labels, probabilities.argmax(axis=1), names, folder / "confusion_matrix.png",
                             f"Test: {about}")
    auc = metrics.roc_auc(test.labels, probabilities, test.groups, names, positive)
    if auc.value is not None:
        figures.roc(test.labels, probabilities, names, positive, auc, folder / "roc.png", f"ROC on test: {about}")
    figures.worst_mistakes(test.images, test.labels, probabilities, test.filenames, names, folder / "worst_mistakes.png",
                           f"Worst mistakes on test: {about}")
    batch = next(input_pipeline.training_batches(train, limits, config.batch_size, config.seed).as_numpy_iterator())
    captions = [f"{figures.short_name(train.filenames[index])}\n{names[train.labels[index]]}" for index in batch["index"]]
    figures.contact_sheet(batch["image"], captions, folder / "augmented.png", f"The first training batch as the network sees "
                          f"it: {about}")


def save_model(work: Workdir, model, data: Prepared, config: TrainConfig) -> None:
    """Saves the trained network, preprocessing included, and beside it what a reader of its output must know."""
    work.model.mkdir(exist_ok=True)
    models.with_preprocessing(model, PREPARED_SIDE).save(work.model / "model.keras")
    workdir.write_json(work.model / "model.json", {
        "class_names": list(data.class_names), "positive_class": data.positive_class, "synthetic": data.synthetic,
        "dataset": data.name, "input": f"[batch, {PREPARED_SIDE}, {PREPARED_SIDE}, 1] float32 in 0..255, as "
        "trainer.radiograph.standardize gives it", "output": "[batch, classes] probabilities", "model": config.model})
