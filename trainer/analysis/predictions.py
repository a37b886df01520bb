"""What a model said of each image of a split, as it lies in predictions/SPLIT.csv."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from trainer.errors import UserError

_PREFIX = "probability_"


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Images in one order, with what is true and what was said.

    Attributes:
      filenames, groups: [n] str.
      labels: [n] int32, indices into `class_names`.
      probabilities: [n, classes] float64, rows summing to 1.
      class_names: in label order.
    """

    filenames: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Predictions":
        """The rows at `indices` ([m] int or [n] bool), in that order."""
        return Predictions(
            self.filenames[indices],
            self.groups[indices],
            self.labels[indices],
            self.probabilities[indices],
            self.class_names,
        )


def concatenate(parts: list[Predictions]) -> Predictions:
    """Several parts as one, sorted by filename: the held-out parts of a cross-validation."""
    fields = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("filenames", "groups", "labels", "probabilities")
    }
    order = np.argsort(fields["filenames"], kind="stable")
    return Predictions(
        **{name: values[order] for name, values in fields.items()}, class_names=parts[0].class_names
    )


def write(path: Path, predictions: Predictions) -> None:
    """Writes the rows as CSV: filename, group, label (the class's name), and probability_NAME for each class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = predictions.class_names
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "group", "label", *(f"{_PREFIX}{name}" for name in names)])
        for filename, group, label, row in zip(
            predictions.filenames,
            predictions.groups,
            predictions.labels,
            predictions.probabilities,
            strict=True,
        ):
            writer.writerow([filename, group, names[label], *(f"{value:.8f}" for value in row)])


def read(path: Path) -> Predictions:
    """Reads what `write` wrote.

    Raises:
      UserError: the file is not there or is not such a file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
        names = tuple(name.removeprefix(_PREFIX) for name in header if name.startswith(_PREFIX))
        columns = list(zip(*rows, strict=True)) or [()] * len(header)
        return Predictions(
            filenames=np.array(columns[0], str),
            groups=np.array(columns[1], str),
            labels=np.array([names.index(name) for name in columns[2]], np.int32),
            probabilities=np.array(columns[3:], np.float64).T.reshape(len(rows), len(names)),
            class_names=names,
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
