"""Stage: whole trainings, ours beside the reference recipe; from records of runs, or run now."""

import dataclasses
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmark import reference
from tests.benchmark.material import Material
from tests.benchmark.rows import Row, Spread, quotients
from trainer import workdir
from trainer.errors import UserError

_ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)
_REACHED = (0.89, 0.95)
_HOW = "no such runs in {folder}; train them: add --train (about an hour)"


@dataclasses.dataclass(frozen=True)
class Timed:
    """A recorded training.

    Attributes:
      seconds: of everything.
      epochs: (seconds since training began, validation accuracy) after each epoch.
    """

    seconds: float
    epochs: list[tuple[float, float]]

    def until(self, accuracy: float) -> float | None:
        """Seconds of training until validation accuracy first reached a value; None where it never did."""
        return next((seconds for seconds, found in self.epochs if found >= accuracy), None)


def measure(folder: Path, material: Material, flags: list[str], train: bool) -> Iterator[Row]:
    """Reads FOLDER/default, FOLDER/best_SEED and FOLDER/reference_SEED.

    Args:
      folder: of the records.
      material: what the reference is trained on.
      flags: that name the same data for trainer.main.
      train: whether runs that are not recorded are run now, ours and the reference's in turns.
    """
    if train:
        _run(folder, material, flags)
    references = [found for seed in SEEDS if (found := _of_reference(folder / f"reference_{seed}"))]
    best = [found for seed in SEEDS if (found := _of_workdir(folder / f"best_{seed}"))]
    for accuracy in _REACHED:
        yield _until(accuracy, best, references, folder)
    default = _of_workdir(folder / "default")
    yield _whole(default, references, folder)


def _until(accuracy: float, best: list[Timed], references: list[Timed], folder: Path) -> Row:
    name, against = (
        f"time to validation accuracy {accuracy}, flags/best.flags",
        "the reference recipe in plain Keras",
    )
    if not best or not references:
        return Row(name, "s", against=against, target=25.0, note=_HOW.format(folder=folder))
    ours, peer = ([run.until(accuracy) for run in runs] for runs in (best, references))
    missed = [
        f"{sum(value is None for value in values)} of {len(values)} runs of {who} never reached it"
        for who, values in (("ours", ours), ("the reference (its end is taken)", peer))
        if None in values
    ]
    # The median stands if fewer than half of ours never reached it. The reference's are counted as if they had at their end:
    # its time, and so the ratio, is then the least it can be.
    ours = [run.until(accuracy) or float("inf") for run in best]
    peer = [run.until(accuracy) or run.epochs[-1][0] for run in references]
    middle = statistics.median(ours), statistics.median(peer)
    shown = [
        Spread(
            value, min(values), max(found for found in values if found < float("inf")), len(values)
        )
        if value < float("inf")
        else None
        for value, values in zip(middle, (ours, peer), strict=True)
    ]
    ratio = middle[1] / middle[0] if max(middle) < float("inf") else None
    return Row(
        name,
        "s",
        shown[0],
        shown[1],
        against,
        ratio and Spread(ratio, ratio, ratio, len(ours)),
        25.0,
        note="; ".join(missed) or "medians of recorded runs, one after another",
    )


def _whole(default: Timed | None, references: list[Timed], folder: Path) -> Row:
    name, against = (
        "the default command, 13 epochs, whole process",
        "the reference recipe's 13 epochs in plain Keras",
    )
    if default is None or not references:
        return Row(name, "s", against=against, target=10.0, note=_HOW.format(folder=folder))
    whole, peer = [default.seconds] * len(references), [run.seconds for run in references]
    return Row(
        name,
        "s",
        Spread.of([default.seconds]),
        Spread.of(peer),
        against,
        quotients(peer, whole),
        10.0,
        note="ours with its audit, report and exports",
    )


def _of_workdir(path: Path) -> Timed | None:
    if not (path / "metrics.json").exists():
        return None
    work = workdir.Workdir(path, writes=False)
    found: dict[str, Any] = work.metrics()
    a_step = found["seconds"]["training"] / found["steps"]
    return Timed(
        found["seconds"]["total"],
        [
            (line["step"] * a_step, line["validation_accuracy"])
            for line in work.history()
            if "validation_accuracy" in line
        ],
    )


def _of_reference(path: Path) -> Timed | None:
    if not (path / reference.FILE).exists():
        return None
    found = workdir.read_json(path / reference.FILE)
    return Timed(
        found["seconds"],
        [(line["seconds"], line["validation_accuracy"]) for line in found["epochs"]],
    )


def _run(folder: Path, material: Material, flags: list[str]) -> None:
    best = [
        "--flagfile=flags/best.flags",
        "--validation_fraction=0.15",
        "--select=best",
    ]  # The preset validates nothing.
    for seed in SEEDS:
        if not (folder / f"reference_{seed}" / reference.FILE).exists():
            reference.train(material, folder / f"reference_{seed}", seed)
        _ours(folder / f"best_{seed}", [*flags, *best, f"--seed={seed}"])
    _ours(folder / "default", flags)


def _ours(path: Path, flags: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer.main", f"--workdir={path}", *flags],
        cwd=_ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(
            f"trainer.main failed ({done.stderr.strip().splitlines()[-1]}); try it by itself."
        )
