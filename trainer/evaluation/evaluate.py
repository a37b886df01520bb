"""Scores a finished model on its own test split or on another hospital's images, with everything a reader must know.

python -m trainer.evaluate --workdir=runs/mine [--split=test] [--compare=runs/other]
python -m trainer.evaluate --workdir=runs/mine --manual_dir=OTHER_FOLDER
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer import workdir
from trainer.analysis import comparison, metrics, predictions, refusal
from trainer.analysis.predictions import Predictions
from trainer.analysis.refusal import Refusal
from trainer.config import TrainConfig
from trainer.data import records
from trainer.data.prepared import Prepared
from trainer.data.records import Records
from trainer.errors import UserError
from trainer.evaluation import (
    audit_run,
    description,
    external_set,
    ledger,
    maps,
    near_duplicates,
    report,
    saved_model,
)
from trainer.evaluation.near_duplicates import Copies
from trainer.evaluation.saved_model import SavedModel
from trainer.training import split
from trainer.workdir import Workdir


def of_finished_run(
    work: Workdir,
    data: Prepared,
    config: TrainConfig,
    model: SavedModel,
    known: Copies,
    weights_sha256: str,
) -> dict[str, Any]:
    """The end of a training run: refusal fitted, test described and audited beside its controls, the ledger written.

    Returns:
      What metrics.json holds of it: controls, comparison, near_duplicates, ledger.
    """
    parts = {name: records.read(data.builder, name) for name in ("train", "test")}
    train = known.joined(parts["train"])
    refusing = refusal.fit(train.images, model.predict(train.images)[1], train.groups, config.seed)
    refusing.save(work.model / "refusal.npz")
    remarks = [parts["test"].remark] if parts["test"].remark else []
    said = score(
        work.path / "evaluation" / "test",
        model,
        known.joined(parts["test"]),
        refusing,
        _title(data, config, "test"),
        remarks,
    )
    found = audit_run.beside_controls(work, data, parts, known, said).facts
    near = {
        key: value
        for key, value in found["near_duplicates"].items()
        if key not in ("lines", "warning")
    }
    return {
        "controls": {
            control["name"]: {key: control[key] for key in ("kind", "accuracy", "roc_auc")}
            for control in found["controls"]
        },
        "comparison": found["comparison"],
        "near_duplicates": near,
        "ledger": note(data, work, parts["test"], said, weights_sha256),
    }


def evaluate(
    path: str,
    wanted: str = "test",
    manual_dir: str | None = None,
    data_dir: str | None = None,
    compare: str | None = None,
) -> str:
    """Scores a finished run, writes WORKDIR/evaluation/NAME/ and the report, and returns the lines for the screen.

    Args:
      path: the workdir.
      wanted: test or validation, of the run's own data.
      manual_dir: another set to score it on instead (external validation).
      data_dir: where the run's data set is prepared, if not where it was.
      compare: another workdir, to compare with on the same images.

    Raises:
      UserError: no model, no data, or nothing left to score.
    """
    work = Workdir(Path(path))
    config, data = audit_run.open_finished(work, data_dir)
    other = Workdir(Path(compare)) if compare else None
    rival = saved_model.load(other.path) if other else None
    model = saved_model.load(work.path)
    known = near_duplicates.of_prepared(data, config.group_copies)
    if manual_dir:
        name, part, remarks = external_set.open_other(manual_dir, data)
    else:
        name, part, remarks = wanted, *_own(data, config, known, wanted)
    folder = work.path / "evaluation" / name
    said = score(folder, model, part, _refusing(work), _title(data, config, name), remarks)
    lines = [*remarks, *_lines(said, data)]
    if name == "test":
        noted = note(data, work, part, said, work.metrics().get("weights_sha256", ""))
        lines += [
            f"This test split has been scored {noted['count']} times by runs that share its "
            "data_dir."
        ]
        lines += [noted["warning"]] if noted["warning"] else []
    if rival:
        lines += _compared(folder, said, rival, other, part, data)
    report.write(work)
    return "\n".join([*lines, f"everything lies in {folder} and in {work.path / 'report.html'}"])


def score(
    folder: Path,
    model: SavedModel,
    part: Records,
    refusing: Refusal | None,
    title: str,
    remarks: Sequence[str] = (),
) -> Predictions:
    """Scores a model on records and writes evaluation.json, predictions.csv and figures into a folder.

    Args:
      folder: made if need be; an earlier evaluation in it is replaced.
      model: the saved model.
      part: the images, in groups that hold their copies.
      refusing: what it refuses.
      title: of the figures.
      remarks: what a reader must know of these images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probabilities, features = model.predict(part.images)
    said = Predictions(
        part.filenames, part.groups, part.labels, probabilities, tuple(model.facts["class_names"])
    )
    found = description.describe(
        said, features, part.images, part.columns, model.facts, refusing, folder, title
    )
    found |= maps.look(model, part, said, folder, title)
    predictions.write(folder / "predictions.csv", said)
    workdir.write_json(
        folder / "evaluation.json", {"title": title, "remarks": list(remarks), **found}
    )
    return said


