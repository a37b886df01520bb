"""Predictions for many files: one CSV row a file, never stopping at a bad one.

listed = sources.list_sources([Path("images"), Path("more.zip")])
batch.write_csv(model, batch.predict_rows(model, listed), file)
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO

from trainer.data import radiograph
from trainer.errors import UserError
from trainer.inference import sources
from trainer.inference.runtime import Model
from trainer.inference.sources import Source


def predict_rows(model: Model, listed: Iterable[Source]) -> Iterator[dict[str, str]]:
    """Yields the CSV row of each source, its keys ordered as `columns`."""
    for source, content in sources.read(listed):
        row = dict.fromkeys(columns(model), "") | {"filename": source.name}
        try:
            if isinstance(content, UserError):
                raise content
            image = radiograph.read(content, name=source.name)
            prediction = model.predict_radiograph(image)
        except UserError as error:
            # A bad file gets its row; the others follow.
            yield row | {"verdict": "error", "reason": str(error)}
            continue
        row |= {
            "verdict": prediction.verdict,
            "label": prediction.label,
            "reason": prediction.reason,
        }
        # A refused image has probabilities, but they mean nothing.
        if prediction.verdict != "refused":
            for name, probability in prediction.probabilities.items():
                row[f"probability_{name}"] = f"{probability:.6f}"
        yield row


def columns(model: Model) -> list[str]:
    """Names of the CSV columns.

    Returns:
      filename, label (findings with | between them), verdict (answered, unsure, refused or error),
      a probability for each class or finding, reason.
    """
    probabilities = [f"probability_{name}" for name in model.facts["class_names"]]
    return ["filename", "label", "verdict", *probabilities, "reason"]


def write_csv(model: Model, rows: Iterable[dict[str, str]], file: IO[str]) -> dict[str, int]:
    """Writes each row as soon as it is ready; returns the number of rows by verdict."""
    writer = csv.DictWriter(file, columns(model))
    writer.writeheader()
    counts: Counter[str] = Counter()
    for row in rows:
        writer.writerow(row)
        file.flush()  # An interrupted run leaves whole rows.
        counts[row["verdict"]] += 1
    return counts
