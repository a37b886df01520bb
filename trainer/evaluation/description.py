"""Everything a report says of one split: from predictions to plain values, with the sentences that explain them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis import calibration, intervals, metrics, refusal, subgroups, thresholds
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions
from trainer.analysis.refusal import Refusal

_THRESHOLD_NAMES = {
    "half": "one half",
    "youden": "greatest sensitivity + specificity (Youden)",
    "sensitivity_95": "highest with 0.95 sensitivity",
}


def describe(
    said: Predictions,
    features: np.ndarray,
    images: np.ndarray,
    columns: dict[str, np.ndarray],
    facts: dict[str, Any],
    refusing: Refusal | None,
    folder: Path,
    title: str,
) -> dict[str, Any]:
    """Scores a split in every way, draws its reliability and risk–coverage figures, and returns what evaluation.json holds.

    Args:
      said: calibrated predictions.
      features: [n, channels] float, what the network made of the images.
      images: [n, side, side, 1] uint8.
      columns: name → [n] str, further columns of groups.csv.
      facts: model.json: positive_class, temperature, calibration, thresholds.
      refusing: what the model refuses; None where that was not fitted.
      folder: where the figures go.
      title: what they are of.
    """
    positive_class, names = facts["positive_class"], said.class_names
    arguments = said.labels, said.probabilities, said.groups, names, positive_class
    found: dict[str, Any] = {
        "n": len(said),
        "groups": len(np.unique(said.groups)),
        "scores": plain(metrics.all_scores(*arguments)),
    }
    found |= _calibration(said, facts, folder, title)
    if positive_class is not None and len(names) == 2:
        index = names.index(positive_class)
        found |= _operating_points(
            said.labels == index, said.probabilities[:, index], said.groups, facts["thresholds"]
        )
    found["subgroups"] = {
        column: [{"value": value, **plain(row)} for value, row in rows.items()]
        for column, rows in subgroups.by_columns(columns, *arguments).items()
    }
    return found | _refusal(said, features, images, refusing, folder, title)


def plain(values: Any) -> Any:
    """The same with estimates as dicts, ready for JSON."""
    if isinstance(values, Estimate):
        return values.to_dict()
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return {
            field.name: plain(getattr(values, field.name)) for field in dataclasses.fields(values)
        }
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    return [plain(value) for value in values] if isinstance(values, list | tuple) else values


def _operating_points(
    positive: np.ndarray, score: np.ndarray, groups: np.ndarray, chosen: dict[str, dict]
) -> dict[str, Any]:
    values = thresholds.predictive_values(positive, score, groups)
    applied = thresholds.apply(chosen, positive, score, groups)
    rows = [
        {
            "name": _THRESHOLD_NAMES[name],
            "threshold": "none" if row["threshold"] is None else f"{row['threshold']:.3f}",
            "chosen_on": row["chosen_on"] + (f" ({row['why']})" if row["why"] else ""),
            **applied[name],
        }
        for name, row in chosen.items()
    ]
    return {
        "prevalence": [
            {"prevalence": f"{float(share):.0%}", **plain(row)} for share, row in values.items()
        ],
        "thresholds": plain(rows),
    }


def _calibration(
    said: Predictions, facts: dict[str, Any], folder: Path, title: str
) -> dict[str, Any]:
    temperature, names, positive = facts["temperature"], said.class_names, facts["positive_class"]
    raw = calibration.apply(said.probabilities, 1.0 / temperature)
    shown = {"as trained": raw} | (
        {f"at temperature {temperature:.2f}": said.probabilities} if temperature != 1.0 else {}
    )
    errors, diagrams = {}, {}
    for caption, probabilities in shown.items():
        arguments = said.labels, probabilities, said.groups, names, positive
        errors[caption] = calibration.errors(*arguments)
        diagrams[caption] = (
            calibration.stated(probabilities, names, positive),
            calibration.reliability(*arguments),
        )
    if len(said):
        calibration.draw_reliability(diagrams, folder / "reliability.png", f"Reliability: {title}")
    fitted = facts.get("calibration")
    lines = [
        f"Expected calibration error {caption}: {error['ece']}; were the probabilities right it "
        f"would read {error['ece_if_calibrated']}."
        for caption, error in errors.items()
    ]
    if fitted is None:
        lines.insert(
            0, "Not calibrated: there were no held-out predictions to fit a temperature to."
        )
    else:
        lines.insert(
            0,
            f"Temperature {temperature:.3f}, fitted to held-out predictions"
            + (
                f"; their log-loss fell by {fitted['gain']['value']:.4f} "
                f"[{fitted['gain']['low']:.4f}, {fitted['gain']['high']:.4f}] when each was scored "
                "with the temperature of the others."
                if fitted["kept"]
                else f": {fitted['why']}."
            ),
        )
    return {
        "calibration": plain(errors),
        "calibration_lines": lines,
        "reliability": plain({caption: bins for caption, (_, bins) in diagrams.items()}),
    }


def _refusal(
    said: Predictions,
    features: np.ndarray,
    images: np.ndarray,
    refusing: Refusal | None,
    folder: Path,
    title: str,
) -> dict[str, Any]:
    if refusing is None or not len(said):
        return {"refusal_lines": []}
    confidence, right = (
        said.probabilities.max(axis=1),
        said.probabilities.argmax(axis=1) == said.labels,
    )
    refusal.risk_coverage_figure(
        confidence, right, said.groups, folder / "risk_coverage.png", f"Risk and coverage: {title}"
    )
    if refusing.why:
        return {"refusal_lines": [f"Nothing is refused: {refusing.why}."]}
    refused = refusing.score(features, images) > 1.0
    share = intervals.proportion(refused, said.groups)
    return {
        "refused": plain(share),
        "refusal_lines": [
            "A picture is refused when it is unlike the training radiographs, by the network's "
            "features or by its edges; the threshold was set so that 2 % of radiographs like those "
            f"of training are refused. Of these images {share} are."
        ],
    }
