"""Scores of a finished model on its own or external images.

python -m trainer.evaluate --workdir=runs/mine [--split=test] [--compare=runs/other]
python -m trainer.evaluate --workdir=runs/mine --manual_dir=OTHER_FOLDER
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis import comparison, metrics, predictions, refusal
from trainer.analysis.duplicates import NearDuplicates
from trainer.analysis.predictions import Predictions
from trainer.analysis.refusal import Refusal
from trainer.analysis.source_probe import Features
from trainer.config import TrainConfig
from trainer.data import records
from trainer.data.records import Records
from trainer.data.run import Run, open_finished
from trainer.errors import UserError
from trainer.evaluation import (
    audit,
    description,
    external_set,
    ledger,
    maps,
    recalibrate,
    report,
    saved_model,
    site_probe,
)
from trainer.evaluation.description import plain
from trainer.evaluation.evaluation_set import EvaluationSet, open_own, sample_remarks
from trainer.evaluation.result import SYNTHETIC_WARNING
from trainer.evaluation.saved_model import SavedModel
from trainer.workdir import write_json


def fit_refusal(run: Run, model: SavedModel, train: Records) -> None:
    """Fits the refusal of pictures unlike train, and saves it beside the model.

    Args:
      run: the run that trained the model.
      model: as saved in the workdir.
      train: the training split, with near-duplicates merged into one group.
    """
    _, features = model.predict(train.images)  # [n, channels]
    fitted = refusal.fit(train.images, features, train.groups, run.config.seed)
    fitted.save(run.workdir.model / "refusal.npz")


def evaluate_trained(
    run: Run,
    model: SavedModel,
    splits: dict[str, Records],
    duplicates: NearDuplicates,
    weights_sha256: str,
) -> dict[str, Any]:
    """Scores test beside its controls and records the scoring.

    Args:
      run: the run that trained the model.
      model: as saved in the workdir, with its refusal.
      splits: train and test, with the groups of the data set.
      duplicates: the near-duplicates of the data set.
      weights_sha256: for the ledger.

    Returns:
      Entries of metrics.json: controls, comparison, near_duplicates, ledger.
    """
    test = duplicates.merge_records(splits["test"])
    evaluation_set = EvaluationSet("test", test, sample_remarks(splits["test"]))
    tested, _ = score(run, model, evaluation_set, saved_model.load_refusal(run.workdir.path))
    # The audit merges groups itself, after it has counted pairs between the set's patients.
    wholes = {name: images.whole_radiographs() for name, images in splits.items()}
    facts = audit.audit_beside_model(run, wholes, duplicates, tested).facts
    counts = facts["near_duplicates"]
    return {
        "controls": {
            control["name"]: {key: control[key] for key in ("kind", "accuracy", "roc_auc")}
            for control in facts["controls"]
        },
        "comparison": facts["comparison"],
        # Without the texts for the screen and the report.
        "near_duplicates": {
            key: value for key, value in counts.items() if key not in ("lines", "warning")
        },
        "ledger": record_scoring(run, splits["test"], tested, weights_sha256),
    }


def evaluate(
    path: str,
    split_name: str = "test",
    manual_dirs: Sequence[str] = (),
    data_dir: str | None = None,
    compare: str | None = None,
    calibrate_on: int = 0,
    reading: TrainConfig | None = None,
) -> str:
    """Scores a finished run, writes WORKDIR/evaluation/NAME/ and the report.

    Args:
      path: the workdir.
      split_name: test or validation, of the run's own data.
      manual_dirs: other sets to score instead (external validation).
      data_dir: folder of the prepared sets, if it moved since training.
      compare: another workdir, to compare with on the same images.
      calibrate_on: number of external images to fit temperature and threshold to; the others are
        scored before and after, in recalibrated.json.
      reading: its settings on how a folder is read count, for `manual_dirs`; by default none.

    Returns:
      The lines for the screen.

    Raises:
      UserError: the model or the data set is missing, or no image is left to score.
    """
    run = open_finished(Path(path), data_dir)
    # Loaded first: a missing model is an error before minutes of scoring.
    model = saved_model.load(run.workdir.path)
    other = _load_other(compare, model) if compare else None
    fitted = saved_model.load_refusal(run.workdir.path)
    sets: Iterable[EvaluationSet] = ()
    if manual_dirs:
        # One at a time: each takes as much memory as a data set.
        sets = (
            EvaluationSet(*external_set.open_external(folder, run.data, reading or TrainConfig()))
            for folder in manual_dirs
        )
    else:
        sets = [open_own(run, split_name)]
    lines = []
    own = _own_features(run, model) if manual_dirs else None
    for evaluation_set in sets:
        scored, features = score(run, model, evaluation_set, fitted)
        lines += [*evaluation_set.remarks, *_score_lines(run, scored)]
        # Only test is counted: the ledger guards the split that results are reported on.
        if evaluation_set.name == "test":
            lines += _count_scoring(run, evaluation_set, scored)
        folder = _folder(run, evaluation_set)
        if own is not None:
            lines += site_probe.measure(folder, own, scored, features)
        if manual_dirs and calibrate_on:
            recalibrated = recalibrate.recalibrate(scored, calibrate_on, run.config.seed)
            write_json(folder / "recalibrated.json", recalibrated)
            lines += recalibrate.lines(recalibrated)
        if other and compare:
            lines += _compare(folder, scored, other, str(Path(compare)), evaluation_set.records)
        lines.append(f"written to {folder}")
    report.write(run.workdir)
    return "\n".join([*lines, f"report: {run.workdir.path / 'report.html'}"])


def score(
    run: Run, model: SavedModel, evaluation_set: EvaluationSet, fitted: Refusal | None
) -> tuple[Predictions, np.ndarray]:
    """Scores a model on images; writes evaluation.json, predictions.csv and figures.

    Args:
      run: the run of the model; an earlier evaluation of the same name is replaced.
      model: the saved model.
      evaluation_set: the images.
      fitted: the model's refusal; None without one.

    Returns:
      (predictions, features [n, channels]).
    """
    folder = _folder(run, evaluation_set)
    folder.mkdir(parents=True, exist_ok=True)
    images = evaluation_set.records
    title = f"{run.title}, {evaluation_set.name}"
    probabilities, features = model.predict(images.images)  # [n, classes], [n, channels]
    scored = Predictions(
        images.filenames,
        images.groups,
        images.labels,
        probabilities,
        tuple(model.facts["class_names"]),  # In the order of the network's outputs.
        model.facts["positive_class"],
    )
    content = {"title": title, "remarks": list(evaluation_set.remarks)}
    content |= description.describe(scored, model.facts, images.columns, folder, title)
    content |= description.describe_refusal(scored, images.images, features, fitted, folder, title)
    content |= maps.measure_maps(model, images, scored, folder, title)
    predictions.write(folder / "predictions.csv", scored)
    write_json(folder / "evaluation.json", content)
    return scored, features


def _own_features(run: Run, model: SavedModel) -> Features:
    """Computes the features of the run's own test split."""
    test = records.read(run.data.builder, "test", masks=False)
    return Features(model.predict(test.images)[1], test.labels, test.groups)


