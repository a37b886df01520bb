"""Figures of a run: learning curves, confusion matrix, ROC curve and contact sheets, as PNG files.

figures.roc(predictions, auc, workdir.figures / "roc.png", "Test, ROC")
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from sklearn import metrics as sklearn_metrics

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from trainer.analysis.duplicates import Pair
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions

# Okabe & Ito 2008: told apart by colour-blind eyes.
_COLOURS = {"train": "#0072b2", "validation": "#d55e00", "test": "#009e73"}

# Width and height of a panel of a contact sheet, in inches.
_PANEL = (1.9, 2.2)
_MAP_PANEL = (2.3, 2.7)
_MAP_OPACITY = 0.6


def learning_curves(
    history: list[dict],
    path: Path,
    title: str,
) -> None:
    """Draws loss and accuracy after each epoch, training beside validation.

    Args:
      history: lines of metrics.jsonl; those with an `epoch` key are drawn.
      path: of the PNG.
      title: above the figure.
    """
    epochs = [line for line in history if "epoch" in line]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for split in ("train", "validation"):
            key = f"{split}_{name}"
            lines = [line for line in epochs if key in line]
            if lines:  # A run may have no validation split.
                axis.plot(
                    [line["epoch"] for line in lines],
                    [line[key] for line in lines],
                    marker="o",
                    markersize=4,
                    color=_COLOURS[split],
                    label=split,
                )
        axis.set(xlabel="epoch", ylabel=name)
        # No half epochs.
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylim(bottom=0.0)  # The loss.
    axes[0].legend()
    save(figure, path, title)


def confusion_matrix(
    predictions: Predictions,
    path: Path,
    title: str,
) -> None:
    """Draws the counts of true against predicted classes."""
    names = predictions.class_names
    ticks = range(len(names))
    counts = sklearn_metrics.confusion_matrix(
        predictions.labels,
        predictions.predicted,
        labels=ticks,
    )
    # Of each true class; the colour shows them.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axis = plt.subplots(
        figsize=(1.6 + 1.4 * len(names), 1.2 + 1.3 * len(names)),
        layout="constrained",
    )
    axis.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        axis.text(
            column,
            row,
            f"{count}\n{share:.1%}",
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black",  # Readable on dark and on light blue.
        )
    axis.set(
        xlabel="predicted",
        xticks=ticks,
        xticklabels=names,
        ylabel="true",
        yticks=ticks,
        yticklabels=names,
    )
    save(figure, path, title)


def roc(
    predictions: Predictions,
    auc: Estimate,
    path: Path,
    title: str,
) -> None:
    """Draws ROC curves: of the positive class, or of each class or finding.

    Args:
      predictions: of a split with all classes.
      auc: as `metrics.roc_auc` estimates it.
      path: of the PNG.
      title: above the figure.
    """
    figure, axis = plt.subplots(figsize=(5, 5), layout="constrained")
    # Chance.
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for name, (positive, score) in _curves(predictions).items():
        false_positives, true_positives, _ = sklearn_metrics.roc_curve(
            positive, score, drop_intermediate=False
        )
        axis.plot(false_positives, true_positives, label=name)
    axis.set(
        xlabel="1 − specificity",
        xlim=(-0.01, 1.01),
        ylabel="sensitivity",
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axis.legend(title=f"ROC AUC {auc}", loc="lower right")
    axis.grid(alpha=0.3)
    save(figure, path, title)


def contact_sheet(
    images: np.ndarray,
    captions: list[str],
    path: Path,
    title: str,
    columns: int = 8,
    maps: np.ndarray | None = None,
    full: float = 0.0,
) -> None:
    """Draws images with their captions and, if given, their maps.

    Args:
      images: [n, side, side, 1] in 0..255.
      captions: n texts.
      path: of the PNG.
      title: above the figure.
      columns: at most this many in a row.
      maps: [n, side, side] float, 0 or more; the stronger, the less transparent.
      full: value of the strongest colour; a map whose maximum is higher is scaled to that.
    """
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    width, height = _PANEL if maps is None else _MAP_PANEL
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows + 0.4),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:  # Those without an image, too.
        axis.set_axis_off()
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        axis = axes.flat[index]
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
        if maps is not None:
            # An empty map stays empty.
            strength = maps[index] / (max(maps[index].max(), full) or 1.0)
            axis.imshow(
                strength,
                cmap="plasma",
                vmin=0,
                vmax=1,
                alpha=_MAP_OPACITY * strength,
            )
        axis.set_title(caption, fontsize=7)
    save(figure, path, title)


def near_duplicates(
    images: np.ndarray,
    filenames: np.ndarray,
    pairs: tuple[Pair, ...],
    path: Path,
    title: str,
    max_pairs: int = 40,
) -> None:
    """Draws pairs side by side with the number of features that agree.

    Args:
      images: [n, side, side, 1] uint8.
      filenames: [n] str.
      pairs: of `filenames`; at most `max_pairs` are drawn, those with most features.
      path: of the PNG.
      title: above the figure; it says so where pairs are left out.
      max_pairs: the number of pairs drawn.
    """
    index_of = {name: index for index, name in enumerate(filenames)}
    panels: list[int] = []
    captions: list[str] = []
    for pair in sorted(pairs, key=lambda pair: -pair.inliers)[:max_pairs]:
        panels += [index_of[pair.first], index_of[pair.second]]
        agreement = f"{pair.inliers} features agree" + (", mirrored" if pair.mirrored else "")
        captions += [short_name(pair.first), f"{short_name(pair.second)}\n{agreement}"]
    # The title counts all of them.
    if len(pairs) > max_pairs:
        title += f" (the {max_pairs} surest shown)"
    contact_sheet(
        images[panels],
        captions,
        path,
        title,
        columns=8 if len(panels) > 6 else 2,  # An even number: pairs stay together.
    )


def worst_mistakes(
    images: Any,
    predictions: Predictions,
    path: Path,
    title: str,
    max_images: int = 16,
) -> None:
    """Draws the misclassified images, the most confident first; says so where there is none.

    Of several findings, an image is drawn once for each that it was given wrongly.

    Args:
      images: [n, side, side, 1] in 0..255; an array, or images on disk read when indexed.
      predictions: of the images.
      path: of the PNG.
      title: above the figure.
      max_images: the number of images drawn.
    """
    wrong = mistakes(predictions)[:max_images]
    if not wrong:
        figure, axis = plt.subplots(figsize=(6, 2), layout="constrained")
        axis.set_axis_off()
        axis.text(
            0.5,
            0.5,
            "No image of this split was classified wrongly.",
            ha="center",
            va="center",
        )
        save(figure, path, title)
        return
    contact_sheet(
        images[np.array([index for index, _ in wrong])],
        [verdict_caption(predictions, index, label) for index, label in wrong],
        path,
        title,
    )


def mistakes(predictions: Predictions) -> list[tuple[int, int]]:
    """Lists wrong predictions, the most confident first, as (image, class or finding)."""
    predicted = predictions.predicted
    if predictions.multi_label:
        wrong = (predicted != predictions.labels) & (predictions.labels >= 0)  # [n, findings]
        confidence = np.abs(predictions.probabilities - 0.5)
        rows, labels = np.nonzero(wrong)
        order = np.argsort(-confidence[rows, labels], kind="stable")
    else:
        rows = np.flatnonzero(~predictions.correct)
        labels = predicted[rows]
        order = np.argsort(-predictions.confidence[rows], kind="stable")
    return list(zip(rows[order].tolist(), labels[order].tolist(), strict=True))


def verdict_caption(predictions: Predictions, index: int, label: int) -> str:
    """Writes a caption: filename, true class, predicted class with probability.

    Args:
      predictions: of a split.
      index: of the image.
      label: index of the predicted class, or of the finding.
    """
    names = predictions.class_names
    name = short_name(predictions.filenames[index])
    probability = predictions.probabilities[index, label]
    if predictions.multi_label:
        truth = {1: "present", 0: "absent", -1: "not known"}[int(predictions.labels[index, label])]
        return f"{name}\n{names[label]}: {truth}\npredicted {probability:.0%}"
    return (
        f"{name}\ntrue {names[predictions.labels[index]]}\n"
        f"predicted {names[label]} {probability:.0%}"
    )


def _curves(predictions: Predictions) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns class or finding → (positive [m] bool, score [m]), for ROC curves."""
    if predictions.multi_label:
        return {
            name: (finding.positive, finding.positive_probabilities)
            for name, finding in predictions.findings().items()
            if len(np.unique(finding.labels)) == 2
        }
    return {
        name: (predictions.labels == index, predictions.probabilities[:, index])
        for index, name in enumerate(predictions.class_names)
        if predictions.positive_class in (None, name)
    }


def short_name(filename: str, max_length: int = 24) -> str:
    """Returns the last part of a filename, shortened in the middle."""
    name = Path(filename).name
    shortened = f"{name[: max_length // 2]}…{name[-(max_length // 2 - 1) :]}"
    return name if len(name) <= max_length else shortened


def save(
    figure: plt.Figure,
    path: Path,
    title: str,
) -> None:
    """Saves a figure with its title as a PNG, and closes it."""
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
