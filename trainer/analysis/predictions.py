"""Predictions of a model on a split, and their CSV file predictions/SPLIT.csv.

predictions = read(workdir.predictions / "test.csv", positive_class="covid")
accuracy = predictions.correct.mean()
effusion = predictions.finding(0)    # Of several findings an image, one as two classes.
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import UserError

_PREFIX = "probability_"
_LABEL = "label"  # The column of the class, and the prefix of those of findings.
_LABEL_CELLS = {1: "1", 0: "0", -1: ""}  # Of one finding.
_MIN_PROBABILITY = 1e-7
_ROWS = ("filenames", "groups", "labels", "probabilities")  # The fields with one row an image.


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Images in one order, with their labels and predicted probabilities.

    Attributes:
      filenames: [n] str.
      groups: [n] str, patients or clusters of copies.
      labels: [n] int32, indices into `class_names`; of several findings an image [n, findings]
        int8: 1, 0, or -1 where it is not known.
      probabilities: [n, classes] float64, rows sum to 1; of findings each in 0..1.
      class_names: classes or findings, in label order.
      positive_class: the class that sensitivity speaks of; None with more than two classes, and
        of findings.
    """

    filenames: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    positive_class: str | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def multi_label(self) -> bool:
        """Tells whether an image may have several findings."""
        return self.labels.ndim == 2

    @property
    def positive_index(self) -> int | None:
        """Label of the positive class; None where there is none or more than two classes."""
        if self.positive_class is None or len(self.class_names) != 2:
            return None
        return self.class_names.index(self.positive_class)

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class, [n] int; of findings those of at least one half, [n, findings]."""
        if self.multi_label:
            return (self.probabilities >= 0.5).astype(np.int64)
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """Mask of the images predicted correctly, in all their findings that are known, [n]."""
        if self.multi_label:
            return ((self.predicted == self.labels) | (self.labels < 0)).all(axis=1)
        return self.predicted == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the class predicted, of several findings the least sure one, [n] float."""
        if self.multi_label:
            return np.maximum(self.probabilities, 1.0 - self.probabilities).min(axis=1)
        return self.probabilities.max(axis=1)

    @property
    def positive(self) -> np.ndarray:
        """Mask of the images of the positive class, [n] bool."""
        return self.labels == self.positive_index

    @property
    def positive_probabilities(self) -> np.ndarray:
        """Probability of the positive class, [n] float."""
        return self.probabilities[:, self.positive_index]

    def take(self, indices: np.ndarray) -> "Predictions":
        """Selects the rows at `indices` ([m] int or [n] bool), in that order."""
        rows: dict[str, Any] = {name: getattr(self, name)[indices] for name in _ROWS}
        return dataclasses.replace(self, **rows)

    def finding(self, index: int) -> "Predictions":
        """One finding as two classes, without the images in which it is not known."""
        rows = self.take(self.labels[:, index] >= 0)
        present = rows.probabilities[:, index]  # [m]
        name = self.class_names[index]
        return dataclasses.replace(
            rows,
            labels=rows.labels[:, index].astype(np.int32),
            probabilities=np.stack([1.0 - present, present], axis=1),
            class_names=(f"no {name}", name),
            positive_class=name,
        )

    def findings(self) -> dict[str, "Predictions"]:
        """Each finding as two classes, by its name."""
        return {name: self.finding(index) for index, name in enumerate(self.class_names)}

    def with_probabilities(self, probabilities: np.ndarray) -> "Predictions":
        """Returns the same images with other probabilities ([n, classes])."""
        return dataclasses.replace(self, probabilities=probabilities)


def concatenate(splits: list[Predictions]) -> Predictions:
    """Joins predictions, sorted by filename, e.g. the validation splits of all folds."""
    rows: dict[str, Any] = {
        name: np.concatenate([getattr(split, name) for split in splits]) for name in _ROWS
    }
    joined = dataclasses.replace(splits[0], **rows)
    # Members hold out images in any order.
    return joined.take(np.argsort(joined.filenames, kind="stable"))


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Computes the cross-entropy of each image in nats, [n] float.

    Args:
      labels: as in `Predictions`; of findings the mean over those that are known counts, 0 where
        none is.
      probabilities: as in `Predictions`; clipped, so that one zero does not make the loss infinite.
    """
    if labels.ndim == 1:
        true_class = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        return -np.log(np.clip(true_class, _MIN_PROBABILITY, 1.0))
    true_value = np.where(labels == 1, probabilities, 1.0 - probabilities)  # [n, findings]
    losses = -np.log(np.clip(true_value, _MIN_PROBABILITY, 1.0))
    return _mean_of_known(losses, labels)


def accuracies(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Computes the share of each image's labels that are predicted correctly, [n] float.

    Args:
      labels: as in `Predictions`.
      probabilities: as in `Predictions`; a finding is predicted from one half on.
    """
    if labels.ndim == 1:
        return (probabilities.argmax(axis=1) == labels).astype(np.float64)
    return _mean_of_known((probabilities >= 0.5) == (labels == 1), labels)


def _mean_of_known(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    labelled = labels >= 0  # [n, findings]
    return (values * labelled).sum(axis=1) / np.maximum(labelled.sum(axis=1), 1)


def write(path: Path, predictions: Predictions) -> None:
    """Writes a CSV: filename, group, label (class name) and probability_NAME of each class.

    Of several findings an image there is label_NAME (1, 0 or empty) in place of label.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names = predictions.class_names
    label_columns = [_LABEL]
    if predictions.multi_label:
        label_columns = [f"{_LABEL}_{name}" for name in names]
    columns = [getattr(predictions, name) for name in _ROWS]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        probability_columns = [f"{_PREFIX}{name}" for name in names]
        writer.writerow(["filename", "group", *label_columns, *probability_columns])
        for filename, group, label, probabilities in zip(*columns, strict=True):
            # Eight decimals: enough for float32.
            texts = [f"{value:.8f}" for value in probabilities]
            labels = [names[label]] if not predictions.multi_label else map(_LABEL_CELLS.get, label)
            writer.writerow([filename, group, *labels, *texts])


def read(path: Path, positive_class: str | None) -> Predictions:
    """Reads a file that `write` wrote.

    Args:
      path: of the CSV file.
      positive_class: the class that sensitivity speaks of; the file does not hold it.

    Raises:
      UserError: the file is missing or is no table of predictions.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
        # The header alone knows the classes.
        names = tuple(name.removeprefix(_PREFIX) for name in header if name.startswith(_PREFIX))
        # A file without a row still has its columns.
        columns = list(zip(*rows, strict=True)) or [()] * len(header)
        probabilities = np.array(columns[-len(names) :], np.float64).T  # [n, classes]
        return Predictions(
            filenames=np.array(columns[0], str),
            groups=np.array(columns[1], str),
            labels=_read_labels(header, columns[2 : -len(names)], names),
            probabilities=probabilities.reshape(len(rows), len(names)),
            class_names=names,
            positive_class=positive_class,
        )
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); train the model first, or score it with "
            "trainer.evaluate."
        ) from error
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"{path} is not a table of predictions ({error}); remove it and run again."
        ) from error


def _read_labels(
    header: list[str], columns: list[tuple[str, ...]], names: tuple[str, ...]
) -> np.ndarray:
    if header[2] == _LABEL:
        return np.array([names.index(name) for name in columns[0]], np.int32)
    cells = {text: value for value, text in _LABEL_CELLS.items()}
    labels = np.array([[cells[cell] for cell in column] for column in columns], np.int8)
    return labels.reshape(len(names), -1).T  # [n, findings]
