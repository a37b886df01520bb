"""Takes every stage in turn, shows the table, writes the JSON and the pictures."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tests.benchmark import (
    answer,
    build,
    convolutions,
    growth,
    machine,
    material,
    overheads,
    pipeline,
    runs,
    start,
    step,
    table,
)
from tests.benchmark.rows import Row
from trainer.errors import UserError

STAGES = (
    "pipeline",
    "step",
    "convolutions",
    "overheads",
    "start",
    "answer",
    "build",
    "runs",
    "growth",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the command was asked.

    Attributes:
      output: the JSON; the pictures go beside it.
      quick: fewer images and rounds.
      only: stages; empty for all.
      data_dir, manual_dir: the set, as for trainer.main.
      recorded: the folder of recorded trainings; None: beside the output.
      train: whether trainings that are not recorded are run.
    """

    output: str
    quick: bool = False
    only: tuple[str, ...] = ()
    data_dir: str | None = None
    manual_dir: str | None = None
    recorded: str | None = None
    train: bool = False


def measure(settings: Settings) -> str:
    """Measures and writes everything; returns the table.

    Raises:
      UserError: an unknown stage, no such data, or an output that cannot be written.
    """
    if unknown := [name for name in settings.only if name not in STAGES]:
        raise UserError(f"--only={unknown[0]}: choose among {', '.join(STAGES)}.")
    output = Path(settings.output).expanduser()
    _check_writable(output)
    found = {
        "rows": [],
        "growth": [],
        "machine": machine.describe(),
        "versions": machine.versions(),
        "quick": settings.quick,
        "seconds": {},
    }
    wanted = [name for name in STAGES if not settings.only or name in settings.only]
    rows: list[Row] = []
    curves: list[growth.Curve] = []
    with material.opened(settings.data_dir, settings.manual_dir, settings.quick) as held:
        found["dataset"] = {
            "name": held.data.name,
            "synthetic": held.data.synthetic,
            "training_images": len(held.train),
        }
        for name in tqdm(wanted, "measuring", unit=" stages", disable=None):
            begun = time.perf_counter()
            if name == "growth":
                curves = growth.measure(settings.quick)
            else:
                rows += _stage(name, settings, held, output)
            found["seconds"][name] = round(time.perf_counter() - begun, 1)
            found |= {
                "rows": [row.to_dict() for row in rows],
                "growth": [curve.to_dict() for curve in curves],
            }
            output.write_text(
                json.dumps(found, indent=2) + "\n"
            )  # After each stage: what was measured is kept.
    places = [str(output)]
    if rows:
        table.draw(rows, output.with_suffix(".png"))
        places.append(str(output.with_suffix(".png")))
    if curves:
        place = output.with_name(f"{output.stem}_growth.png")
        growth.draw(curves, place)
        places.append(str(place))
    return "\n".join(
        [
            table.shown(rows),
            *(
                f"{curve.name}: grows with {curve.along} to the power {curve.slope:.2f}"
                for curve in curves
            ),
            f"written: {', '.join(places)}",
        ]
    )


def _stage(name: str, settings: Settings, held: material.Material, output: Path) -> Iterator[Row]:
    quick = settings.quick
    if name in ("step", "convolutions", "start", "answer"):
        return {"step": step, "convolutions": convolutions, "start": start, "answer": answer}[
            name
        ].measure(quick)
    if name == "runs":
        folder = (
            Path(settings.recorded)
            if settings.recorded
            else output.with_name(f"{output.stem}_runs")
        )
        flags = [
            f"--dataset={held.data.name}",
            f"--data_dir={held.data.data_dir}",
            *([f"--manual_dir={settings.manual_dir}"] if settings.manual_dir else []),
        ]
        return runs.measure(folder, held, flags, settings.train)
    return {"pipeline": pipeline, "overheads": overheads, "build": build}[name].measure(held, quick)


def _check_writable(output: Path) -> None:
    try:
        output.touch()
    except OSError as error:
        raise UserError(
            f"cannot write {output} ({error.strerror}); give another --output."
        ) from error
