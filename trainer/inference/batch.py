"""Predictions for many files: one CSV row a file, never stopping at a bad one.

listed = sources.list_sources([Path("images"), Path("more.zip")])
batch.write_csv(model, batch.predict_rows(model, listed), file)
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from trainer.data import radiograph
from trainer.data.radiograph import Radiograph
from trainer.data.views import Square
from trainer.errors import UserError
from trainer.inference import sources
from trainer.inference.runtime import Model, Prediction
from trainer.inference.sources import Source

Draw = Callable[[int, str, Radiograph, tuple[Prediction, Square, dict[str, Any]]], list[str]]
"""(number of the row, name, radiograph, answer) → names of the pictures."""


def predict_rows(
    model: Model, listed: Iterable[Source], draw: Draw | None = None
) -> Iterator[dict[str, str]]:
    """Yields the CSV row of each source, its keys ordered as `columns`.

    Args:
      model: the export.
      listed: the sources.
      draw: draws the maps of one radiograph and returns the names of the pictures; None for none.
    """
    for number, (source, content) in enumerate(sources.read(listed), start=1):
        row = dict.fromkeys(columns(model, draw is not None), "") | {"filename": source.name}
        try:
            if isinstance(content, UserError):
                raise content
            image = radiograph.read(content, name=source.name)
            answer = model.explain_radiograph(image, with_map=draw is not None)
        except UserError as error:
            # A bad file gets its row; the others follow.
            yield row | {"verdict": "error", "reason": str(error)}
            continue
        prediction = answer[0]
        # Outside the block above: a full disk is no fault of the image.
        if draw is not None:
            row["map"] = "|".join(draw(number, source.name, image, answer))
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


def columns(model: Model, with_map: bool = False) -> list[str]:
    """Names of the CSV columns.

    Args:
      model: the export.
      with_map: whether maps are drawn.

    Returns:
      filename, label (findings with | between them), verdict (answered, unsure, refused or error),
      a probability for each class or finding, reason; with maps the names of the pictures, with |
      between them.
    """
    probabilities = [f"probability_{name}" for name in model.facts["class_names"]]
    maps = ["map"] if with_map else []
    return ["filename", "label", "verdict", *probabilities, "reason", *maps]


def write_csv(
    model: Model, rows: Iterable[dict[str, str]], file: IO[str], with_map: bool = False
) -> dict[str, int]:
    """Writes each row as soon as it is ready; returns the number of rows by verdict."""
    writer = csv.DictWriter(file, columns(model, with_map))
    writer.writeheader()
    counts: Counter[str] = Counter()
    for row in rows:
        writer.writerow(row)
        file.flush()  # An interrupted run leaves whole rows.
        counts[row["verdict"]] += 1
    return counts
