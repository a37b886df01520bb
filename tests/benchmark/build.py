"""Stage: images a second of the builder, beside decoding, resizing and encoding alone."""

import concurrent.futures
import contextlib
import functools
import io
import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmark import pillow_side
from tests.benchmark.material import SIDE, Material
from tests.benchmark.rows import Row, compared, in_turns, seconds
from trainer.data import prepared

_PROCESSES = 2


def measure(material: Material, quick: bool) -> Iterator[Row]:
    """The same files through both; the peer's processes are started beforehand."""
    count, rounds = (96, 2) if quick else (400, 3)
    with (
        tempfile.TemporaryDirectory(prefix="benchmark_") as place,
        concurrent.futures.ProcessPoolExecutor(
            _PROCESSES, multiprocessing.get_context("spawn")
        ) as pool,
    ):
        place = Path(place)
        names = sorted(material.files)
        folder = place / "files"
        few = names[:: max(1, len(names) // count)]
        material.link(few, folder / "Train")
        material.link(
            list({material.files[name].parent: name for name in few}.values()), folder / "Test"
        )  # It wants both.
        paths = [str(path.resolve()) for path in sorted(folder.rglob("*.*")) if path.is_file()]
        alone = functools.partial(pillow_side.squares, side=SIDE)
        parts = [paths[index::_PROCESSES] for index in range(_PROCESSES)]
        list(pool.map(alone, [part[:1] for part in parts]))
        _built(folder, place / "warm")
        numbers = iter(range(rounds))
        ours, peer = in_turns(
            rounds,
            lambda: len(paths) / seconds(lambda: _built(folder, place / f"data{next(numbers)}")),
            lambda: len(paths) / seconds(lambda: list(pool.map(alone, parts))),
        )
    yield compared(
        "builder, two threads",
        "images/s",
        ours,
        list(peer),
        "Pillow alone: decode, resize, PNG, two processes",
        0.8,
        note=f"{len(paths)} files, the builder's start, checks and records included",
    )


def _built(folder: Path, data_dir: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        prepared.open_dataset("covid_xray", data_dir=str(data_dir), manual_dir=str(folder))
