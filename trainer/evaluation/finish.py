"""The end of a training run: calibration, scores, the saved model, the audit and the report.

scored = Scored(splits, predictions, held_out, near_duplicates, calibration.fit(held_out))
result = finish(run, scored, network, facts)
"""

import dataclasses
from typing import Any

import keras

from trainer.analysis import calibration, metrics, predictions, thresholds
from trainer.analysis.duplicates import NearDuplicates
from trainer.analysis.predictions import Predictions
from trainer.data import records, views
from trainer.data.radiograph import PREPROCESSING_VERSION
from trainer.data.run import Run
from trainer.evaluation import (
    description,
    evaluate,
    export_network,
    report,
    run_figures,
    saved_model,
)
from trainer.evaluation.export_run import export_model
from trainer.evaluation.result import Result
from trainer.evaluation.saved_model import SavedModel
from trainer.training import models
from trainer.training.input_pipeline import Examples
from trainer.workdir import Workdir, write_json


@dataclasses.dataclass(frozen=True)
class Scored:
    """A model's predictions before the temperature, with what calibration and audit need.

    Attributes:
      splits: split name → examples.
      predictions: split name → predictions, in the order of the examples.
      held_out: predictions by models that did not see the images, before the temperature; the
        thresholds are fitted to them. None if there are none.
      near_duplicates: of the data set.
      temperatures: fitted to `held_out`, one, or one for each finding; None for none.
    """

    splits: dict[str, Examples]
    predictions: dict[str, Predictions]
    held_out: Predictions | None
    near_duplicates: NearDuplicates
    temperatures: list[calibration.Temperature] | None

    @property
    def divisor(self) -> calibration.Divisor:
        """The divisor of the logits, or those of findings; 1 for none."""
        if self.held_out is None or not self.temperatures:
            return 1.0
        return calibration.divisor(self.temperatures, self.held_out.multi_label)


def finish(run: Run, scored: Scored, network: keras.Model, facts: dict[str, Any]) -> Result:
    """Calibrates, scores, saves and audits a model, and writes metrics.json and the report.

    Args:
      run: the open run.
      scored: the predictions.
      network: to save; the temperature is part of it.
      facts: further entries of metrics.json: parameters, steps, seconds, weights_sha256 …
    """
    workdir = run.workdir
    classes = {
        "class_names": list(run.data.class_names),
        "positive_class": run.data.positive_class,
    }
    content = {"dataset": run.data.fingerprint | classes, "model": run.config.model, **facts}
    calibrated = {
        split: calibration.rescale(uncalibrated, scored.divisor)
        for split, uncalibrated in scored.predictions.items()
    }
    for split, split_predictions in calibrated.items():
        predictions.write(workdir.predictions / f"{split}.csv", split_predictions)
        content[split] = description.plain(metrics.scores(split_predictions))
    content["temperature"] = scored.divisor
    # A member of a cross-validation and a teacher have no test split.
    split = next(name for name in ("test", "validation", "train") if name in calibrated)
    run_figures.draw_scores(run, split, scored.splits[split].images, calibrated[split])

    saved_model.save(workdir.path, SavedModel(network, _model_facts(run, scored, network)))
    # What is scored is what the file holds.
    model = saved_model.load(workdir.path)
    if "test" in calibrated:
        images = {name: records.read(run.data.builder, name) for name in ("train", "test")}
        evaluate.fit_refusal(run, model, scored.near_duplicates.merge_records(images["train"]))
        # Before the scores: whatever fails there, the model can be used.
        content["export"] = export_model(run, model, ("onnx",))
        weights_sha256 = facts.get("weights_sha256", "")  # An ensemble has none of its own.
        content |= evaluate.evaluate_trained(
            run, model, images, scored.near_duplicates, weights_sha256
        )
    # Last: a workdir with metrics.json counts as finished.
    write_json(workdir.path / "metrics.json", content)
    if "test" in calibrated:
        report.write(workdir)
    return Result(workdir, content)


