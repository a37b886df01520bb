"""Predictions of a model on a split, and their CSV file predictions/SPLIT.csv.

predictions = read(workdir.predictions / "test.csv", positive_class="covid")
accuracy = predictions.correct.mean()
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import UserError

_PREFIX = "probability_"
_ROWS = ("filenames", "groups", "labels", "probabilities")  # The fields with one row an image.


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Images in one order, with their labels and predicted probabilities.

    Attributes:
      filenames: [n] str.
      groups: [n] str, patients or clusters of copies.
      labels: [n] int32, indices into `class_names`.
      probabilities: [n, classes] float64, rows sum to 1.
      class_names: names in label order.
      positive_class: the class that sensitivity speaks of; None with more than two classes.
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
    def positive_index(self) -> int | None:
        """Label of the positive class; None where there is none or more than two classes."""
        if self.positive_class is None or len(self.class_names) != 2:
            return None
        return self.class_names.index(self.positive_class)

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class, [n] int."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """Mask of the images whose predicted class is the true one, [n] bool."""
        return self.predicted == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the most probable class, [n] float."""
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


def write(path: Path, predictions: Predictions) -> None:
    """Writes a CSV with the columns filename, group, label (class name) and probability_NAME."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = predictions.class_names
    columns = [getattr(predictions, name) for name in _ROWS]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "group", "label", *[f"{_PREFIX}{name}" for name in names]])
        for filename, group, label, probabilities in zip(*columns, strict=True):
            # Eight decimals: enough for float32.
            texts = [f"{value:.8f}" for value in probabilities]
            writer.writerow([filename, group, names[label], *texts])


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
        probabilities = np.array(columns[3:], np.float64).T  # [n, classes]
        return Predictions(
            filenames=np.array(columns[0], str),
            groups=np.array(columns[1], str),
            labels=np.array([names.index(name) for name in columns[2]], np.int32),
            probabilities=probabilities.reshape(len(rows), len(names)),
            class_names=names,
            positive_class=positive_class,
        )
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); train the model first, or score it with "
            "trainer.evaluate."
        ) from error
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{path} is not a table of predictions ({error}); remove it and run again."
        ) from error
