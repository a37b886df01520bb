"""Diagrams of an evaluation: controls, reliability, and risk against coverage, as PNG files.

diagrams.reliability({"as trained": (score, calibration.reliability(predictions))}, path, title)
coverage, risk, aurc = risk_coverage_curve(predictions.confidence, predictions.correct, groups)
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from trainer.analysis import figures, intervals
from trainer.analysis.figures import plt
from trainer.analysis.intervals import Estimate

_BLUE = "#0072b2"
_MAX_COLUMNS = 4  # Of reliability diagrams side by side.
_KIND_COLOURS = {"model": _BLUE, "no_lung": "#d55e00", "weak_sight": "#999999"}


def controls(
    results: list[dict[str, Any]],
    model: dict[str, Any] | None,
    path: Path,
    title: str,
) -> None:
    """Draws the AUC of a model beside those of controls.

    Args:
      results: one dict a control: name, kind (no_lung or weak_sight), roc_auc (an estimate as a
        dict).
      model: the model's AUC as a dict; None where there is no model yet.
      path: of the PNG.
      title: above the figure.
    """
    rows = [("this model", "model", model)] if model else []
    rows += [
        (control["name"].replace("_", " "), control["kind"], control["roc_auc"])
        for control in results
    ]
    figure, axis = plt.subplots(figsize=(7.5, 0.8 + 0.38 * len(rows)), layout="constrained")
    # Chance.
    axis.axvline(0.5, color="0.5", linestyle="--", linewidth=1)
    kinds = [kind for _, kind, _ in rows]
    for height, (_, kind, estimate) in enumerate(rows):
        _draw_interval(
            axis,
            height,
            estimate,
            _KIND_COLOURS[kind],
            # A kind is in the legend once.
            kind.replace("_", " ") if kinds.index(kind) == height else None,
        )
    axis.set(
        xlabel="ROC AUC",
        xlim=(0.0, 1.01),
        yticks=range(len(rows)),
        yticklabels=[name for name, _, _ in rows],
    )
    axis.invert_yaxis()  # The first row on top.
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="lower left", fontsize=8)
    figures.save(figure, path, title)


def reliability(
    diagrams: dict[str, tuple[np.ndarray, list[dict]]],
    path: Path,
    title: str,
) -> None:
    """Draws reliability diagrams, each above the histogram of its probabilities.

    Args:
      diagrams: caption ("as trained") → (probabilities [n] in 0..1, bins as
        `calibration.reliability` returns them).
      path: of the PNG.
      title: above the figure.
    """
    columns = min(len(diagrams), _MAX_COLUMNS)
    rows = -(-len(diagrams) // columns)
    figure, axes = plt.subplots(
        2 * rows,
        columns,
        figsize=(4.6 * columns, 5.6 * rows),
        layout="constrained",
        squeeze=False,
        sharex=True,
        height_ratios=(4, 1) * rows,
    )
    pairs = axes.reshape(rows, 2, columns).swapaxes(1, 2).reshape(-1, 2)  # Upper and lower.
    for axis in pairs[len(diagrams) :].flat:
        axis.set_axis_off()
    for (caption, (score, bins)), (upper, lower) in zip(diagrams.items(), pairs, strict=False):
        _draw_bins(upper, bins, caption)
        lower.hist(score, bins=20, range=(0, 1), color=_BLUE)
        lower.set(xlabel="probability stated", ylabel="images")
    figures.save(figure, path, title)


def risk_coverage(
    confidence: np.ndarray,
    correct: np.ndarray,
    groups: np.ndarray,
    path: Path,
    title: str,
) -> None:
    """Draws the risk–coverage curve.

    Args:
      confidence: [n] float, higher is answered first.
      correct: [n] bool.
      groups: [n] str.
      path: of the PNG.
      title: above the figure.
    """
    coverage, risk, aurc = risk_coverage_curve(confidence, correct, groups)
    figure, axis = plt.subplots(figsize=(5.5, 4), layout="constrained")
    axis.plot(coverage, risk, drawstyle="steps-post", label=f"AURC {aurc}")
    axis.axhline(
        1.0 - np.mean(correct),
        color="0.6",
        linestyle="--",
        linewidth=1,
        label="answering everything",
    )
    axis.set(
        xlabel="share of images answered, most certain first",
        xlim=(0, 1.01),
        ylabel="share of errors among them",
        ylim=(0.0, None),
    )
    axis.legend()
    axis.grid(alpha=0.3)
    figures.save(figure, path, title)


def risk_coverage_curve(
    confidence: np.ndarray,
    correct: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, Estimate]:
    """Computes the share of errors among the images answered, most certain first.

    El-Yaniv & Wiener 2010 (https://jmlr.org/papers/v11/el-yaniv10a.html); the area under the curve
    as in Geifman 2019 (arXiv:1805.08206), images of equal confidence being answered together.

    Args:
      confidence: [n] float, higher is answered first: a probability, or minus `Refusal.score`.
      correct: [n] bool.
      groups: [n] str.
      seed: of the interval's resampling.

    Returns:
      (coverage, risk, aurc): shares [steps] of images answered, rising to 1, and of errors among
      them; the mean risk over all coverages, 0 at best, with its interval over groups.
    """
    if len(correct) == 0:
        return np.empty(0), np.empty(0), intervals.missing("no image", groups)
    coverage, risk, aurc = _curve(confidence, correct, np.ones(len(correct)))
    bounds = intervals.bootstrap(
        lambda weights: _curve(confidence, correct, weights)[2],  # The AURC alone.
        groups,
        seed,
    )
    return coverage, risk, intervals.estimate(aurc, bounds, groups)


def _draw_interval(
    axis: Axes,
    height: int,
    estimate: dict[str, Any],
    colour: str,
    label: str | None,
) -> None:
    value = estimate["value"]
    if value is None:
        axis.text(0.5, height, " none", va="center", color="0.4")
        return
    axis.plot(
        [estimate["low"], estimate["high"]],
        [height, height],
        color=colour,
        linewidth=3,
        solid_capstyle="butt",
    )
    axis.plot(value, height, "o", color=colour, label=label)
    axis.text(
        1.02,
        height,
        f"{value:.2f}",
        va="center",
        fontsize=9,
        transform=axis.get_yaxis_transform(),  # x in shares of the axis, y in data.
    )


def _draw_bins(
    axis: Axes,
    bins: list[dict],
    caption: str,
) -> None:
    # On the diagonal the probability means what it says.
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    # Every bin holds images, so every share has a number.
    values, lows, highs = np.array([row["share"].numbers() for row in bins]).T  # [bins] each
    axis.errorbar(
        [row["mean"] for row in bins],
        values,
        [values - lows, highs - values],
        fmt="o",
        color=_BLUE,
        capsize=3,
        markersize=5,
    )
    counts = [row["n"] for row in bins]
    axis.set(
        title=f"{caption}\n({min(counts)} to {max(counts)} images a point)",
        xlim=(-0.02, 1.02),
        ylabel="how often it is true",
        ylim=(-0.02, 1.02),
    )
    axis.grid(alpha=0.3)


def _curve(
    confidence: np.ndarray,
    correct: np.ndarray,
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    # Most certain first.
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    weights = weights[order]
    last_of_level = np.append(ranked[1:] != ranked[:-1], True)  # Equal confidence, one step.
    answered = weights.cumsum()[last_of_level]
    errors = (weights * ~correct[order]).cumsum()[last_of_level]
    # The first levels may have no weight in a resample.
    errors = errors[answered > 0]
    answered = answered[answered > 0]
    risk = errors / answered
    total = answered[-1]
    return (
        answered / total,
        risk,
        float(risk @ np.diff(answered, prepend=0) / total),
    )
