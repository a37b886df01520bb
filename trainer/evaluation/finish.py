"""From what a model said to what is kept of a run: calibrated predictions, scores, the saved model, audit and report."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from trainer import workdir
from trainer.analysis import calibration, metrics, predictions, thresholds
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data.prepared import Prepared
from trainer.evaluation import description, evaluate, report, saved_model
from trainer.evaluation.near_duplicates import Copies
from trainer.inference import exporting
from trainer.training import summary
from trainer.training.input_pipeline import Examples
from trainer.workdir import Workdir

_COMPARED = 8  # Images on which the export is compared with Keras.
PREPROCESSING = (
    1  # Rises with any change to radiograph.standardize or to the resampling in the graph.
)


@dataclasses.dataclass(frozen=True)
class Scored:
    """What a model said of each part of a set, before calibration.

    Attributes:
      parts: split → examples.
      said: split → predictions, in the order of the examples.
      held_out: predictions by models that did not see the images, where temperature and thresholds come from; None for none.
      known_copies: the near-duplicates of the set.
    """

    parts: dict[str, Examples]
    said: dict[str, Predictions]
    held_out: Predictions | None
    known_copies: Copies


def predictions_of(part: Examples, probabilities: np.ndarray, data: Prepared) -> Predictions:
    """What was said of the examples of a part: `probabilities` is [n, classes]."""
    return Predictions(part.filenames, part.groups, part.labels, probabilities, data.class_names)


def finish(
    work: Workdir,
    data: Prepared,
    config: TrainConfig,
    scored: Scored,
    export_at: Callable[[float], keras.Model],
    facts: dict[str, Any],
    calibrated: bool = False,
) -> summary.Result:
    """Calibrates, scores and saves a model, audits its data, and writes predictions, figures, metrics.json and report.

    Args:
      work: where everything goes.
      data, config: of the run.
      scored: what the model said.
      export_at: temperature → the network to be saved.
      facts: what metrics.json holds besides: parameters, steps, seconds, …
      calibrated: whether what was said is calibrated already.
    """
    fitted = None if calibrated else _temperature(scored.held_out)
    temperature = fitted.value if fitted else 1.0
    said = {name: _at(part, temperature) for name, part in scored.said.items()}
    for name, part in said.items():
        predictions.write(work.predictions / f"{name}.csv", part)
    shown = "test" if "test" in said else "validation"
    summary.draw_scores(work, data, config, shown, scored.parts[shown].images, said[shown])
    model = saved_model.SavedModel(
        export_at(temperature), _facts(data, config, scored.held_out, temperature, fitted)
    )
    saved_model.save(work.path, model)
    found = {
        "dataset": data.fingerprint
        | {"class_names": list(data.class_names), "positive_class": data.positive_class},
        "model": config.model,
        **facts,
        **{name: _scores(part, data) for name, part in said.items()},
        "temperature": temperature,
    }
    if "test" in said:
        found |= evaluate.of_finished_run(
            work, data, config, model, scored.known_copies, facts.get("weights_sha256", "")
        )
        squares = saved_model.prepared_squares(data.builder, _COMPARED)
        refusal = saved_model.refusal_arrays(work.path)
        found["export"] = exporting.write(
            work.model, model.network, model.facts, refusal, ("onnx",), squares
        )
    workdir.write_json(work.path / "metrics.json", found)
    if "test" in said:
        report.write(work)
    return summary.Result(work, found)


def _at(said: Predictions, temperature: float) -> Predictions:
    return dataclasses.replace(
        said, probabilities=calibration.apply(said.probabilities, temperature)
    )


def _temperature(held_out: Predictions | None) -> calibration.Temperature | None:
    if held_out is None:
        return None
    powers = np.log(np.maximum(held_out.probabilities, 1e-12))
    return calibration.fit_temperature(held_out.labels, powers, held_out.groups)


def _scores(said: Predictions, data: Prepared) -> dict[str, Any]:
    found = metrics.scores(
        said.labels, said.probabilities, said.groups, data.class_names, data.positive_class
    )
    return {name: estimate.to_dict() for name, estimate in found.items()}


def _facts(
    data: Prepared,
    config: TrainConfig,
    held_out: Predictions | None,
    temperature: float,
    fitted: calibration.Temperature | None,
) -> dict[str, Any]:
    """What a reader of the model's output must know: model.json."""
    chosen, unsure = {}, None
    if held_out is not None and data.positive_class:
        index = data.class_names.index(data.positive_class)
        probabilities = calibration.apply(held_out.probabilities, temperature)[:, index]
        where = "out-of-fold predictions" if config.folds else "the validation part"
        unsure = thresholds.unsure_band(held_out.labels == index, probabilities, held_out.groups)
        chosen = description.plain(
            thresholds.choose(held_out.labels == index, probabilities, held_out.groups, where)
        )
    return {
        "class_names": list(data.class_names),
        "positive_class": data.positive_class,
        "synthetic": data.synthetic,
        "dataset": data.name,
        "model": config.model,
        "preprocessing": PREPROCESSING,
        "temperature": temperature,
        "calibration": description.plain(fitted),
        "thresholds": chosen,
        "threshold": 0.5,
        "unsure": unsure,
        "side": data.side,
        "input": f"image: [batch, {data.side}, {data.side}, 1] float32 in 0..255, as "
        "trainer.data.radiograph.standardize gives it",
        "output": "probabilities [batch, classes], calibrated; map [batch, side, side, classes], where the evidence for "
        "each class "
        "lies; features [batch, channels]",
    }
