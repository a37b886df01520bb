"""The content of evaluation.json: scores of one split with the sentences that explain them.

content = describe(predictions, model_facts, columns, folder, title)
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis import calibration, diagrams, intervals, metrics, subgroups, thresholds
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions
from trainer.analysis.refusal import Refusal

_THRESHOLD_NAMES = {
    "half": "one half",
    "youden": "greatest sensitivity + specificity (Youden)",
    "sensitivity_95": "highest with 0.95 sensitivity",
}


def describe(
    predictions: Predictions,
    facts: dict[str, Any],
    columns: dict[str, np.ndarray],
    folder: Path,
    title: str,
) -> dict[str, Any]:
    """Computes every score of a split and draws its reliability diagram.

    Of several findings an image, `findings` has the scores of each, and thresholds and prevalence
    name theirs.

    Args:
      predictions: calibrated.
      facts: model.json: temperature, calibration, thresholds.
      columns: name → [n] str, further columns of groups.csv.
      folder: for the figure.
      title: of the figure.
    """
    content: dict[str, Any] = {
        "n": len(predictions),
        "groups": len(np.unique(predictions.groups)),
        "scores": plain(metrics.scores(predictions, detailed=True)),
    }
    content |= _describe_calibration(predictions, facts, folder, title)
    # Sensitivity, thresholds and prevalence speak of one positive class among two.
    if predictions.positive_index is not None:
        content |= _describe_operating_points(predictions, facts["thresholds"])
    if predictions.multi_label:
        content |= _describe_findings(predictions, facts)
    # Columns of groups.csv: sex, scanner, hospital, …
    content["subgroups"] = {
        column: [{"value": value, **plain(row)} for value, row in rows.items()]
        for column, rows in subgroups.by_columns(columns, predictions).items()
    }
    return content


def describe_refusal(
    predictions: Predictions,
    images: np.ndarray,
    features: np.ndarray,
    refusal: Refusal | None,
    folder: Path,
    title: str,
) -> dict[str, Any]:
    """Measures the share of refused images and draws the risk–coverage curve.

    Args:
      predictions: calibrated.
      images: [n, side, side, 1] uint8.
      features: [n, channels] float, of the network.
      refusal: as fitted; None without one.
      folder: for the figure.
      title: of the figure.
    """
    if refusal is None or not len(predictions):
        return {"refusal_lines": []}
    diagrams.risk_coverage(
        predictions.confidence,
        predictions.correct,
        predictions.groups,
        folder / "risk_coverage.png",
        f"Risk and coverage: {title}",
    )
    # Too few radiographs to fit one: the reason takes its place.
    if refusal.why:
        return {"refusal_lines": [f"Nothing is refused: {refusal.why}."]}
    refused = refusal.score(features, images) > 1.0  # [n] bool; 1 is the threshold.
    share = intervals.proportion(refused, predictions.groups)
    line = (
        "A picture is refused when it is unlike the training radiographs, by the network's "
        "features or by its edges; the threshold was set so that 2 % of radiographs like those of "
        f"training are refused. Of these images {share} are."
    )
    return {"refused": plain(share), "refusal_lines": [line]}


def plain(values: Any) -> Any:
    """Converts estimates and dataclasses to dicts, ready for JSON."""
    # First: an estimate is a dataclass, too, and leaves out an empty reason.
    if isinstance(values, Estimate):
        return values.to_dict()
    if dataclasses.is_dataclass(values):
        # Not `asdict`, which would turn estimates within into dicts by itself.
        values = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    return [plain(value) for value in values] if isinstance(values, list | tuple) else values


def _describe_findings(predictions: Predictions, facts: dict[str, Any]) -> dict[str, Any]:
    """Scores each finding as two classes, at the threshold that the model uses for it."""
    rows: list[dict[str, Any]] = []
    points: dict[str, list[dict[str, Any]]] = {"prevalence": [], "thresholds": []}
    values = dict(zip(predictions.class_names, facts["threshold"], strict=True))
    for name, finding in predictions.findings().items():
        scores = metrics.scores(finding, detailed=True, threshold=values[name])
        row = {
            "finding": name,
            "images": len(finding),
            "positives": int(finding.positive.sum()),
            "unknown": len(predictions) - len(finding),
            "threshold": values[name],
            "scores": plain(scores),
        }
        rows.append(row)
        of_finding = _describe_operating_points(finding, facts["thresholds"][name], values[name])
        for kind in points:
            points[kind] += [{"finding": name, **point} for point in of_finding[kind]]
    return {"findings": rows, **points}


def _describe_operating_points(
    predictions: Predictions, chosen: dict[str, dict], threshold: float = 0.5
) -> dict[str, Any]:
    """Applies the chosen thresholds, and computes predictive values by prevalence."""
    positive = predictions.positive
    score = predictions.positive_probabilities
    # For several prevalences: that of this split is no clinic's.
    predictive = thresholds.predictive_values(positive, score, predictions.groups, threshold)
    applied = thresholds.apply(chosen, positive, score, predictions.groups)
    rows = []
    for name, choice in chosen.items():
        value = choice["threshold"]  # None where the held-out images gave none.
        reason = f" ({choice['why']})" if choice["why"] else ""
        row = {
            "name": _THRESHOLD_NAMES[name],
            "threshold": "none" if value is None else f"{value:.3f}",
            "chosen_on": choice["chosen_on"] + reason,
        }
        rows.append(row | plain(applied[name]))
    prevalence = [
        {"prevalence": f"{float(share):.0%}", **plain(row)} for share, row in predictive.items()
    ]
    return {"prevalence": prevalence, "thresholds": rows}


def _describe_calibration(
    predictions: Predictions, facts: dict[str, Any], folder: Path, title: str
) -> dict[str, Any]:
    """Computes calibration errors and reliability, before and after the temperature."""
    temperature = facts["temperature"]
    fitted = facts.get("calibration")
    if predictions.multi_label:
        # Calibrated ones alone: two diagrams a finding would be many.
        findings = predictions.findings()
        versions = {name: finding for name, finding in findings.items() if len(finding)}
        lines = [_findings_line(fitted)]
    else:
        versions = {"as trained": calibration.restore(predictions, temperature)}
        # At 1 both versions are the same.
        if temperature != 1.0:
            versions[f"at temperature {temperature:.2f}"] = predictions
        lines = [_calibration_line(fitted, temperature)]
    errors = {caption: calibration.errors(version) for caption, version in versions.items()}
    bins = {caption: calibration.reliability(version) for caption, version in versions.items()}
    if len(predictions) and versions:  # A curve needs a point.
        curves = {
            caption: (calibration.event_probability(version), bins[caption])
            for caption, version in versions.items()
        }
        diagrams.reliability(curves, folder / "reliability.png", f"Reliability: {title}")
    for caption, error in errors.items():
        lines.append(
            f"Expected calibration error {caption}: {error['ece']}; were the probabilities right "
            f"it would read {error['ece_if_calibrated']}."
        )
    return {
        "calibration": plain(errors),
        "calibration_lines": lines,
        "reliability": plain(bins),
    }


def _findings_line(fitted: dict[str, Any] | None) -> str:
    if fitted is None:
        return "Not calibrated: there were no held-out predictions to fit temperatures to."
    texts = [
        f"{name} {each['value']:.2f}" if each["kept"] else f"{name} none ({each['why']})"
        for name, each in fitted["findings"].items()
    ]
    return f"Temperatures, fitted to held-out predictions of each finding: {'; '.join(texts)}."


def _calibration_line(fitted: dict[str, Any] | None, temperature: float) -> str:
    if fitted is None:
        return "Not calibrated: there were no held-out predictions to fit a temperature to."
    line = f"Temperature {temperature:.3f}, fitted to held-out predictions"
    # It stays 1 where it would not lower the log-loss.
    if not fitted["kept"]:
        return f"{line}: {fitted['why']}."
    gain = fitted["gain"]
    return (
        f"{line}; their log-loss fell by {gain['value']:.4f} [{gain['low']:.4f}, "
        f"{gain['high']:.4f}] when each was scored with the temperature of the others."
    )
