"""The pictures of a run that a person looks at. Arrays and plain dicts in, PNG files out."""

from pathlib import Path

import matplotlib
import numpy as np
from sklearn import metrics as sk

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from trainer.analysis.intervals import Estimate

_COLOURS = {
    "train": "#0072b2",
    "validation": "#d55e00",
    "test": "#009e73",
}  # Okabe & Ito 2008: safe for colour-blind eyes.


def learning_curves(history: list[dict], path: Path, title: str) -> None:
    """Loss and accuracy after each epoch, training beside validation.

    Args:
      history: lines of metrics.jsonl; those with an `epoch` key are drawn.
      path: where the PNG goes.
      title: above the figure.
    """
    epochs = [line for line in history if "epoch" in line]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for split in ("train", "validation"):
            points = [
                (line["epoch"], line[f"{split}_{name}"])
                for line in epochs
                if f"{split}_{name}" in line
            ]
            if points:
                axis.plot(
                    *zip(*points, strict=True),
                    marker="o",
                    markersize=4,
                    color=_COLOURS[split],
                    label=split,
                )
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylim(bottom=0.0)
    axes[0].legend()
    _save(figure, path, title)


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, class_names: tuple[str, ...], path: Path, title: str
) -> None:
    """Counts of true against predicted classes; `labels` and `predicted` are [n] int."""
    counts = sk.confusion_matrix(labels, predicted, labels=range(len(class_names)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axis = plt.subplots(
        figsize=(1.6 + 1.4 * len(class_names), 1.2 + 1.3 * len(class_names)), layout="constrained"
    )
    axis.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(counts):
        axis.text(
            column,
            row,
            f"{count}\n{shares[row, column]:.1%}",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
        )
    axis.set(
        xticks=range(len(class_names)),
        yticks=range(len(class_names)),
        xticklabels=class_names,
        yticklabels=class_names,
        xlabel="predicted",
        ylabel="true",
    )
    _save(figure, path, title)


def roc(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
    auc: Estimate,
    path: Path,
    title: str,
) -> None:
    """The ROC curve of the positive class, or of each class against the rest; arguments as in `metrics.scores`."""
    shown = [positive_class] if positive_class else class_names
    figure, axis = plt.subplots(figsize=(5, 5), layout="constrained")
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for name in shown:
        index = class_names.index(name)
        false_positives, true_positives, _ = sk.roc_curve(
            labels == index, probabilities[:, index], drop_intermediate=False
        )
        axis.plot(false_positives, true_positives, label=name)
    axis.set(
        xlabel="1 − specificity",
        ylabel="sensitivity",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axis.legend(title=f"area {auc}", loc="lower right")
    axis.grid(alpha=0.3)
    _save(figure, path, title)


def controls(found: list[dict], model: dict | None, path: Path, title: str) -> None:
    """The area under the ROC curve of a model beside those of controls, with intervals, and chance.

    Args:
      found: one dict a control: name, kind (no_lung or weak_sight), roc_auc (an estimate as a dict).
      model: the model's estimate as a dict; None where there is no model yet.
      path, title: as above.
    """
    rows = [("this model", "model", model)] if model else []
    rows += [
        (control["name"].replace("_", " "), control["kind"], control["roc_auc"])
        for control in found
    ]
    colours = {"model": "#0072b2", "no_lung": "#d55e00", "weak_sight": "#999999"}
    figure, axis = plt.subplots(figsize=(7.5, 0.8 + 0.38 * len(rows)), layout="constrained")
    axis.axvline(0.5, color="0.5", linestyle="--", linewidth=1)
    seen = set()
    for place, (_, kind, estimate) in enumerate(rows):
        label = None if kind in seen else kind.replace("_", " ")
        seen.add(kind)
        if estimate["value"] is None:
            axis.text(0.5, place, " none", va="center", color="0.4")
            continue
        axis.plot(
            [estimate["low"], estimate["high"]],
            [place, place],
            color=colours[kind],
            linewidth=3,
            solid_capstyle="butt",
        )
        axis.plot(estimate["value"], place, "o", color=colours[kind], label=label)
        axis.text(
            1.02,
            place,
            f"{estimate['value']:.2f}",
            va="center",
            fontsize=9,
            transform=axis.get_yaxis_transform(),
        )
    axis.set(
        yticks=range(len(rows)),
        yticklabels=[name for name, _, _ in rows],
        xlabel="area under the ROC curve",
        xlim=(0.0, 1.01),
    )
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="lower left", fontsize=8)
    _save(figure, path, title)


def contact_sheet(
    images: np.ndarray, captions: list[str], path: Path, title: str, columns: int = 8
) -> None:
    """Images beside one another, each with its caption.

    Args:
      images: [n, side, side, 1] in 0..255.
      captions: n lines.
      path, title: as above.
      columns: at most this many in a row.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.9 * columns, 2.2 * rows + 0.4),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
        axis.set_title(caption, fontsize=7)
    _save(figure, path, title)


def worst_mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    filenames: np.ndarray,
    class_names: tuple[str, ...],
    path: Path,
    title: str,
    most: int = 16,
) -> None:
    """The wrongly classified images, the most confidently wrong first; says so where there is none.

    Args:
      images: [n, side, side, 1] in 0..255.
      labels, probabilities, class_names: as in `metrics.scores`.
      filenames: [n] str.
      path, title: as above.
      most: how many at most.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:most]
    if not len(wrong):
        figure, axis = plt.subplots(figsize=(6, 2), layout="constrained")
        axis.set_axis_off()
        axis.text(
            0.5, 0.5, "No image of this split was classified wrongly.", ha="center", va="center"
        )
        _save(figure, path, title)
        return
    captions = [
        f"{short_name(filenames[i])}\n"
        f"true {class_names[labels[i]]}\n"
        f"said {class_names[predicted[i]]} {probabilities[i, predicted[i]]:.0%}"
        for i in wrong
    ]
    contact_sheet(images[wrong], captions, path, title)


def short_name(filename: str, most: int = 24) -> str:
    """The last part of a filename, with the middle left out where it is longer than `most` characters."""
    name = Path(filename).name
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def _save(figure: plt.Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
