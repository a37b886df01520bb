"""The source probe of an external set, written into its evaluation.

lines = site_probe.measure(folder, own, scored, features)
"""

from pathlib import Path

import numpy as np

from trainer.analysis import source_probe
from trainer.analysis.predictions import Predictions
from trainer.analysis.source_probe import Features
from trainer.evaluation.description import plain
from trainer.workdir import read_json, write_json


def measure(folder: Path, own: Features, scored: Predictions, features: np.ndarray) -> list[str]:
    """Adds the source probe to evaluation.json.

    Args:
      folder: of the evaluation.
      own: of the run's own test split.
      scored: predictions for the external set.
      features: of the external set, [n, channels].

    Returns:
      Lines for the screen.
    """
    other = Features(features, scored.labels, scored.groups)
    aucs = source_probe.probe(own, other, scored.class_names)
    content = read_json(folder / "evaluation.json")
    write_json(folder / "evaluation.json", content | {"source_probe": plain(aucs)})
    if not aucs:
        return []
    numbers = ", ".join(f"{name} {auc}" for name, auc in aucs.items())
    line = (
        f"Source probe: the features tell these images from the run's own with an AUC of {numbers} "
        "(0.5: they do not show the hospital)."
    )
    return [line]
