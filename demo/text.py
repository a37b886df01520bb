"""Texts of the page, as HTML and Markdown.

text.verdict_card(served, serving.predict(served, path))  # HTML of one prediction
text.trust(served)                                        # Markdown about the model
"""

import html
from typing import Any

from demo.serving import Result, Served
from trainer.inference.tested import Estimate, Predictions, predictive_values

NOT_A_DEVICE = (
    "Not a medical device: it must not be used to diagnose, to treat, "
    "or to decide who is seen first."
)


def warnings(served: Served) -> str:
    """Returns the boxes above every prediction; empty without a warning."""
    return "".join(
        f'<div class="warning" role="note">{html.escape(line)}</div>' for line in served.warnings
    )


def verdict_card(served: Served, result: Result) -> str:
    """Returns the card of a prediction; a refused image gets no probability."""
    prediction = result.prediction
    if prediction.verdict == "refused":
        return _card("refused", "No answer", f"This picture is refused: {prediction.reason}.")
    if served.model.multi_label:
        return _findings_card(served, result)
    bars = "".join(_bar(name, value) for name, value in prediction.probabilities.items())
    # A model of several classes has no positive one.
    threshold = served.model.facts.get("threshold")
    positive = served.model.facts["positive_class"]
    has_note = threshold is not None and positive
    note = f"Called {positive} from a probability of {threshold:.2f} on. " if has_note else ""
    if prediction.verdict == "unsure":
        reason = prediction.reason[:1].upper() + prediction.reason[1:]
        return _card("unsure", "Unsure", f"{reason}. {note}", bars)
    # A percentage: more digits would promise too much.
    heading = f"{prediction.label}: {prediction.probabilities[prediction.label]:.0%}"
    kind = "calibrated probability" if served.calibrated else "probability, which is not calibrated"
    return _card("answered", heading, f"The model's {kind}. {note}", bars)


def _findings_card(served: Served, result: Result) -> str:
    """Returns the card of several findings: each with its probability beside its threshold."""
    prediction = result.prediction
    thresholds = served.model.facts["threshold"]
    bars = "".join(
        _bar(name, value, threshold)
        for (name, value), threshold in zip(
            prediction.probabilities.items(), thresholds, strict=True
        )
    )
    heading = prediction.label.replace("|", ", ")
    note = f"The model's {_calibration(served)}; a finding is called from its mark on."
    if prediction.verdict == "unsure":
        return _card("unsure", f"{heading}; unsure", f"Unsure: {prediction.reason}. {note}", bars)
    return _card("answered", heading, note, bars)


def _calibration(served: Served) -> str:
    """Names the probabilities by what was fitted to them."""
    calibrated = served.calibrated
    if len(calibrated) == len(served.model.facts["class_names"]):
        return "calibrated probabilities"
    if calibrated:
        return f"probabilities, calibrated for {', '.join(calibrated)} only"
    return "probabilities, not calibrated"


def error_card(message: str) -> str:
    """Returns the card of a file that cannot be read."""
    return _card("refused", "Not read", message[:1].upper() + message[1:])


def meaning(served: Served, prevalence: float) -> str:
    """Explains a prediction by PPV and NPV on test at a prevalence.

    Args:
      served: the run.
      prevalence: share of the examined who have the disease, strictly between 0 and 1.
    """
    tested = served.tested
    if tested is None or not served.has_predictive_values:
        return "Sensitivity and specificity on test are not known for this run."
    if tested.multi_label:
        return _meanings(served, tested, prevalence)
    threshold = served.model.facts["threshold"]
    values = predictive_values(tested, threshold, prevalence)
    # Of a class that is never called there is no predictive value.
    if values["ppv"].value is None or values["npv"].value is None:
        return f"Predictive values are undefined: {values['ppv'].why or values['npv'].why}."
    positive = served.model.facts["positive_class"]
    ppv = _percent(values["ppv"])
    npv = _percent(values["npv"])
    return (
        f"Where **{100 * prevalence:.3g}** of 100 examined are {positive}: an image called "
        f"{positive} is so in **{ppv}** of cases, and one called otherwise is rightly so in "
        f"**{npv}**. This holds if sensitivity and specificity there are those of the test "
        "images; brackets hold 95 % intervals."
    )


