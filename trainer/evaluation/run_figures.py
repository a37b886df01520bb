"""The figures of a training run: learning curves, a training batch, scores of one split."""

import numpy as np

from trainer.analysis import figures, metrics
from trainer.analysis.predictions import Predictions
from trainer.data.run import Run
from trainer.training import input_pipeline, run_data
from trainer.training.input_pipeline import Images
from trainer.training.loop import Trained


def draw_training(run: Run, trained: Trained) -> None:
    """Draws the learning curves and the first training batch after augmentation."""
    class_names = run.data.class_names
    folder = run.workdir.figures
    figures.learning_curves(
        trained.history, folder / "learning_curves.png", f"Learning curves: {run.title}"
    )
    # Reproducible: the batches of a run are a function of the seed and the step.
    examples = trained.splits["train"]
    batches = input_pipeline.training_batches(
        examples, run.config, positive=run_data.positive_index(run)
    )
    batch = next(batches.as_numpy_iterator())  # image [batch, side, side, 1] float32
    captions = [
        f"{figures.short_name(examples.filenames[index])}\n{_label_text(label, class_names)}"
        for index, label in zip(batch["index"], batch["label"], strict=True)
    ]
    title = f"The first training batch as the network sees it: {run.title}"
    figures.contact_sheet(batch["image"], captions, folder / "augmented.png", title)


def _label_text(label: np.ndarray, class_names: tuple[str, ...]) -> str:
    if label.ndim == 0:
        return class_names[label]
    findings = [class_names[index] for index in np.flatnonzero(label == 1)]
    return ", ".join(findings) or "no finding"


def draw_scores(run: Run, split: str, images: Images, predictions: Predictions) -> None:
    """Draws confusion matrix, ROC curve and worst mistakes of one split.

    Several findings an image have no confusion matrix.

    Args:
      run: the run that the figures belong to.
      split: its name, for the titles.
      images: [n, side, side, 1] uint8.
      predictions: of these images, in the same order.
    """
    folder = run.workdir.figures
    name = split.capitalize()
    if not predictions.multi_label:
        path = folder / "confusion_matrix.png"
        figures.confusion_matrix(predictions, path, f"{name}: {run.title}")
    auc = metrics.roc_auc(predictions)
    # There is no curve where a class is missing.
    if auc.value is not None:
        figures.roc(predictions, auc, folder / "roc.png", f"{name}, ROC: {run.title}")
    figures.worst_mistakes(
        images, predictions, folder / "worst_mistakes.png", f"{name}, worst mistakes: {run.title}"
    )
