"""Writes report.html, one self-contained page, and MODEL_CARD.md from what lies in a workdir.

It computes nothing: every number comes from metrics.json, evaluation/test/evaluation.json, audit/audit.json and summary.json,
so it can be written again whenever one of them has changed.
"""

import base64
from pathlib import Path
from typing import Any

import jinja2

from trainer import workdir
from trainer.workdir import Workdir

_TEMPLATES = Path(__file__).parent / "templates"
_HIDDEN_SETTINGS = (
    "workdir",
    "data_dir",
    "manual_dir",
)  # Places on someone's machine are nobody else's business.
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


def write(work: Workdir) -> None:
    """Writes both files into a workdir that has a metrics.json; parts that were not computed are left out.

    Raises:
      UserError: one of the files it reads is damaged.
    """
    found = _read(work)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for template, name in (
        ("report.html.jinja", "report.html"),
        ("model_card.md.jinja", "MODEL_CARD.md"),
    ):
        text = environment.get_template(template).render(**found)
        part = work.path / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(work.path / name)


def _read(work: Workdir) -> dict[str, Any]:
    """Everything the templates speak of."""
    metrics, config = work.metrics(), workdir.read_json(work.path / "config.json")
    evaluation, audit, summary, facts = (
        _optional(work.path / name)
        for name in (
            "evaluation/test/evaluation.json",
            "audit/audit.json",
            "summary.json",
            "model/model.json",
        )
    )
    dataset, test = metrics["dataset"], metrics.get("test")
    comparison = audit.get("comparison", {})
    return {
        "title": f"{metrics['model']} on {dataset['name']}"
        + (" (synthetic data)" if dataset["synthetic"] else ""),
        "subtitle": "What this classifier of chest radiographs scores, what its controls score, and what may be concluded.",
        "workdir": work.path.name,
        "synthetic": dataset["synthetic"],
        "positive": dataset["positive_class"],
        "class_names": dataset["class_names"],
        "dataset": dataset,
        "metrics": metrics,
        "test": test,
        "sentence": comparison.get("sentence"),
        "sentence_warns": bool(comparison.get("warns")),
        "copied_note": audit.get("near_duplicates", {}).get("warning"),
        "controls": [
            {
                "what": control["what"],
                "kind": control["kind"].replace("_", " "),
                "name": control["name"],
                "accuracy": control["accuracy"],
                "roc_auc": control["roc_auc"],
            }
            for control in audit.get("controls", [])
        ],
        "retrained": audit.get("retrained", []),
        "lungs_note": audit.get("lungs_note"),
        "split_name": "the test images",
        "scores": _named(evaluation.get("scores") or test or {}),
        "ece_note": evaluation.get("ece_note"),
        "prevalence": evaluation.get("prevalence", []),
        "thresholds": evaluation.get("thresholds", []),
        "calibration_lines": evaluation.get("calibration_lines", []),
        "explanation_lines": evaluation.get("explanation_lines", []),
        "refusal_lines": evaluation.get("refusal_lines", []),
        "subgroups": evaluation.get("subgroups", {}),
        "data_lines": audit.get("lines", []),
        "spread": _spread(summary),
        "training_lines": _training_lines(metrics, config),
        "settings": {
            name: value for name, value in config["config"].items() if name not in _HIDDEN_SETTINGS
        },
        "versions": config["versions"],
        "git_commit": config.get("git_commit"),
        "facts": facts,
        "pictures": {
            name: _embedded(work.path / place)
            for name, place in _PICTURES.items()
            if (work.path / place).exists()
        },
    }


def _optional(path: Path) -> dict[str, Any]:
    return workdir.read_json(path) if path.exists() else {}


def _named(scores: dict[str, Any]) -> dict[str, Any]:
    return {_NAMES.get(name, name.replace("_", " ")): estimate for name, estimate in scores.items()}


def _spread(summary: dict[str, Any]) -> dict[str, Any] | None:
    if not summary:
        return None
    count, scored = len(summary["members"]), summary["scored_on"]
    title = (
        f"{count} folds, each scored on the part of Train held out from it"
        if summary["kind"] == "folds"
        else f"{count} seeds, each scored on the {scored} split"
    )
    return {"title": title, "rows": _named(summary["spread"])}


def _training_lines(metrics: dict[str, Any], config: dict[str, Any]) -> list[str]:
    settings, images = config["config"], metrics["dataset"]["images"]
    counted = ", ".join(f"{count} in {name}" for name, count in images.items())
    lines = [
        f"Network {metrics['model']} with {metrics['parameters']:,} weights, at "
        f"{settings['image_size']} × {settings['image_size']} pixels; {settings['epochs']} epochs "
        f"of batches of {settings['batch_size']}, {settings['optimizer']} at "
        f"{settings['learning_rate']:g} ({settings['schedule']}), seed {settings['seed']}.",
        f"Data: {metrics['dataset']['name']} ({counted} images), fingerprint "
        f"{metrics['dataset']['source_fingerprint'][:16]}.",
    ]
    if (ledger := metrics.get("ledger")) and ledger.get("count"):
        lines.append(
            f"This test split has been scored {ledger['count']} times by runs that share its "
            "data_dir, this run included. The more often a test split is looked at, the less its "
            "best score means."
        )
    if seconds := metrics.get("seconds", {}).get("training"):
        lines.append(
            f"Training took {seconds:.0f} s; weights SHA-256 "
            f"{metrics.get('weights_sha256', 'none')[:16]}…"
        )
    lines.append(
        "Made with "
        + ", ".join(f"{name} {version}" for name, version in config["versions"].items())
        + (f", commit {config['git_commit'][:12]}" if config.get("git_commit") else "")
        + "."
    )
    return lines


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
