"""Audits a finished run: its data, its score beside the controls', and the small network retrained without lungs.

python -m trainer.audit --workdir=runs/mine
"""

import dataclasses
from pathlib import Path
from typing import Any

from trainer import workdir
from trainer.analysis import comparison, metrics, predictions
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data import prepared, records
from trainer.data.prepared import Prepared
from trainer.data.records import Records
from trainer.errors import UserError
from trainer.evaluation import ablation, data_audit, description, near_duplicates, report
from trainer.evaluation.data_audit import Audit
from trainer.evaluation.near_duplicates import Copies
from trainer.workdir import Workdir

_LUNGS = {
    True: "Lung fields as the program drew them.",
    False: "Lung fields come from a classical method (trainer/data/lungs.py) and are approximate; their outline "
    "stays "
    "visible, so images without lungs still tell a little of size and shape.",
}


def audit_run(path: str, data_dir: str | None = None, seed: int = 0) -> str:
    """Does the whole audit of a run, writes WORKDIR/audit/ and the report anew, and returns the lines for the screen.

    Args:
      path: the workdir.
      data_dir: where its data set is prepared, if not where it was.
      seed: of the controls and retrainings.

    Raises:
      UserError: the run is not finished, or its data are not to be found.
    """
    work = Workdir(Path(path))
    config, data = open_finished(work, data_dir)
    known = near_duplicates.of_prepared(data, config.group_copies)
    parts = {split: records.read(data.builder, split) for split in ("train", "test")}
    said = predictions.read(work.predictions / "test.csv")
    found = beside_controls(work, data, parts, known, said, seed)
    joined = {name: known.joined(part) for name, part in parts.items()}
    rows = [
        _row(result, data)
        for result in ablation.retrain(joined["train"], joined["test"], data.class_names, seed)
    ]
    facts = found.facts | {
        "retrained": rows,
        "lungs_note": _LUNGS[parts["train"].lung_masks is not None],
    }
    workdir.write_json(work.path / "audit" / "audit.json", facts)
    report.write(work)
    lines = [
        *facts["lines"],
        *(
            f"retrained on {row['what']}: ROC AUC {row['shown']}; expected: {row['expected']}"
            for row in rows
        ),
    ]
    return "\n".join(
        [*lines, f"everything lies in {work.path / 'audit'} and in {work.path / 'report.html'}"]
    )


def open_finished(work: Workdir, data_dir: str | None = None) -> tuple[TrainConfig, Prepared]:
    """The configuration of a finished run and the data it was trained on.

    Raises:
      UserError: the run is not finished, or its data are not prepared any more or differ.
    """
    config = workdir.recorded_config(work.path)
    if config is not None:
        config = dataclasses.replace(
            config, strategy="mirrored"
        )  # Audits run in one process, however it was trained.
    if config is None or not work.finished:
        raise UserError(
            f"{work.path} holds no finished run; run trainer.main with --workdir={work.path} to "
            "its end."
        )
    data = prepared.open_dataset(
        config.dataset,
        data_dir=data_dir or config.data_dir,
        manual_dir=config.manual_dir,
        phantom_train=config.phantom_train,
        phantom_test=config.phantom_test,
        phantom_shortcut=config.phantom_shortcut,
        config_name=f"gray{config.prepared_side}",
    )
    recorded = work.metrics()["dataset"]["source_fingerprint"]
    if data.fingerprint["source_fingerprint"] != recorded:
        raise UserError(
            f"the data prepared in {data.builder.data_path} are not those this run was trained on; "
            "give the --data_dir that holds them."
        )
    return config, data


def beside_controls(
    work: Workdir,
    data: Prepared,
    parts: dict[str, Records],
    known: Copies,
    said: Predictions,
    seed: int = 0,
) -> Audit:
    """The quick part of an audit: controls on the same split, and the model's score less that of the best of them.

    Args:
      work: where audit/ is written.
      data: the set.
      parts: its splits train and test, with the groups as the data set has them.
      known: its near-duplicates.
      said: what the model said of test, in the order of `parts["test"]`.
      seed: of the controls.
    """
    found = data_audit.audit(
        parts, data.class_names, data.positive_class, known, data.synthetic, seed=seed
    )
    no_lung = {
        control.name: control.probabilities
        for control in found.controls
        if control.kind == "no_lung"
    }
    difference = comparison.minus_best_control(
        said.probabilities, no_lung, said.labels, said.groups, data.class_names, data.positive_class
    )
    sentence = comparison.sentence(difference)
    warns = difference.difference.value is None or difference.difference.low <= 0
    facts = found.facts | {
        "comparison": {**description.plain(difference), "sentence": sentence, "warns": warns},
        "lines": [*found.facts["lines"], sentence],
    }
    found = dataclasses.replace(found, facts=facts)
    auc = metrics.roc_auc(
        said.labels, said.probabilities, said.groups, data.class_names, data.positive_class
    )
    data_audit.write(work.path / "audit", found, parts, known, auc.to_dict())
    return found


def _row(result: ablation.Retrained, data: Prepared) -> dict[str, Any]:
    said = result.said
    scores = metrics.scores(
        said.labels, said.probabilities, said.groups, data.class_names, data.positive_class
    )
    return {
        "name": result.name,
        "what": result.what,
        "expected": result.expected,
        "shown": str(scores["roc_auc"]),
        "roc_auc": scores["roc_auc"].to_dict(),
        "accuracy": scores["accuracy"].to_dict(),
    }
