"""Stage: what the loop spends besides its steps: waiting for input, checkpoints, metrics and progress; two logical devices."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tests.benchmark import our_side
from tests.benchmark.material import Material
from tests.benchmark.rows import Row, Spread, cpu_ratio, in_turns, quotients, seconds
from tests.benchmark.side import together
from trainer.config import TrainConfig
from trainer.training import checkpoint, divergence, summary
from trainer.workdir import Workdir

_EVERY = 100  # Steps between checkpoints.
_LATE = 100_000  # Steps noted before.
_MODEL = "default model, 16 x 500 x 500"


def measure(material: Material, quick: bool) -> Iterator[Row]:
    """Shares of a step of the default model on the set at hand."""
    rounds = 8 if quick else 40
    training = our_side.Training(TrainConfig())
    batches = training.dealt(material.train)
    for _ in range(3):
        training.step(next(batches))
    waits, steps = _taken(training, batches, rounds)
    yield _share(
        f"waiting for input, {_MODEL}",
        waits,
        [wait + step for wait, step in zip(waits, steps, strict=True)],
        0.02,
        "the share of the steps' whole time",
        whole=True,
    )
    with tempfile.TemporaryDirectory(prefix="benchmark_") as place:
        saving, noting = (
            _savings(training, Path(place), 3 if quick else 10),
            _notes(Path(place), 20 if quick else 100),
        )
    step = Spread.of(steps).median
    yield _share(
        f"checkpoint every {_EVERY} steps, {_MODEL}",
        saving,
        [_EVERY * step] * len(saving),
        0.02,
        "the share of 100 steps; written, summed, flushed to disk",
    )
    yield _share(
        f"metrics and progress, {_MODEL}", noting, [step] * len(noting), 0.01, "the share of a step"
    )
    with contextlib.ExitStack() as held:
        sides = together(
            held,
            *(("our_side:step", {"steps": 3, "logical_devices": devices}) for devices in (0, 2)),
        )
        alone, both = in_turns(3 if quick else 25, *sides)
    more = Spread.of([b / a - 1.0 for a, b in zip(alone, both, strict=True)])
    yield Row(
        f"two logical devices, {_MODEL}",
        "s",
        Spread.of(both),
        Spread.of(alone),
        "one device",
        more,
        0.10,
        at_most=True,
        cpu_ratio=cpu_ratio(both, alone),
        note="the share by which a step is longer",
    )


def _taken(
    training: our_side.Training, batches: Iterator, count: int
) -> tuple[list[float], list[float]]:
    waits, steps = [], []
    for _ in range(count):
        held: list = []
        waits.append(seconds(lambda held=held: held.append(next(batches))))
        steps.append(seconds(lambda held=held: [float(value) for value in training.step(held[0])]))
    return waits, steps


def _savings(training: our_side.Training, folder: Path, count: int) -> list[float]:
    checkpoints = checkpoint.Checkpoints(folder / "checkpoints", training.model, training.optimizer)
    return [seconds(lambda step=step: checkpoints.save(step)) for step in range(1, count + 1)]


def _notes(folder: Path, count: int) -> list[float]:
    """What the loop does after each step, late in a long run."""
    work, found = Workdir(folder), []
    history = [{"step": step, "loss": 0.5} for step in range(1, _LATE + 1)]
    with (
        summary.events(work).as_default(),
        tqdm(total=_LATE + count, initial=_LATE, file=io.StringIO()) as bar,
    ):
        for step in range(_LATE + 1, _LATE + 1 + count):

            def note(step: int = step) -> None:
                divergence.problem(
                    summary.losses(history, divergence.LOOKED_AT), 0.5, 1.0, 2, False
                )
                summary.note_step(work, bar, history, step, 0.5, 0.5, 1.0, 1e-3)

            found.append(seconds(note))
    return found


def _share(
    name: str, part: list[float], of: list[float], most: float, note: str, whole: bool = False
) -> Row:
    # Waiting is judged by its sum: one long wait in many short ones is what there is to find.
    shares = quotients(part, of)
    ratio = Spread(sum(part) / sum(of), shares.low, shares.high, shares.n) if whole else shares
    return Row(
        name, "s", Spread.of(part), Spread.of(of), "step time", ratio, most, at_most=True, note=note
    )
