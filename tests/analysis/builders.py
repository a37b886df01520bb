"""Predictions and groups for the tests of analysis."""

import numpy as np

from trainer.analysis.predictions import Predictions

CLASS_NAMES = ("non_covid", "covid")


def single_groups(n: int) -> np.ndarray:
    """Names a group of its own for each of n images."""
    return np.array([f"g{index}" for index in range(n)], str)


def make_predictions(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray | None = None,
) -> Predictions:
    """Builds predictions of non_covid and covid, or of classes a, b, c.

    Args:
      labels: [n] int.
      probabilities: [n, classes] float.
      groups: [n] str; a group for each image without them.
    """
    classes = probabilities.shape[1]
    return Predictions(
        filenames=np.array([f"{index:04d}.png" for index in range(len(labels))], str),
        groups=single_groups(len(labels)) if groups is None else groups,
        labels=labels,
        probabilities=probabilities,
        class_names=CLASS_NAMES if classes == 2 else tuple("abcdefgh"[:classes]),
        positive_class="covid" if classes == 2 else None,
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Converts logits [n, classes] to probabilities."""
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def random_predictions(
    seed: int,
    n: int,
    classes: int = 2,
    group_size: int = 1,
) -> Predictions:
    """Simulates a classifier that is better than chance; every class occurs."""
    rng = np.random.default_rng(seed)
    # The first images have one class each.
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    # The logit of the true class is raised.
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    groups = np.array([f"g{index // group_size}" for index in range(n)], str)
    return make_predictions(labels, softmax(logits), groups)


def random_findings(seed: int, n: int, unknown: float = 0.1) -> Predictions:
    """Simulates a classifier of three findings, with two images a patient.

    The findings go from common to rare.

    Args:
      seed: of everything.
      n: number of images.
      unknown: share of the labels that are not known.
    """
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < [0.5, 0.3, 0.05]).astype(np.int8)
    logits = rng.normal(size=(n, 3)) + 2.0 * labels - 1.0
    labels[rng.random((n, 3)) < unknown] = -1
    return Predictions(
        filenames=np.array([f"{index:04d}.png" for index in range(n)], str),
        groups=np.array([f"g{index // 2}" for index in range(n)], str),
        labels=labels,
        probabilities=1.0 / (1.0 + np.exp(-logits)),
        class_names=("effusion", "nodule", "hernia"),
        positive_class=None,
    )
