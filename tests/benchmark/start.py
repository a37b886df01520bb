"""Stage: how long a user waits for --help and for the first training step."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmark.rows import Row, Spread, seconds
from trainer.errors import UserError

_ROOT = Path(__file__).resolve().parents[2]
_FIRST = """
import time
from trainer import quiet
begun = time.perf_counter()
quiet.start_tensorflow()
started = time.perf_counter()
import tensorflow_datasets
from tests.benchmark import our_side
from trainer.config import TrainConfig
training = our_side.Training(TrainConfig())
batches = training.dealt(our_side.squares(64, training.config.image_size))
[float(value) for value in training.step(next(batches))]
print(started - begun, time.perf_counter() - started)
"""


def measure(quick: bool) -> Iterator[Row]:
    """New processes each time."""
    rounds = 1 if quick else 3
    shown = Spread.of(
        [seconds(lambda: _python("-m", "trainer.main", "--help")) for _ in range(rounds + 2)]
    )
    yield Row("trainer.main --help", "s", shown, ratio=shown, target=1.0, at_most=True)
    taken = [map(float, _python("-c", _FIRST).split()) for _ in range(rounds)]
    imported, first = (Spread.of(values) for values in zip(*taken, strict=True))
    yield Row(
        "first training step after import tensorflow, default model",
        "s",
        first,
        imported,
        "import tensorflow itself",
        first,
        5.0,
        at_most=True,
        note="the rest of the imports, the network, the step's graph and the first batch; the "
        "ratio is its seconds",
    )


def _python(*arguments: str) -> str:
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=quiet,
    )
    if "Traceback" in done.stderr:
        last = done.stderr.strip().splitlines()[-1]
        raise UserError(f"python {arguments[0]} failed ({last}); install anew: pip install -e .")
    return done.stdout.strip().rpartition("\n")[2]