def record_scoring(
    run: Run, images: Records, scored: Predictions, weights_sha256: str
) -> dict[str, Any]:
    """Appends a scoring of test to the ledger in data_dir.

    Returns:
      fingerprint of the split, count of its scorings, warning (empty if the ledger was written).
    """
    scores = metrics.scores(scored)
    # Of the images as prepared, so that all runs on this split share one count.
    fingerprint = ledger.fingerprint(images.images, images.labels)
    line = ledger.entry(
        command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        workdir=str(run.workdir.path),
        weights_sha256=weights_sha256,
        split="test",
        n=len(scored),
        accuracy=scores["accuracy"],
        roc_auc=scores["roc_auc"],
    )
    warning = ledger.append(run.data.data_dir, fingerprint, line)
    count = ledger.count(run.data.data_dir, fingerprint)
    return {"fingerprint": fingerprint, "count": count, "warning": warning}


def _count_scoring(run: Run, test: EvaluationSet, scored: Predictions) -> list[str]:
    """Records a scoring of test and says how many there have been."""
    weights_sha256 = run.workdir.metrics().get("weights_sha256", "")
    scoring = record_scoring(run, test.records, scored, weights_sha256)
    line = (
        f"This test split has been scored {scoring['count']} times by runs that share its data_dir."
    )
    return [line, scoring["warning"]] if scoring["warning"] else [line]


def _folder(run: Run, evaluation_set: EvaluationSet) -> Path:
    return run.workdir.path / "evaluation" / evaluation_set.name


def _score_lines(run: Run, scored: Predictions) -> list[str]:
    """Returns one line a score."""
    lines = [SYNTHETIC_WARNING] if run.data.synthetic else []
    lines.append(
        f"{len(scored)} images of {len(np.unique(scored.groups))} groups (patients or clusters of "
        "copies); 95 % intervals:"
    )
    scores = metrics.scores(scored, detailed=True)
    width = max(18, *map(len, scores))
    lines += [f"  {name:{width}s} {estimate}" for name, estimate in scores.items()]
    return lines


def _load_other(path: str, model: SavedModel) -> SavedModel:
    """Loads the run to compare with and checks its classes and squares."""
    other = saved_model.load(Path(path))
    names = other.facts["class_names"]
    if names != model.facts["class_names"]:
        raise UserError(
            f"{path} has other classes ({', '.join(names)}); compare runs on the same classes."
        )
    if other.square != model.square:
        raise UserError(
            f"{path} sees squares {other.square}, and this run {model.square}; compare runs of one "
            "--prepared_side and --view."
        )
    return other


def _compare(
    folder: Path, scored: Predictions, other: SavedModel, other_path: str, images: Records
) -> list[str]:
    """Scores another run on the same images and writes comparison.json."""
    probabilities, _ = other.predict(images.images)
    other_scored = scored.with_probabilities(probabilities)
    mcnemar = comparison.mcnemar(scored, other_scored)
    difference = comparison.auc_difference(scored, other_scored)
    content = {
        "other": other_path,
        "mcnemar": plain(mcnemar),
        "roc_auc_difference": plain(difference),
    }
    write_json(folder / "comparison.json", content)
    # Without a discordant image the test has no p-value.
    p_value = "no image tells them apart"
    if mcnemar.p_value is not None:
        p_value = f"exact McNemar p = {mcnemar.p_value:.3g}"
    return [
        (
            f"Compared with {other_path}: {mcnemar.only_first} images only this run gets right, "
            f"{mcnemar.only_second} only the other; {p_value}."
        ),
        f"ROC AUC, this run less the other: {difference}",
    ]
