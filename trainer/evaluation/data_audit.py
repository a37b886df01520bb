"""The audit of a data set: what is in it, what is in it twice, and what scores without seeing a lung.

Part of `python -m trainer.audit`; its quick part runs at the end of `trainer.main`.
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trainer import workdir
from trainer.analysis import controls, duplicates, figures
from trainer.analysis.controls import Control
from trainer.data.records import Records
from trainer.evaluation import inventory
from trainer.evaluation.near_duplicates import Copies

_CONTROLS = (
    "control",
    "kind",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "roc_auc",
    "roc_auc_low",
    "roc_auc_high",
    "n",
    "groups",
)
_PAIRS = (
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
class Audit:
    """What an audit found.

    Attributes:
      facts: plain values, as audit.json holds them: inventory, near_duplicates, controls, shortcuts, lines.
      controls: the controls, with what each said of the test images.
    """

    facts: dict[str, Any]
    controls: list[Control]

    def __str__(self) -> str:
        return "\n".join(self.facts["lines"])


def audit(
    parts: dict[str, Records],
    class_names: tuple[str, ...],
    positive_class: str | None,
    copies: Copies,
    synthetic: bool,
    unreadable: tuple[str, ...] = (),
    seed: int = 0,
) -> Audit:
    """Audits the splits `train` and `test` (further ones are only searched for copies).

    Args:
      parts: split → records, with the groups as the data set has them; copies are joined here.
      class_names: in label order.
      positive_class: the class that sensitivity speaks of; None with more than two.
      copies: the near-duplicates found.
      synthetic: whether the images are drawn.
      unreadable: one line for each file that could not be read.
      seed: of the controls.
    """
    scored = {name: copies.joined(parts[name]) for name in ("train", "test")}
    counted = inventory.take(scored, class_names, unreadable)
    found = controls.run(scored["train"], scored["test"], class_names, positive_class, seed)
    shortcuts = controls.shortcuts_found(found)
    near = near_duplicates(parts, copies)
    lines = ["SYNTHETIC DATA: drawn, not radiographs of people."] if synthetic else []
    lines += inventory.lines(counted) + near["lines"] + control_lines(found, shortcuts)
    return Audit(
        {
            "inventory": counted,
            "near_duplicates": near,
            "controls": [described(control) for control in found],
            "shortcuts": shortcuts,
            "synthetic": synthetic,
            "lines": lines,
        },
        found,
    )


def described(control: Control) -> dict[str, Any]:
    """A control as it stands in audit.json."""
    return {
        "name": control.name,
        "kind": control.kind,
        "what": control.what,
        "accuracy": control.accuracy.to_dict(),
        "roc_auc": control.roc_auc.to_dict(),
    }


def control_lines(found: list[Control], shortcuts: list[str]) -> list[str]:
    """One line a control for the screen, and one that names the shortcuts."""
    lines = [
        f"{control.kind.replace('_', ' ')} control, {control.name}: ROC AUC {control.roc_auc}  "
        f"accuracy {control.accuracy}"
        for control in found
    ]
    what = {control.name: control.what for control in found}
    if shortcuts:
        lines.append(
            "SHORTCUTS: the classes can be told apart without seeing a lung, by "
            + "; ".join(what[name] for name in shortcuts)
            + "."
        )
    elif any(control.roc_auc.value is None for control in found if control.kind == "no_lung"):
        lines.append(
            "Whether there is a shortcut cannot be said: a control without lungs could not be "
            "scored."
        )
    else:
        lines.append("No shortcut found: no control without lungs does better than chance.")
    return lines


def near_duplicates(parts: dict[str, Records], copies: Copies) -> dict[str, Any]:
    """The pairs of near-duplicates counted by where they lie, as JSON, with lines for the screen and a warning if need be."""
    rows = pair_rows(parts, copies)
    across = [row for row in rows if {row["first_split"], row["second_split"]} == {"train", "test"}]
    train, test = parts["train"], parts["test"]
    copied = int(copies.across(test.filenames, train.filenames).sum())
    shared = len(np.intersect1d(np.unique(train.groups), np.unique(test.groups)))
    elsewhere = sum(row["same_label"] == "" for row in rows)
    lines = (
        [copies.remark]
        if not rows
        else [
            f"{len(rows)} pairs of near-duplicates: {len(across)} across train and test, "
            f"{sum(row['same_group'] == 0 for row in rows)} between groups (patients) that "
            f"groups.csv tells apart, {sum(row['same_label'] == 0 for row in rows)} between classes"
            + (f", {elsewhere} with the folders searched besides" if elsewhere else "")
        ]
    )
    warning = None
    if copied or shared:
        warning = (
            f"WARNING: {copied} of {len(test)} test images copy a training image, and {shared} "
            "groups (patients) stand in both train and test: the test score is too good by what "
            "was learnt by heart."
        )
        lines.append(warning)
    return {
        "searched": copies.searched,
        "pairs": len(rows),
        "across": len(across),
        "test_images_copied_from_train": copied,
        "groups_in_both": shared,
        "warning": warning,
        "lines": lines,
    }


def pair_rows(parts: dict[str, Records], copies: Copies) -> list[dict[str, Any]]:
    """The pairs as rows of near_duplicates.csv; same_group compares the groups before copies joined them."""
    place = {
        name: (split, index)
        for split, part in parts.items()
        for index, name in enumerate(part.filenames)
    }
    rows = []
    for pair in copies.pairs:
        (first_split, first), (second_split, second) = place[pair.first], place[pair.second]
        ours, theirs = parts[first_split], parts[second_split]
        known = not {first_split, second_split} - {
            "train",
            "test",
        }  # Of other folders neither patients nor classes are known.
        rows.append(
            {
                "first": pair.first,
                "second": pair.second,
                "inliers": pair.inliers,
                "mirrored": int(pair.mirrored),
                "first_split": first_split,
                "second_split": second_split,
                "same_group": int(ours.groups[first] == theirs.groups[second]) if known else "",
                "same_label": int(ours.labels[first] == theirs.labels[second]) if known else "",
            }
        )
    return rows


def write(
    folder: Path,
    found: Audit,
    parts: dict[str, Records],
    copies: Copies,
    model: dict[str, Any] | None = None,
) -> None:
    """Writes audit.json, near_duplicates.csv and .png, controls.csv and .png into a folder.

    Args:
      folder: made if need be; files of an earlier audit are replaced.
      found, parts, copies: of the audit; `parts` with the groups as the data set has them.
      model: ROC AUC of a trained model (an estimate as a dict), drawn beside the controls.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = pair_rows(parts, copies)
    _write_csv(folder / "near_duplicates.csv", _PAIRS, [list(row.values()) for row in rows])
    _write_csv(
        folder / "controls.csv",
        _CONTROLS,
        [
            [
                control.name,
                control.kind,
                *(
                    getattr(estimate, bound)
                    for estimate in (control.accuracy, control.roc_auc)
                    for bound in ("value", "low", "high")
                ),
                control.accuracy.n,
                control.accuracy.groups,
            ]
            for control in found.controls
        ],
    )
    figures.controls(
        [described(control) for control in found.controls],
        model,
        folder / "controls.png",
        "What is told without a lung" + (" (synthetic data)" if found.facts["synthetic"] else ""),
    )
    if rows:
        names = np.concatenate([part.filenames for part in parts.values()])
        images = np.concatenate([part.images for part in parts.values()])
        place = {name: index for index, name in enumerate(names)}
        pairs = [
            duplicates.Pair(place[pair.first], place[pair.second], pair.inliers, pair.mirrored)
            for pair in copies.pairs
        ]
        duplicates.contact_sheet(
            images,
            names,
            pairs,
            folder / "near_duplicates.png",
            f"{len(pairs)} pairs of near-duplicates",
        )
    workdir.write_json(folder / "audit.json", found.facts)


def _write_csv(path: Path, header: tuple[str, ...], rows: list[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
