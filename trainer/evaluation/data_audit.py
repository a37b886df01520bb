"""The audit of a data set: its content, its near-duplicates and its controls.

    audit = audit_dataset(AuditedSet(splits, class_names, positive_class, near_duplicates))
    write(folder, audit)

A control is a classifier that sees no lung; `trainer.analysis.controls` trains them.
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis import controls, diagrams, figures
from trainer.analysis.controls import Control
from trainer.analysis.duplicates import NearDuplicates
from trainer.data import patients
from trainer.data.records import Records
from trainer.evaluation import inventory, sites
from trainer.evaluation.description import plain
from trainer.workdir import write_json

_SCORED_SPLITS = ("train", "test")  # Further splits are folders searched for copies.
_CLASSES = "the classes"  # What a shortcut tells, beside the names of findings.
_PAIR_COLUMNS = (
    "first",
    "second",
    "inliers",
    "mirrored",
    "first_split",
    "second_split",
    "same_group",
    "same_label",
)


@dataclasses.dataclass(frozen=True)
class AuditedSet:
    """A data set as an audit sees it.

    Attributes:
      splits: split name → records, with the groups of the data set; `train` and `test` are scored,
        further ones are only searched for near-duplicates.
      class_names: in label order.
      positive_class: the class that sensitivity speaks of; None with more than two.
      near_duplicates: of all splits.
      synthetic: whether the images are drawn.
      unreadable: one line for each unreadable file.
    """

    splits: dict[str, Records]
    class_names: tuple[str, ...]
    positive_class: str | None
    near_duplicates: NearDuplicates
    synthetic: bool = False
    unreadable: tuple[str, ...] = ()

    def merged(self) -> dict[str, Records]:
        """Returns train and test with near-duplicates merged into one group."""
        # Intervals over groups would be too narrow if copies counted as independent.
        return {
            name: self.near_duplicates.merge_records(self.splits[name]) for name in _SCORED_SPLITS
        }


@dataclasses.dataclass(frozen=True)
class Audit:
    """The results of an audit.

    Attributes:
      dataset: the audited set.
      controls: the controls, with their predictions on test.
      facts: the content of audit.json: inventory, sites, near_duplicates, controls, shortcuts (of
        findings by name), lines.
    """

    dataset: AuditedSet
    controls: list[Control]
    facts: dict[str, Any]


def audit_dataset(dataset: AuditedSet, seed: int = 0) -> Audit:
    """Counts a data set, lists its near-duplicates and trains the controls.

    Args:
      dataset: the set.
      seed: of the controls.
    """
    splits = dataset.merged()  # Controls are scored like the model, over merged groups.
    counts = inventory.count_images(splits, dataset.class_names, dataset.unreadable)
    trained = controls.run(
        splits["train"], splits["test"], dataset.class_names, dataset.positive_class, seed
    )
    multi_label = splits["test"].labels.ndim == 2
    if multi_label:
        shortcuts = controls.shortcuts_by_finding(trained)
    else:
        detected = controls.detected_shortcuts(trained)
        shortcuts = {_CLASSES: detected} if detected else {}
    near_duplicates = describe_near_duplicates(dataset)
    lines = ["SYNTHETIC DATA: drawn, not radiographs of people."] if dataset.synthetic else []
    lines += inventory.lines(counts)
    by_site = sites.count_by_class(splits, dataset.class_names)
    lines += sites.lines(by_site)
    lines += _patient_lines(dataset)
    lines += near_duplicates["lines"]
    lines += _control_lines(trained, shortcuts)
    facts = {
        "inventory": counts,
        "sites": by_site,
        "near_duplicates": near_duplicates,
        "controls": [
            {
                "name": control.name,
                "kind": control.kind,
                "what": control.what,
                "accuracy": plain(control.accuracy),
                "roc_auc": plain(control.roc_auc),
                **_by_finding(control),
            }
            for control in trained
        ],
        "shortcuts": shortcuts if multi_label else shortcuts.get(_CLASSES, []),
        "synthetic": dataset.synthetic,
        "lines": lines,
    }
    return Audit(dataset, trained, facts)


def _patient_lines(dataset: AuditedSet) -> list[str]:
    """Describes patients with very many images, or of several classes."""
    # Groups of the data set: merged ones are of several patients.
    scored = [dataset.splits[name] for name in _SCORED_SPLITS]
    labels = np.concatenate([records.labels for records in scored])
    return patients.check_sizes(
        np.concatenate([records.groups for records in scored]).tolist(),
        np.concatenate([records.filenames for records in scored]).tolist(),
        None if labels.ndim == 2 else labels.astype(str).tolist(),
    )


def describe_near_duplicates(dataset: AuditedSet) -> dict[str, Any]:
    """Counts the pairs of near-duplicates by split, group and class."""
    rows = pair_rows(dataset)
    train = dataset.splits["train"]
    test = dataset.splits["test"]
    across = sum({row["first_split"], row["second_split"]} == set(_SCORED_SPLITS) for row in rows)
    # Images, not pairs: one test image may copy several of train.
    copied = int(dataset.near_duplicates.across(test.filenames, train.filenames).sum())
    # By the groups of the data set: a patient in both splits needs no copied film.
    shared = len(np.intersect1d(train.groups, test.groups))
    # Without a pair, the message: none were found, or none were searched.
    line = dataset.near_duplicates.message
    if rows:
        # Empty, and so neither 0 nor 1, for pairs with a further folder.
        between_groups = sum(row["same_group"] == 0 for row in rows)
        between_classes = sum(row["same_label"] == 0 for row in rows)
        elsewhere = sum(row["same_label"] == "" for row in rows)
        line = (
            f"{len(rows)} pairs of near-duplicates: {across} across train and test, "
            f"{between_groups} between groups (patients) that the set tells apart, "
            f"{between_classes} between classes"
        )
        if elsewhere:
            line += f", {elsewhere} with the folders searched besides"
    # Pairs within a split make no score too good; these do.
    warning = None
    if copied or shared:
        warning = (
            f"WARNING: {copied} of {len(test)} test images copy a training image, and {shared} "
            "groups (patients) stand in both train and test: the test score is too good by what "
            "was learnt by heart."
        )
    return {
        "searched": dataset.near_duplicates.searched,
        "pairs": len(rows),
        "across": across,
        "test_images_copied_from_train": copied,
        "groups_in_both": shared,
        "warning": warning,
        "lines": [line, warning] if warning else [line],
    }


def pair_rows(dataset: AuditedSet) -> list[dict[str, Any]]:
    """Returns the pairs as rows of near_duplicates.csv.

    `same_group` compares the groups before near-duplicates merged them. It and `same_label` are
    empty for pairs with another folder, whose patients and classes are unknown.
    """
    # Filename → its split and position, since pairs name their images only.
    location = {
        name: (split, index)
        for split, records in dataset.splits.items()
        for index, name in enumerate(records.filenames)
    }
    rows = []
    for pair in dataset.near_duplicates.pairs:
        first_split, first_index = location[pair.first]
        second_split, second_index = location[pair.second]
        first = dataset.splits[first_split]
        second = dataset.splits[second_split]
        row = {
            "first": pair.first,
            "second": pair.second,
            "inliers": pair.inliers,
            "mirrored": int(pair.mirrored),
            "first_split": first_split,
            "second_split": second_split,
            "same_group": "",
            "same_label": "",
        }
        # As numbers, so that the CSV reads the same in every program.
        if {first_split, second_split} <= set(_SCORED_SPLITS):
            row["same_group"] = int(first.groups[first_index] == second.groups[second_index])
            labels = (first.labels[first_index], second.labels[second_index])
            row["same_label"] = int(np.array_equal(*labels))
        rows.append(row)
    return rows


def write(folder: Path, audit: Audit, model_auc: dict[str, Any] | None = None) -> None:
    """Writes audit.json, near_duplicates.csv, controls.csv and their figures into a folder.

    Args:
      folder: created if missing; files of an earlier audit are replaced.
      audit: the results.
      model_auc: ROC AUC of a trained model (an estimate as a dict), drawn beside the controls.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "near_duplicates.csv", _PAIR_COLUMNS, pair_rows(audit.dataset))
    rows = [
        {
            "control": control.name,
            "kind": control.kind,
            "accuracy": control.accuracy.value,
            "accuracy_low": control.accuracy.low,
            "accuracy_high": control.accuracy.high,
            "roc_auc": control.roc_auc.value,
            "roc_auc_low": control.roc_auc.low,
            "roc_auc_high": control.roc_auc.high,
            "n": control.accuracy.n,
            "groups": control.accuracy.groups,
        }
        for control in audit.controls
    ]
    _write_csv(folder / "controls.csv", tuple(rows[0]), rows)
    synthetic = " (synthetic data)" if audit.dataset.synthetic else ""
    diagrams.controls(
        audit.facts["controls"],
        model_auc,
        folder / "controls.png",
        f"Controls that see no lung{synthetic}",
    )
    pairs = audit.dataset.near_duplicates.pairs
    if pairs:  # A figure without a picture cannot be drawn.
        splits = audit.dataset.splits.values()
        figures.near_duplicates(
            np.concatenate([records.images for records in splits]),
            np.concatenate([records.filenames for records in splits]),
            pairs,
            folder / "near_duplicates.png",
            f"{len(pairs)} pairs of near-duplicates",
        )
    write_json(folder / "audit.json", audit.facts)  # Last: it marks the folder as an audit.


