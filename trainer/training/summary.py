"""What a run says of itself: log lines, events, predictions, figures, the saved model, the last lines on the screen."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from trainer import workdir
from trainer.analysis import figures, metrics
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data.prepared import Prepared
from trainer.training import augment, input_pipeline
from trainer.training.distribution import Workers
from trainer.workdir import Workdir


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
            lines.append(
                "SYNTHETIC DATA: drawn, not radiographs of people; these scores say nothing about "
                "patients."
            )
        for name in ("train", "validation", "test"):
            found = self.metrics.get(name, {})
            shown = [f"{key} {Estimate(**value)}" for key, value in found.items()]
            if shown:
                count = found["accuracy"]
                lines.append(
                    f"{name} ({count['n']} images, {count['groups']} groups): " + "  ".join(shown)
                )
        lines += self._beside_controls()
        if not (self.workdir.path / "report.html").exists():
            return "\n".join(
                [
                    *lines,
                    f"everything lies in {self.workdir.path}: metrics.json, figures/, "
                    "predictions/, model/",
                ]
            )
        lines.append(
            f"everything lies in {self.workdir.path}: report.html (open it), MODEL_CARD.md, "
            "metrics.json, figures/, predictions/, model/, audit/, evaluation/"
        )
        lines.append(
            f"next: python -m trainer.audit --workdir={self.workdir.path}   (retrains without "
            "lungs: does the score come from them?)"
        )
        return "\n".join(lines)

    def _beside_controls(self) -> list[str]:
        """What the controls score, the sentence that compares, the spread over members, how often test was scored."""
        lines = [
            f"control that sees no lung, {name.replace('_', ' ')}: test accuracy "
            f"{Estimate(**control['accuracy'])}  roc_auc {Estimate(**control['roc_auc'])}"
            for name, control in self.metrics.get("controls", {}).items()
            if control["kind"] == "no_lung"
        ]
        if sentence := self.metrics.get("comparison", {}).get("sentence"):
            lines.append(sentence)
        near = self.metrics.get("near_duplicates", {})
        if near.get("test_images_copied_from_train"):
            lines.append(
                f"WARNING: {near['test_images_copied_from_train']} test images copy a training "
                "image; see audit/."
            )
        spread = self.workdir.path / "summary.json"
        if spread.exists():
            found = workdir.read_json(spread)
            lines.append(
                f"{len(found['members'])} {found['kind']}, {found['scored_on']}: "
                + "  ".join(
                    f"{name} {row['mean']:.4f} ({row['least']:.4f} to {row['most']:.4f})"
                    for name, row in found["spread"].items()
                )
            )
        if ledger := self.metrics.get("ledger"):
            lines.append(
                f"this test split has been scored {ledger['count']} times by runs that share its "
                "data_dir"
            )
            lines += [ledger["warning"]] if ledger["warning"] else []
        return lines


def say(workers: Workers, text: str) -> None:
    """Prints, on the chief alone."""
    if workers.chief:
        print(text, flush=True)


def events(work: Workdir) -> tf.summary.SummaryWriter:
    """The TensorBoard writer of a run; of several workers only the chief's writes."""
    return (
        tf.summary.create_file_writer(str(work.path / "events"))
        if work.writes
        else tf.summary.create_noop_writer()
    )


def losses(history: list[dict], last: int) -> list[float]:
    """The losses of the last so many steps, oldest first; what it costs does not grow with the history."""
    found = (line["loss"] for line in reversed(history) if "epoch" not in line)
    return list(itertools.islice(found, last))[::-1]


def note_step(
    work: Workdir,
    bar: tqdm,
    history: list[dict],
    step: int,
    loss: float,
    accuracy: float,
    norm: float,
    rate: float,
) -> None:
    """Notes one step where it is looked for: metrics.jsonl, TensorBoard's events, the bar, and `history`, which it extends."""
    history.append(
        work.log(step=step, loss=loss, accuracy=accuracy, gradient_norm=norm, learning_rate=rate)
    )
    write_events("step", history[-1])
    bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
    bar.update()


