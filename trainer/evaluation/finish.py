"""The end of a training run: calibration, scores, the saved model, the audit and the report.

result = finish(run, scored, export_at, facts)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from trainer.analysis import calibration, metrics, predictions, thresholds
from trainer.analysis.duplicates import NearDuplicates
from trainer.analysis.predictions import Predictions
from trainer.data.radiograph import PREPROCESSING_VERSION
from trainer.data.run import Run
from trainer.evaluation import description, evaluate, report, run_figures, saved_model
from trainer.evaluation.export_run import export_model
from trainer.evaluation.result import Result
from trainer.evaluation.saved_model import SavedModel
from trainer.training.input_pipeline import Examples
from trainer.workdir import write_json

_MIN_PROBABILITY = 1e-12  # Before the logarithm.


@dataclasses.dataclass(frozen=True)
class Scored:
    """A model's predictions before calibration, with what calibration and audit need.

    Attributes:
      splits: split name → examples.
      predictions: split name → predictions, in the order of the examples.
      held_out: predictions by models that did not see the images; temperature and thresholds are
        fitted to them. None if there are none.
      near_duplicates: of the data set.
    """

    splits: dict[str, Examples]
    predictions: dict[str, Predictions]
    held_out: Predictions | None
    near_duplicates: NearDuplicates


def finish(
    run: Run,
    scored: Scored,
    export_at: Callable[[float], keras.Model],
    facts: dict[str, Any],
) -> Result:
    """Calibrates, scores, saves and audits a model, and writes metrics.json and the report.

    Args:
      run: the open run.
      scored: the predictions.
      export_at: temperature → the network to save, with calibrated probabilities.
      facts: further entries of metrics.json: parameters, steps, seconds, weights_sha256 …
    """
    workdir = run.workdir
    fitted = _fit_temperature(scored.held_out)
    temperature = fitted.value if fitted else 1.0
    classes = {
        "class_names": list(run.data.class_names),
        "positive_class": run.data.positive_class,
    }
    content = {"dataset": run.data.fingerprint | classes, "model": run.config.model, **facts}
    calibrated = {
        split: _at_temperature(uncalibrated, temperature)
        for split, uncalibrated in scored.predictions.items()
    }
    for split, split_predictions in calibrated.items():
        predictions.write(workdir.predictions / f"{split}.csv", split_predictions)
        content[split] = description.plain(metrics.scores(split_predictions))
    content["temperature"] = temperature
    # A member of a cross-validation has no test split.
    split = "test" if "test" in calibrated else "validation"
    run_figures.draw_scores(run, split, scored.splits[split].images, calibrated[split])

    # The temperature is part of the network: its probabilities need no further step.
    model = SavedModel(export_at(temperature), _model_facts(run, scored.held_out, fitted))
    saved_model.save(workdir.path, model)
    if "test" in calibrated:
        weights_sha256 = facts.get("weights_sha256", "")  # An ensemble has none of its own.
        content |= evaluate.evaluate_trained(run, model, scored.near_duplicates, weights_sha256)
        content["export"] = export_model(run, model, ("onnx",))
    # Last: a workdir with metrics.json counts as finished.
    write_json(workdir.path / "metrics.json", content)
    if "test" in calibrated:
        report.write(workdir)
    return Result(workdir, content)


def _at_temperature(uncalibrated: Predictions, temperature: float) -> Predictions:
    probabilities = calibration.apply_temperature(uncalibrated.probabilities, temperature)
    return uncalibrated.with_probabilities(probabilities)


def _fit_temperature(held_out: Predictions | None) -> calibration.Temperature | None:
    if held_out is None:
        return None
    # Logits but for a constant an image, which the softmax ignores.
    log_probabilities = np.log(np.maximum(held_out.probabilities, _MIN_PROBABILITY))
    return calibration.fit_temperature(held_out.labels, log_probabilities, held_out.groups)


def _model_facts(
    run: Run, held_out: Predictions | None, fitted: calibration.Temperature | None
) -> dict[str, Any]:
    """Collects model.json: everything that a reader of the model's output must know."""
    temperature = fitted.value if fitted else 1.0
    # Never chosen on test: a threshold fitted to it would make its scores too good.
    chosen = {}
    unsure = None
    if held_out is not None and run.data.positive_class:
        source = "out-of-fold predictions" if run.config.folds else "the validation part"
        calibrated = _at_temperature(held_out, temperature)
        positive = calibrated.positive
        score = calibrated.positive_probabilities
        unsure = thresholds.unsure_band(positive, score, held_out.groups)
        chosen = description.plain(thresholds.choose(positive, score, held_out.groups, source))
    side = run.data.side
    return {
        "class_names": list(run.data.class_names),
        "positive_class": run.data.positive_class,
        "synthetic": run.data.synthetic,
        "dataset": run.data.name,
        "model": run.config.model,
        "preprocessing": PREPROCESSING_VERSION,
        "temperature": temperature,
        "calibration": description.plain(fitted),
        "thresholds": chosen,
        "threshold": 0.5,  # Of the predicted class in trainer.predict and the demo.
        "unsure": unsure,
        "side": side,
        "input": f"image: [batch, {side}, {side}, 1] float32 in 0..255, as "
        "trainer.data.radiograph.standardize returns it",
        "output": "probabilities [batch, classes], calibrated; map [batch, side, side, classes], "
        "the evidence for each class; features [batch, channels]",
    }
