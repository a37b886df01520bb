"""The report of a run: report.html, one self-contained page, and MODEL_CARD.md.

    write(workdir)

It computes nothing. Every number comes from metrics.json, evaluation/test/evaluation.json,
audit/audit.json and summary.json, so it can be rewritten whenever one of them has changed.
"""

import base64
from pathlib import Path
from typing import Any

import jinja2

from trainer.data import radiograph, views
from trainer.evaluation import sites
from trainer.evaluation.result import read_spread
from trainer.workdir import Workdir, read_json

_FOLDER = Path(__file__).parent / "templates"
_TEMPLATES = {"report.html.jinja": "report.html", "model_card.md.jinja": "MODEL_CARD.md"}
FILES = tuple(_TEMPLATES.values())
"""Names of the files of a report, in a workdir."""
_PRIVATE_SETTINGS = ("workdir", "data_dir", "manual_dir")  # Paths of somebody's machine.
_PICTURES = {
    "controls": "audit/controls.png",
    "near_duplicates": "audit/near_duplicates.png",
    "confusion_matrix": "figures/confusion_matrix.png",
    "roc": "figures/roc.png",
    "worst_mistakes": "figures/worst_mistakes.png",
    "learning_curves": "figures/learning_curves.png",
    "augmented": "figures/augmented.png",
    "reliability": "evaluation/test/reliability.png",
    "risk_coverage": "evaluation/test/risk_coverage.png",
    "maps": "evaluation/test/maps.png",
}
_NAMES = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "f1": "F1",
    "mcc": "Matthews correlation",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "ece": "expected calibration error (debiased)",
    "ece_if_calibrated": "the same, were the probabilities right",
}


def write(workdir: Workdir) -> None:
    """Writes both files into the workdir of a finished run.

    Raises:
      UserError: one of the files it reads is damaged.
    """
    content = _content(workdir)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        # File and class names come from users; the model card is Markdown.
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,  # A misspelt variable is an error, not a gap.
    )
    for template, name in _TEMPLATES.items():
        text = environment.get_template(template).render(**content)
        # Written beside and renamed: a reader never sees half a page.
        partial = workdir.path / f"{name}.part"
        partial.write_text(text, encoding="utf-8")
        partial.replace(workdir.path / name)


def _content(workdir: Workdir) -> dict[str, Any]:
    """Collects the variables of the templates."""
    metrics = workdir.metrics()
    config = read_json(workdir.path / "config.json")
    # Either may have been deleted: the report then leaves its sections out.
    evaluation = _read_optional(workdir.path / "evaluation" / "test" / "evaluation.json")
    audit = _read_optional(workdir.path / "audit" / "audit.json")
    dataset = metrics["dataset"]
    test = metrics.get("test")
    comparison = audit.get("comparison", {})
    synthetic = " (synthetic data)" if dataset["synthetic"] else ""
    content = {
        "title": f"{metrics['model']} on {dataset['name']}{synthetic}",
        "workdir": workdir.path.name,
        "synthetic": dataset["synthetic"],
        "positive": dataset["positive_class"],
        "class_names": dataset["class_names"],
        "dataset": dataset,
        "metrics": metrics,
        "test": test,
        "sentence": comparison.get("sentence"),
        "sentence_warns": bool(comparison.get("warns")),
        "copied_note": audit.get("near_duplicates", {}).get("warning"),
        "controls": audit.get("controls", []),
        "findings": _findings(evaluation, comparison),
        "retrained": audit.get("retrained", []),
        "lungs_note": audit.get("lungs_note"),
        # evaluation.json holds more scores than metrics.json.
        "scores": _with_titles(evaluation.get("scores") or test or {}),
        "subgroups": evaluation.get("subgroups", {}),
        "subgroup_scores": _subgroup_scores(evaluation.get("subgroups", {})),
        "data_lines": audit.get("lines", []),
        "sites": audit.get("sites"),
        "site_scores": sites.scores(workdir),
        "spread": _spread(workdir.path / "summary.json"),
        "square": _square(workdir),
        "training_lines": _training_lines(metrics, config),
        # Without paths, so that the report can be passed on.
        "settings": {
            name: value for name, value in config["config"].items() if name not in _PRIVATE_SETTINGS
        },
        "pictures": _embedded_pictures(workdir.path),
    }
    # Missing where a split has no positive class, no image or no refusal.
    lists = ("prevalence", "thresholds", "calibration_lines", "explanation_lines", "refusal_lines")
    return content | {name: evaluation.get(name, []) for name in lists}


