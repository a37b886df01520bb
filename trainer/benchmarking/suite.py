"""Takes every stage in turn, shows the table, writes the JSON and the pictures."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from trainer.benchmarking import (
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
from trainer.benchmarking.rows import Row
from trainer.errors import UserError

STAGES = ("pipeline", "step", "convolutions", "overheads", "start", "answer", "build", "runs", "growth")


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
    before = machine.describe()
    rows: list[Row] = []
    with material.opened(settings.data_dir, settings.manual_dir, settings.quick) as held:
        for name in tqdm([name for name in STAGES[:-1] if not settings.only or name in settings.only], "measuring",
                         unit=" stages", disable=None):
            rows += _stage(name, settings, held, output)
        images = {"name": held.data.name, "synthetic": held.data.synthetic, "training_images": len(held.train)}
    curves = growth.measure(settings.quick) if not settings.only or "growth" in settings.only else []
    found = {"rows": [row.to_dict() for row in rows], "growth": [curve.to_dict() for curve in curves], "machine": before,
             "versions": machine.versions(), "dataset": images, "quick": settings.quick}
    output.write_text(json.dumps(found, indent=2) + "\n")
    places = [str(output)]
    if rows:
        table.draw(rows, output.with_suffix(".png"))
        places.append(str(output.with_suffix(".png")))
    if curves:
        place = output.with_name(f"{output.stem}_growth.png")
        growth.draw(curves, place)
        places.append(str(place))
    return "\n".join([table.shown(rows), *(f"{curve.name}: grows with {curve.along} to the power {curve.slope:.2f}"
                                           for curve in curves), f"written: {', '.join(places)}"])


def _stage(name: str, settings: Settings, held: material.Material, output: Path) -> Iterator[Row]:
    quick = settings.quick
    if name in ("step", "convolutions", "start", "answer"):
        return {"step": step, "convolutions": convolutions, "start": start, "answer": answer}[name].measure(quick)
    if name == "runs":
        folder = Path(settings.recorded) if settings.recorded else output.with_name(f"{output.stem}_runs")
        flags = [f"--dataset={held.data.name}", f"--data_dir={held.data.data_dir}",
                 *([f"--manual_dir={settings.manual_dir}"] if settings.manual_dir else [])]
        return runs.measure(folder, held, flags, settings.train)
    return {"pipeline": pipeline, "overheads": overheads, "build": build}[name].measure(held, quick)


def _check_writable(output: Path) -> None:
    try:
        output.touch()
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); give another --output.") from error