def epoch_line(
    history: list[dict], ends: list[int], step: int, probabilities: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """What is logged at the end of an epoch: means over its training steps, and the scores on validation if there is one."""
    epoch = ends.index(step) + 1
    before = ends[epoch - 2] if epoch > 1 else 0
    trained = [line for line in history if "epoch" not in line and before < line["step"] <= step]
    line = {
        "step": step,
        "epoch": epoch,
        "train_loss": float(np.mean([line["loss"] for line in trained])),
        "train_accuracy": float(np.mean([line["accuracy"] for line in trained])),
    }
    if len(labels):
        own = np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1.0)
        line |= {
            "validation_loss": float(-np.log(own).mean()),
            "validation_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        }
    return line


def describe_epoch(line: dict[str, Any], epochs: int) -> str:
    """One line for the screen."""
    parts = [
        f"{name.replace('_', ' ')} {line[name]:.4f}"
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
        if name in line
    ]
    return f"epoch {line['epoch']}/{epochs}  " + "  ".join(parts)


def best_epoch(history: list[dict]) -> int | None:
    """The epoch with the lowest validation loss; None where nothing was validated."""
    scored = [line for line in history if "validation_loss" in line]
    return min(scored, key=lambda line: line["validation_loss"])["epoch"] if scored else None


def best_step(history: list[dict]) -> int | None:
    """The step that ended the best epoch; None where nothing was validated."""
    best = best_epoch(history)
    return next(
        (line["step"] for line in history if best is not None and line.get("epoch") == best), None
    )


def epochs_without_progress(history: list[dict]) -> int:
    """How many epochs ago the validation loss was lowest; 0 where nothing was validated."""
    best = best_epoch(history)
    return 0 if best is None else max(line["epoch"] for line in history if "epoch" in line) - best


def write_events(kind: str, line: dict[str, Any]) -> None:
    """Writes the numbers of one log line to the TensorBoard writer in force."""
    values = [
        tf.compat.v1.Summary.Value(tag=f"{kind}/{name}", simple_value=value)
        for name, value in line.items()
        if name not in ("step", "epoch")
    ]
    # All in one: an event each by tf.summary.scalar takes four times as long.
    tf.summary.experimental.write_raw_pb(
        tf.compat.v1.Summary(value=values).SerializeToString(), step=line["step"]
    )


def draw_training(
    work: Workdir,
    data: Prepared,
    config: TrainConfig,
    history: list[dict],
    train: input_pipeline.Examples,
    limits: augment.Limits,
) -> None:
    """Draws the learning curves and the first training batch as the network saw it."""
    about, names = about_run(data, config), data.class_names
    figures.learning_curves(
        history, work.figures / "learning_curves.png", f"Learning curves: {about}"
    )
    batch = next(
        input_pipeline.training_batches(
            train, limits, config.batch_size, config.seed
        ).as_numpy_iterator()
    )
    captions = [
        f"{figures.short_name(train.filenames[index])}\n{names[train.labels[index]]}"
        for index in batch["index"]
    ]
    figures.contact_sheet(
        batch["image"],
        captions,
        work.figures / "augmented.png",
        f"The first training batch as the network sees it: {about}",
    )


def draw_scores(
    work: Workdir,
    data: Prepared,
    config: TrainConfig,
    split: str,
    images: np.ndarray,
    said: Predictions,
) -> None:
    """Draws confusion matrix, ROC curve and worst mistakes of one split; `images` are its squares [n, side, side, 1]."""
    about, names, positive, folder = (
        about_run(data, config),
        data.class_names,
        data.positive_class,
        work.figures,
    )
    split = split.capitalize()
    figures.confusion_matrix(
        said.labels,
        said.probabilities.argmax(axis=1),
        names,
        folder / "confusion_matrix.png",
        f"{split}: {about}",
    )
    auc = metrics.roc_auc(said.labels, said.probabilities, said.groups, names, positive)
    if auc.value is not None:
        figures.roc(
            said.labels,
            said.probabilities,
            names,
            positive,
            auc,
            folder / "roc.png",
            f"{split}, ROC: {about}",
        )
    figures.worst_mistakes(
        images,
        said.labels,
        said.probabilities,
        said.filenames,
        names,
        folder / "worst_mistakes.png",
        f"{split}, worst mistakes: {about}",
    )


def about_run(data: Prepared, config: TrainConfig) -> str:
    """What a figure's title says of the run."""
    return f"{config.model} on {data.name}" + (" (synthetic data)" if data.synthetic else "")
