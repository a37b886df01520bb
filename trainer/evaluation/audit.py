"""The two audits: of a data set before any training, and of a finished run.

python -m trainer.audit --dataset=covid_xray --manual_dir=FOLDER_OR_ZIP --output=audits/mine
python -m trainer.audit --workdir=runs/mine
"""

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

from trainer.analysis import comparison, metrics, predictions
from trainer.analysis.duplicates import NearDuplicates
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data import image_folder, lungs, prepared, radiograph, records
from trainer.data.records import Records
from trainer.data.run import Run, open_finished
from trainer.errors import UserError
from trainer.evaluation import data_audit, near_duplicates, report
from trainer.evaluation.data_audit import Audit, AuditedSet
from trainer.evaluation.description import plain
from trainer.workdir import write_json

_SPLITS = ("train", "test")
_NOT_SEARCHED = NearDuplicates((), False, "")


def audit_set(config: TrainConfig, output: str | None, also: tuple[str, ...] = ()) -> str:
    """Audits a data set before any training.

    Args:
      config: names the data set: dataset, manual_dir, data_dir and the phantom's settings; its seed
        is that of the controls.
      output: the folder to write to; None for a new one under audits/. An earlier audit in it is
        replaced.
      also: further folders in which near-duplicates of the set are searched.

    Returns:
      The lines for the screen.

    Raises:
      UserError: the data set is missing, or the folder is read-only or holds other files.
    """
    folder = _output_folder(output)  # First: a read-only folder is an error before minutes of work.
    dataset = _read_files(config) if config.manual_dir else _read_prepared(config, search=not also)
    dataset = _with_folders(dataset, also)
    # Over all splits and further folders at once, so that copies across them are paired.
    if not dataset.near_duplicates.searched:
        duplicates = near_duplicates.find_in_records(dataset.splits.values())
        dataset = dataclasses.replace(dataset, near_duplicates=duplicates)
    audit = data_audit.audit_dataset(dataset, config.seed)
    data_audit.write(folder, audit)
    files = "audit.json, controls.csv, near_duplicates.csv and their figures"
    return "\n".join([*audit.facts["lines"], f"written to {folder}: {files}"])


def audit_run(path: str, data_dir: str | None = None, seed: int = 0) -> str:
    """Audits a finished run and rewrites its report.

    The controls are trained on the run's data and the small network is retrained without lungs.

    Args:
      path: the workdir.
      data_dir: folder of the prepared sets, if it moved since training.
      seed: of the controls and the retrained networks.

    Returns:
      The lines for the screen.

    Raises:
      UserError: the run is not finished, or its data set is missing.
    """
    from trainer.evaluation import ablation  # Imported lazily: audit_set needs no TensorFlow.

    run = open_finished(Path(path), data_dir)
    workdir = run.workdir
    duplicates = near_duplicates.find_in_dataset(run.data, run.config.group_copies)
    splits = {split: records.read(run.data.builder, split).whole_radiographs() for split in _SPLITS}
    tested = predictions.read(workdir.predictions / "test.csv", run.data.positive_class)
    audit = audit_beside_model(run, splits, duplicates, tested, seed)
    rows = ablation.retrain(audit.dataset, seed)
    # Replaces what `audit_beside_model` wrote: the same facts and the retrained networks.
    write_json(
        workdir.path / "audit" / "audit.json",
        audit.facts | {"retrained": rows, "lungs_note": _masks_note(splits["train"])},
    )
    report.write(workdir)
    lines = audit.facts["lines"] + [
        f"retrained on {row['what']}: ROC AUC {row['shown']}; expected: {row['expected']}"
        for row in rows
    ]
    lines.append(f"written to {workdir.path / 'audit'} and {workdir.path / 'report.html'}")
    return "\n".join(lines)


def _masks_note(train: Records) -> str:
    """Describes the source of the lung masks and the lung that they leave visible."""
    if train.lung_masks is not None:
        return "Lung fields as the program drew them; none of the lung stays visible without them."
    held_out = lungs.facts()["held_out"]
    visible = held_out["visible"]
    return (
        "Lung fields are predicted by a small network (trainer/data/lungs.md). Where they are "
        f"painted over, a median of {visible['p50']:.1%} of the lung stays visible, and in one "
        f"image of twenty more than {visible['p95']:.1%}; measured on {visible['n']} radiographs "
        "whose lungs people have outlined, each by a network that was not trained on its patient. "
        "The outline itself stays visible; the row of the outline alone shows what it tells."
    )