def _meanings(served: Served, tested: Predictions, prevalence: float) -> str:
    """Tabulates PPV and NPV of each finding on test at a prevalence, as Markdown."""
    lines = [
        f"Where **{100 * prevalence:.3g}** of 100 examined have the finding:",
        "",
        "| finding | rightly called | rightly not called |",
        "|---|---|---|",
    ]
    thresholds = served.model.facts["threshold"]
    for (name, finding), threshold in zip(tested.findings().items(), thresholds, strict=True):
        values = predictive_values(finding, threshold, prevalence)
        cells = [
            "undefined" if value.value is None else _percent(value)
            for value in (values["ppv"], values["npv"])
        ]
        lines.append(f"| {escape(name)} | {cells[0]} | {cells[1]} |")
    lines += [
        "",
        (
            "This holds if sensitivity and specificity there are those of the test images; "
            "brackets hold 95 % intervals."
        ),
    ]
    return "\n".join(lines)


def trust(served: Served) -> str:
    """Returns the scores beside the controls, and the training data, as Markdown."""
    metrics = served.metrics
    test = metrics.get("test", {})
    dataset = metrics.get("dataset", {})
    lines = [
        "| what is seen | accuracy on test | ROC AUC |",
        "|---|---|---|",
        _table_row("**the radiograph (this model)**", test.get("accuracy"), test.get("roc_auc")),
    ]
    for control in served.audit.get("controls", []):
        name = f"{escape(control['what'])} ({control['kind'].replace('_', ' ')} control)"
        lines.append(_table_row(name, control["accuracy"], control["roc_auc"]))
    sentence = metrics.get("comparison", {}).get("sentence", "")
    images = ", ".join(f"{count} {split}" for split, count in dataset.get("images", {}).items())
    class_names = ", ".join(dataset.get("class_names", []))
    kind = "findings" if served.model.multi_label else "classes"
    paragraphs = [
        "\n".join(lines),
        _findings_table(metrics),
        f"**{escape(sentence)}**" if sentence else "",
        (
            f"Trained on {dataset.get('name')} ({images} images); "
            f"{kind}: {class_names}, as the data set calls them."
        ),
        *served.evaluation.get("calibration_lines", []),
        *served.evaluation.get("refusal_lines", []),
        NOT_A_DEVICE,
    ]
    # An empty line separates paragraphs.
    return "\n\n".join(filter(None, paragraphs))


def _findings_table(metrics: dict[str, Any]) -> str:
    """Returns the AUC of each finding beside its best control; empty for classes."""
    findings = metrics.get("comparison", {}).get("findings", {})
    if not findings:
        return ""
    lines = [
        "| finding | ROC AUC | best control that sees no lung | difference |",
        "|---|---|---|---|",
    ]
    for name, row in findings.items():
        cells = [_estimate(row[key]) for key in ("model_auc", "control_auc", "difference")]
        lines.append(f"| {escape(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _card(kind: str, heading: str, message: str, bars: str = "") -> str:
    # Screen readers announce a status when it changes.
    return (
        f'<div class="card {kind}" role="status" aria-live="polite">'
        f"<h3>{html.escape(heading)}</h3>{bars}<p>{html.escape(message)}</p></div>"
    )


def _bar(name: str, value: float, threshold: float | None = None) -> str:
    mark = ""
    if threshold is not None:
        mark = f'<div class="mark" style="left:{100 * threshold:.1f}%"></div>'
    fill = (
        f'<div class="track"><div class="fill" style="width:{100 * value:.1f}%"></div>{mark}</div>'
    )
    return f'<div class="row"><span>{html.escape(name)}</span>{fill}<span>{value:.1%}</span></div>'


def _table_row(name: str, accuracy: dict[str, Any] | None, auc: dict[str, Any] | None) -> str:
    return f"| {name} | {_estimate(accuracy)} | {_estimate(auc)} |"


def _estimate(estimate: dict[str, Any] | None) -> str:
    # Too few images give an estimate without a value, and a reason.
    if not estimate or estimate["value"] is None:
        return "none"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _percent(estimate: Estimate) -> str:
    value, low, high = (100.0 * number for number in estimate.numbers())
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def escape(sentence: str) -> str:
    """Escapes the characters that Markdown would interpret."""
    return sentence.replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")