def _by_finding(control: Control) -> dict[str, Any]:
    """Returns the AUC of each finding for audit.json; nothing for classes."""
    if not control.predictions.multi_label:
        return {}
    names = control.predictions.class_names
    aucs = {name: control.finding(index).roc_auc for index, name in enumerate(names)}
    return {"findings": plain(aucs)}


def _control_lines(trained: list[Control], shortcuts: dict[str, list[str]]) -> list[str]:
    """Returns one line a control, and one that names the shortcuts."""
    lines = [
        f"{control.kind.replace('_', ' ')} control, {control.name}: ROC AUC {control.roc_auc}  "
        f"accuracy {control.accuracy}"
        for control in trained
    ]
    # Controls of weak sight see lungs, so they prove no shortcut.
    no_lung = [control for control in trained if control.kind == "no_lung"]
    if shortcuts:
        what = {control.name: control.what for control in trained}
        for label, names in shortcuts.items():
            seen = "; ".join(what[name] for name in names)
            lines.append(f"SHORTCUTS: {label} can be told apart without seeing a lung, by {seen}.")
    # A missing number is no proof of absence.
    elif any(control.roc_auc.value is None for control in no_lung):
        lines.append(
            "Whether there is a shortcut cannot be said: a control without lungs could not be "
            "scored."
        )
    else:
        lines.append("No shortcut found: no control without lungs does better than chance.")
    return lines


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