def _square(workdir: Workdir) -> dict[str, Any]:
    """Describes the input of the saved network; empty where the model was removed."""
    facts = _read_optional(workdir.model / "model.json")
    if not facts:
        return {}
    cut = (facts.get("view") or {}).get("name") == views.LUNGS
    return {
        "side": facts.get("side", radiograph.STANDARD_SIDE),
        "view": "the lungs of a radiograph" if cut else "a whole radiograph",
        "cut": cut,
        "calibrated": facts.get("temperature", 1.0) != 1.0,
    }


def _findings(evaluation: dict[str, Any], comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """Joins the scores of each finding with its comparison; empty for classes."""
    compared = comparison.get("findings", {})
    return [
        {**row, "comparison": compared.get(row["finding"], {})}
        for row in evaluation.get("findings", [])
    ]


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _with_titles(scores: dict[str, Any]) -> dict[str, Any]:
    return {_title(name): estimate for name, estimate in scores.items()}


def _title(name: str) -> str:
    for prefix in ("roc_auc_", "sensitivity_"):
        if name.startswith(prefix):  # Of one class or finding, in the data set's spelling.
            return f"{_title(prefix[:-1])}, {name.removeprefix(prefix)}"
    return _NAMES.get(name, name.replace("_", " "))


def _subgroup_scores(subgroups: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Returns score → title of the scores that subgroups have."""
    rows = [row for column in subgroups.values() for row in column]
    names = [name for row in rows[:1] for name in row if name not in ("value", "n", "groups")]
    return {name: _title(name) for name in names}


def _spread(path: Path) -> dict[str, Any] | None:
    """Reads the spread over the members of a repetition; None for a single run."""
    if not path.exists():
        return None
    summary = read_spread(path)
    count = len(summary["members"])
    title = f"{count} seeds, each scored on the {summary['scored_on']} split"
    if summary["kind"] == "folds":
        title = f"{count} folds, each scored on the part of Train held out from it"
    return {"title": title, "rows": _with_titles(summary["spread"])}


def _training_lines(metrics: dict[str, Any], config: dict[str, Any]) -> list[str]:
    settings = config["config"]
    dataset = metrics["dataset"]
    shown = "lungs" if settings.get("view") == views.LUNGS else "whole radiograph"
    counts = ", ".join(f"{count} in {split}" for split, count in dataset["images"].items())
    lines = [
        (
            f"Network {metrics['model']} with {metrics['parameters']:,} weights, at "
            f"{settings['image_size']} × {settings['image_size']} pixels of the {shown}; "
            f"{settings['epochs']} "
            f"epochs of batches of {settings['batch_size']}, {settings['optimizer']} at "
            f"{settings['learning_rate']:g} ({settings['schedule']}), seed {settings['seed']}."
        ),
        (
            f"Data: {dataset['name']} ({counts} images), fingerprint "
            f"{dataset['source_fingerprint'][:16]}."  # Long enough to compare by eye.
        ),
    ]
    if settings.get("paint_opacities"):
        lines.append(
            f"Opacities were painted into the lungs of {settings['paint_opacities']:.0%} of the "
            "training images; an image with paint counted as positive."
        )
    scorings = metrics.get("ledger", {}).get("count")
    if scorings:
        lines.append(
            f"This test split has been scored {scorings} times by runs that share its data_dir, "
            "this run included. The more often a test split is scored, the less its best score "
            "means."
        )
    # An ensemble has only the time of its members together.
    seconds = metrics.get("seconds", {}).get("training")
    if seconds:
        digest = metrics.get("weights_sha256", "none")[:16]
        lines.append(f"Training took {seconds:.0f} s; weights SHA-256 {digest}…")
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    commit = config.get("git_commit")  # None outside a checkout.
    lines.append(f"Made with {versions}" + (f", commit {commit[:12]}." if commit else "."))
    return lines


def _embedded_pictures(folder: Path) -> dict[str, str]:
    """Encodes the figures of a workdir as data URLs, by name; missing figures are left out."""
    pictures = {}
    for name, path in _PICTURES.items():
        if (folder / path).exists():
            # Within the page: it can be sent as one file.
            encoded = base64.b64encode((folder / path).read_bytes()).decode()
            pictures[name] = f"data:image/png;base64,{encoded}"
    return pictures
