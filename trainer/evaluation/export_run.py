"""Exports of a finished run's model for other runtimes.

python -m trainer.export --workdir=runs/mine --format=saved_model,litert,onnx
"""

from pathlib import Path

import numpy as np

from trainer.data.run import Run, open_finished
from trainer.evaluation import saved_model
from trainer.evaluation.saved_model import SavedModel
from trainer.inference import exporting

_COMPARED_IMAGES = 8  # Each runs through every export: more would take long, and show no more.


def export_run(path: str, formats: tuple[str, ...], data_dir: str | None = None) -> list[str]:
    """Exports the model of a workdir and returns one line an export.

    Args:
      path: the workdir.
      formats: names of export formats.
      data_dir: folder of the prepared sets, if it moved since training.

    Raises:
      UserError: the run is not finished, its data set is missing, or an export disagrees with
        Keras.
    """
    # First: a missing model is a clearer error than an unfinished run.
    model = saved_model.load(Path(path))
    return export_model(open_finished(Path(path), data_dir), model, formats)


def export_model(run: Run, model: SavedModel, formats: tuple[str, ...]) -> list[str]:
    """Writes exports beside the saved model and compares them with Keras.

    Args:
      run: of the model.
      model: as saved in the workdir.
      formats: names of export formats.

    Raises:
      UserError: an export disagrees with Keras.
    """
    rows = run.data.builder.as_dataset(split="test").take(_COMPARED_IMAGES).as_numpy_iterator()
    squares = np.stack([row["image"] for row in rows])  # [≤ 8, side, side, 1] uint8
    refusal = saved_model.load_refusal(run.workdir.path)
    return exporting.write(
        run.workdir.model,
        model.network,
        model.facts,
        refusal.to_arrays() if refusal else None,
        formats,
        squares,
    )