def reopen(workdir: Workdir) -> Result:
    """Returns the result of a finished run; writes a missing report."""
    metrics = workdir.metrics()
    complete = all((workdir.path / name).exists() for name in report.FILES)
    if "test" in metrics and not complete:
        report.write(workdir)
    return Result(workdir, metrics, resumed=True)


def _calibration_facts(run: Run, scored: Scored) -> dict[str, Any] | None:
    """Returns the fitted temperature; of findings those of each, and whether any was kept."""
    if scored.temperatures is None:
        return None
    fitted = description.plain(scored.temperatures)
    if not run.data.multi_label:
        return fitted[0]
    return {
        "kept": any(each["kept"] for each in fitted),
        "findings": dict(zip(run.data.class_names, fitted, strict=True)),
    }


def _operating_points(run: Run, scored: Scored) -> dict[str, Any]:
    """Chooses thresholds on held-out predictions.

    Never on test: a threshold fitted to it would make its scores too good.

    Returns:
      thresholds: as `thresholds.choose` gives them, of findings by name; threshold: of the
      predicted class in trainer.predict and the demo; unsure: the probabilities between which the
      model is unsure. Of findings the last two are lists in label order.
    """
    source = "out-of-fold predictions" if run.config.folds else "the validation part"
    held_out = scored.held_out
    if held_out is not None:
        held_out = calibration.rescale(held_out, scored.divisor)
    if run.data.multi_label:
        findings = held_out.findings() if held_out is not None else {}
        choices = {name: _choose(findings.get(name), source) for name in run.data.class_names}
        # A rare finding hardly ever has a probability of one half: Youden's threshold is used.
        used = [chosen.get("youden", {}).get("threshold") for chosen, _ in choices.values()]
        return {
            "thresholds": {name: chosen for name, (chosen, _) in choices.items()},
            "threshold": [0.5 if value is None else value for value in used],
            "unsure": [unsure for _, unsure in choices.values()],
        }
    chosen, unsure = _choose(held_out if run.data.positive_class else None, source)
    return {"thresholds": chosen, "threshold": 0.5, "unsure": unsure}


def _choose(held_out: Predictions | None, source: str) -> tuple[dict[str, Any], list[float] | None]:
    """Returns the thresholds and the unsure band of two classes; without predictions none."""
    if held_out is None:
        return {}, None
    positive = held_out.positive
    score = held_out.positive_probabilities
    chosen = thresholds.choose(positive, score, held_out.groups, source)
    return description.plain(chosen), thresholds.unsure_band(positive, score, held_out.groups)


def _model_facts(run: Run, scored: Scored, network: keras.Model) -> dict[str, Any]:
    """Collects model.json: everything that a reader of the model's output must know."""
    opacity_map = None
    if models.is_source_free(run.config):
        positive_index = run.data.class_names.index(run.data.positive_class)
        full = export_network.opacity_evidence(network, positive_index)
        opacity_map = {"class": run.data.positive_class, "full": full}
    side = run.data.side
    calibration_facts = _calibration_facts(run, scored)
    calibrated = "calibrated" if (calibration_facts or {}).get("kept") else "not calibrated"
    return {
        "class_names": list(run.data.class_names),
        "positive_class": run.data.positive_class,
        "synthetic": run.data.synthetic,
        "dataset": run.data.name,
        "model": run.config.model,
        "preprocessing": PREPROCESSING_VERSION,
        "view": views.describe(run.data.view),
        "multi_label": run.data.multi_label,
        "temperature": scored.divisor,
        "calibration": calibration_facts,
        **_operating_points(run, scored),
        # The class whose map shows opacities, and its value where one is complete.
        "opacity_map": opacity_map,
        "side": side,
        "input": f"image: [batch, {side}, {side}, 1] float32 in 0..255, as "
        "trainer.data.views.make_square returns it",
        "output": f"probabilities [batch, classes], {calibrated}; "
        "map [batch, side, side, classes], the evidence for each class; features [batch, channels]",
    }
