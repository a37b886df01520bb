"""Writes a finished run's model for other runtimes.

python -m trainer.export --workdir=runs/mine --format=saved_model,litert,onnx
"""

from pathlib import Path

from trainer.evaluation import audit_run, saved_model
from trainer.inference import exporting
from trainer.workdir import Workdir

_COMPARED = 8


def export_run(path: str, wanted: tuple[str, ...], data_dir: str | None = None) -> list[str]:
    """Exports the model of a workdir in the formats wanted (of `exporting.FORMATS`); returns one line for each.

    Raises:
      UserError: the run is not finished, its data are not to be found, or an export does not agree with Keras.
    """
    work = Workdir(Path(path))
    model = saved_model.load(work.path)
    _, data = audit_run.open_finished(work, data_dir)
    squares = saved_model.prepared_squares(data.builder, _COMPARED)
    return exporting.write(
        work.model,
        model.network,
        model.facts,
        saved_model.refusal_arrays(work.path),
        wanted,
        squares,
    )