def audit_beside_model(
    run: Run,
    splits: dict[str, Records],
    duplicates: NearDuplicates,
    tested: Predictions,
    seed: int = 0,
) -> Audit:
    """Trains the controls on a run's data and compares the model with them.

    Args:
      run: the run; audit/ is written to its workdir.
      splits: train and test, with the groups of the data set.
      duplicates: the near-duplicates of the set.
      tested: the model's predictions on test, in the order of `splits["test"]`.
      seed: of the controls.
    """
    data = run.data
    dataset = AuditedSet(
        splits, data.class_names, data.positive_class, duplicates, data.synthetic, data.unreadable
    )
    audit = data_audit.audit_dataset(dataset, seed)
    no_lung = {
        control.name: control.predictions for control in audit.controls if control.kind == "no_lung"
    }
    # Controls are scored with merged groups; the model's predictions bring their own.
    compared = _compare(tested, no_lung)
    facts = audit.facts | {
        "comparison": compared,
        "lines": [*audit.facts["lines"], compared["sentence"]],
    }
    audit = dataclasses.replace(audit, facts=facts)
    data_audit.write(run.workdir.path / "audit", audit, plain(metrics.roc_auc(tested)))
    return audit


def _compare(tested: Predictions, no_lung: dict[str, Predictions]) -> dict[str, Any]:
    """Compares a model with its controls, of several findings each by itself.

    Returns:
      The fields of `comparison.ControlComparison`, sentence, and warns: whether the controls may
      explain the score. Of findings these are of the one that fares worst, beside finding (its
      name) and findings (name → fields).
    """
    if not tested.multi_label:
        compared = comparison.compare_with_controls(tested, no_lung)
        low = compared.difference.low
        sentence = comparison.describe(compared)
        return {**plain(compared), "sentence": sentence, "warns": low is None or low <= 0}
    by_finding = comparison.compare_findings(tested, no_lung)
    worst = comparison.worst_finding(by_finding)
    shown = by_finding[worst or tested.class_names[0]]
    lows = [each.difference.low for each in by_finding.values()]
    return {
        **plain(shown),
        "finding": worst,
        "findings": {name: plain(each) for name, each in by_finding.items()},
        "sentence": comparison.describe_findings(by_finding),
        "warns": any(low is None or low <= 0 for low in lows),
    }


def _read_files(config: TrainConfig) -> AuditedSet:
    """Reads the radiographs from their folder, so that unreadable files are listed."""
    # The module of the folder in datasets/ that --dataset names.
    source = prepared.find_source(config)
    for line in [source.summary, *source.remarks]:
        print(line, flush=True)
    splits = {}
    unreadable: list[str] = []
    for split, entries in source.splits.items():
        splits[split], damaged = records.from_folder(
            entries, source.class_names, radiograph.STANDARD_SIDE
        )
        unreadable += damaged
    return AuditedSet(
        splits,
        source.class_names,
        source.positive_class,
        _NOT_SEARCHED,
        unreadable=tuple(unreadable),
    )


def _read_prepared(config: TrainConfig, search: bool) -> AuditedSet:
    data = prepared.open_from_config(config)
    print(data.reason, flush=True)
    # Without masks: neither the controls nor the search use them.
    splits = {
        split: records.read(data.builder, split, masks=False).whole_radiographs()
        for split in _SPLITS
    }
    duplicates = _NOT_SEARCHED
    # Without further folders the search of the set is stored beside it and serves every run.
    if search:
        duplicates = near_duplicates.find_in_dataset(data, thorough=True)
    return AuditedSet(
        splits, data.class_names, data.positive_class, duplicates, data.synthetic, data.unreadable
    )


def _with_folders(dataset: AuditedSet, folders: tuple[str, ...]) -> AuditedSet:
    """Adds further folders to the search for near-duplicates."""
    splits = dict(dataset.splits)
    unreadable = list(dataset.unreadable)
    for folder in folders:
        entries = image_folder.find_loose(Path(folder).expanduser())
        # Their classes are unknown: every entry has the label "".
        splits[f"also:{folder}"], damaged = records.from_folder(
            entries, ("",), radiograph.STANDARD_SIDE
        )
        unreadable += damaged
    return dataclasses.replace(dataset, splits=splits, unreadable=tuple(unreadable))


def _output_folder(output: str | None) -> Path:
    """Creates the folder of an audit; None for the next free number under audits/."""
    numbered = (Path("audits") / f"{number:03d}" for number in itertools.count(1))
    free = (path for path in numbered if not path.exists())
    folder = Path(output).expanduser() if output else next(free)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror}); give another --output."
        ) from error
    # Only a folder with an earlier audit may be written over.
    if any(folder.iterdir()) and not (folder / "audit.json").exists():
        raise UserError(
            f"{folder} holds other files and no audit.json; give a new or empty folder as --output."
        )
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write to {folder}; give another --output.")
    return folder
