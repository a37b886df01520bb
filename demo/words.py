"""The texts of the page, as HTML and Markdown: what is said of an answer, of its meaning, and of how much to trust it."""

import html
from typing import Any

from demo.answers import Seen, Served, predictive_values

NOT_A_DEVICE = "Not a medical device: it must not be used to diagnose, to treat, or to decide who is seen first."


def warnings(served: Served) -> str:
    """The boxes above every answer; empty where nothing warns."""
    return "".join(
        f'<div class="warning" role="note">{html.escape(line)}</div>' for line in served.warnings
    )


def verdict(served: Served, seen: Seen) -> str:
    """The card that answers."""
    answer = seen.answer
    if answer.verdict == "refused":
        return _card("refused", "No answer", f"This picture is refused: {answer.reason}.")
    shown = answer.probabilities[answer.label]
    bars = "".join(_bar(name, value) for name, value in answer.probabilities.items())
    threshold = served.model.facts.get("threshold")
    positive = served.model.facts["positive_class"]
    note = (
        f"Called {positive} from a probability of {threshold:.2f} on. "
        if threshold is not None and positive
        else ""
    )
    if answer.verdict == "unsure":
        return _card(
            "unsure", "Unsure", f"{answer.reason[:1].upper()}{answer.reason[1:]}. {note}", bars
        )
    return _card(
        "answered",
        f"{answer.label}: {shown:.0%}",
        f"The model's calibrated probability. {note}",
        bars,
    )


def mistake(message: str) -> str:
    """The card for a file that cannot be read."""
    return _card("refused", "Not read", message)


def meaning(served: Served, prevalence: float) -> str:
    """What an answer would mean where `prevalence` (in 0..1) of those X-rayed have the disease."""
    values, positive = predictive_values(served, prevalence), served.model.facts["positive_class"]
    if values is None or positive is None:
        return "Sensitivity and specificity on test are not known for this run."
    ppv, npv = values
    return (
        f"Where **{prevalence:.0%}** of those examined are {positive}, an image called {positive} "
        f"is so in **{ppv:.0%}** of cases, and one called otherwise is rightly so in "
        f"**{npv:.1%}**, if sensitivity and specificity there are those of the test images."
    )


def trust(served: Served) -> str:
    """How much to trust it: the headline beside its controls, what it was trained on."""
    metrics = served.metrics
    test, dataset = metrics.get("test", {}), metrics.get("dataset", {})
    lines = [
        "| what is seen | accuracy on test | ROC AUC |",
        "|---|---|---|",
        f"| **the radiograph (this model)** | {_number(test.get('accuracy'))} | "
        f"{_number(test.get('roc_auc'))} |",
    ]
    lines += [
        f"| {_words(control['what'])} ({control['kind'].replace('_', ' ')} control) | "
        f"{_number(control['accuracy'])} | {_number(control['roc_auc'])} |"
        for control in served.audit.get("controls", [])
    ]
    sentence = metrics.get("comparison", {}).get("sentence", "")
    images = ", ".join(f"{count} {split}" for split, count in dataset.get("images", {}).items())
    about = [
        f"**{_words(sentence)}**" if sentence else "",
        f"Trained on {dataset.get('name')} ({images} images); classes: "
        f"{', '.join(dataset.get('class_names', []))}, as the data set calls them.",
        *served.evaluation.get("calibration_lines", []),
        *served.evaluation.get("refusal_lines", []),
    ]
    return (
        "\n".join(lines)
        + "\n\n"
        + "\n\n".join(line for line in about if line)
        + f"\n\n{NOT_A_DEVICE}"
    )


def _card(kind: str, head: str, text: str, more: str = "") -> str:
    return (
        f'<div class="card {kind}" role="status" aria-live="polite"><h3>{html.escape(head)}</h3>{more}'
        f"<p>{html.escape(text)}</p></div>"
    )


def _bar(name: str, value: float) -> str:
    filled = f'<div class="track"><div class="fill" style="width:{100 * value:.1f}%"></div></div>'
    return (
        f'<div class="row"><span>{html.escape(name)}</span>{filled}<span>{value:.1%}</span></div>'
    )


def _number(estimate: dict[str, Any] | None) -> str:
    if not estimate or estimate["value"] is None:
        return "none"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _words(text: str) -> str:
    """Text that Markdown takes as it is."""
    return text.replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")