def note(
    data: Prepared, work: Workdir, part: Records, said: Predictions, weights_sha256: str
) -> dict[str, Any]:
    """Appends this scoring of test to the ledger in data_dir and returns {"fingerprint", "count", "warning"}."""
    found = metrics.scores(
        said.labels, said.probabilities, said.groups, data.class_names, data.positive_class
    )
    fingerprint = ledger.fingerprint(part.images, part.labels)
    line = ledger.entry(
        " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        str(work.path),
        weights_sha256,
        "test",
        len(said),
        found["accuracy"],
        found["roc_auc"],
    )
    warning = ledger.append(data.data_dir, fingerprint, line)
    return {
        "fingerprint": fingerprint,
        "count": ledger.count(data.data_dir, fingerprint),
        "warning": warning,
    }


def _own(
    data: Prepared, config: TrainConfig, known: Copies, wanted: str
) -> tuple[Records, list[str]]:
    if wanted == "validation":
        train = known.joined(records.read(data.builder, "train"))
        held_out = split.parts(train.labels, train.groups, config)[1]
        if not len(held_out):
            raise UserError("this run held no validation part out; score it with --split=test.")
        return train.take(held_out), [
            "The validation part chose the weights: its scores are too good to be reported as a "
            "test."
        ]
    test = known.joined(records.read(data.builder, "test"))
    sampled = [test.remark] if test.remark else []
    copied = known.outside(test.filenames)  # The other split is train.
    if copied.all():
        raise UserError(
            "every test image copies a training image, so no test score can be given; score the "
            "run on other images with --manual_dir."
        )
    if copied.any():
        return test.take(~copied), [
            *sampled,
            f"{copied.sum()} of {len(test)} test images copy a training image and are left out "
            "here; metrics.json has the score of them all.",
        ]
    return test, sampled


def _refusing(work: Workdir) -> Refusal | None:
    path = work.model / "refusal.npz"
    return Refusal.load(path) if path.exists() else None


def _title(data: Prepared, config: TrainConfig, name: str) -> str:
    return (
        f"{config.model} on {data.name}"
        + (" (synthetic data)" if data.synthetic else "")
        + f", {name}"
    )


def _lines(said: Predictions, data: Prepared) -> list[str]:
    """The scores, one a line."""
    found = metrics.all_scores(
        said.labels, said.probabilities, said.groups, said.class_names, data.positive_class
    )
    head = []
    if data.synthetic:
        head = [
            "SYNTHETIC DATA: drawn, not radiographs of people; these scores say nothing about "
            "patients."
        ]
    return [
        *head,
        f"{len(said)} images of {len(np.unique(said.groups))} groups (patients or clusters of "
        "copies); 95 % intervals:",
        *(f"  {name:18s} {estimate}" for name, estimate in found.items()),
    ]


def _compared(
    folder: Path,
    said: Predictions,
    rival: SavedModel,
    other: Workdir,
    part: Records,
    data: Prepared,
) -> list[str]:
    """Scores another run on the same images, writes comparison.json and returns what it shows."""
    if rival.facts["class_names"] != list(said.class_names):
        raise UserError(
            f"{other.path} knows other classes ({', '.join(rival.facts['class_names'])}); compare "
            "runs on the same classes."
        )
    theirs, _ = rival.predict(part.images)
    test = comparison.mcnemar(said.labels, said.probabilities.argmax(axis=1), theirs.argmax(axis=1))
    difference = comparison.auc_difference(
        said.probabilities, theirs, said.labels, said.groups, said.class_names, data.positive_class
    )
    workdir.write_json(
        folder / "comparison.json",
        {
            "other": str(other.path),
            "mcnemar": description.plain(test),
            "roc_auc_difference": difference.to_dict(),
        },
    )
    p_value = (
        "no image tells them apart"
        if test.p_value is None
        else f"exact McNemar p = {test.p_value:.3g}"
    )
    return [
        f"Compared with {other.path}: {test.only_first} images only this run gets right, "
        f"{test.only_second} only the other; {p_value}.",
        f"ROC AUC, this run less the other: {difference}",
    ]
