"""Kills runs with SIGKILL at random moments, gives the command again, and compares what comes out with a run left in peace.

python -m tests.studies.chaos [--kills=20]        python -m tests.studies.chaos --workers=2 --kills=5

Every other kill waits for a checkpoint that is being written. Equal means: the same SHA-256 over all final weights, and the
same metrics.jsonl, so that no step stands there twice or lacks. With two workers one of them is killed, the other must end by
itself with one clear line, and both are started again.
"""

import argparse
import dataclasses
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT, write_set

COUNTS = {
    ("Train", "covid"): 14,
    ("Train", "non_covid"): 12,
    ("Test", "covid"): 6,
    ("Test", "non_covid"): 8,
}
SETTINGS = (
    "--dataset=covid_xray",
    "--model=compact",
    "--image_size=64",
    "--epochs=24",
    "--batch_size=8",
    "--checkpoint_every_steps=3",
    "--nogroup_copies",
)
PATIENCE = 300.0  # Seconds after which a process counts as hung.
SURVIVOR = 60.0  # Seconds a worker may take to notice that another is gone.


@dataclasses.dataclass(frozen=True)
class Trial:
    """One kill: when it came, and whether what came out is equal."""

    when: str
    equal: bool
    seconds_to_notice: float | None = None


def start(workdir: Path, data_dir: Path, workers: int, *more: str) -> list[subprocess.Popen]:
    """Starts a run as one process, or as several workers on this machine."""
    if workers == 1:
        return [process(command(workdir, data_dir, *more), {})]
    places = [f"127.0.0.1:{port}" for port in _free_ports(workers)]
    return [
        process(
            command(workdir, data_dir, "--strategy=multi_worker", *more), as_worker(places, index)
        )
        for index in range(workers)
    ]


def command(workdir: Path, data_dir: Path, *more: str) -> list[str]:
    """The command of a run."""
    return [
        sys.executable,
        "-m",
        "trainer.main",
        *SETTINGS,
        f"--data_dir={data_dir}",
        f"--workdir={workdir}",
        *more,
    ]


def as_worker(places: list[str], index: int) -> dict[str, str]:
    """The environment of one of several workers at these places (host:port)."""
    return {
        "TF_CONFIG": json.dumps(
            {"cluster": {"worker": places}, "task": {"type": "worker", "index": index}}
        )
    }


def process(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    """Starts a command from the checkout's root; what it says is kept."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: list[subprocess.Popen]) -> None:
    """Waits for all to end well.

    Raises:
      AssertionError: one did not.
    """
    try:
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()


def outcome(workdir: Path) -> tuple[str, str]:
    """(SHA-256 of the final weights, the lines of metrics.jsonl) of a finished run."""
    return json.loads((workdir / "metrics.json").read_text())["weights_sha256"], (
        workdir / "metrics.jsonl"
    ).read_text()


def kill_once(
    workdir: Path,
    data_dir: Path,
    expected: tuple[str, str],
    when: Callable[[Path], str],
    victim: int,
    workers: int,
) -> Trial:
    """One trial: starts, kills process `victim` when `when` returns, starts again, and compares."""
    processes = start(workdir, data_dir, workers)
    said = ""
    while not (said := when(workdir)) and processes[victim].poll() is None:
        time.sleep(0.001)
    processes[victim].kill()
    killed, noticed = time.monotonic(), None
    for index, process in enumerate(processes):
        if index != victim:
            _, errors = process.communicate(timeout=PATIENCE)
            noticed = time.monotonic() - killed
            assert process.returncode == 1 and "another worker is lost" in errors, errors[-3000:]
    processes[victim].communicate()
    finish(start(workdir, data_dir, workers))
    return Trial(said or "it had ended", outcome(workdir) == expected, noticed)


def kill_all(processes: list[subprocess.Popen], workdir: Path, when: Callable[[Path], str]) -> None:
    """Kills all processes of a run when `when` returns."""
    while not when(workdir) and all(process.poll() is None for process in processes):
        time.sleep(0.001)
    for process in processes:
        process.kill()
        process.communicate()


def at_step(step: int) -> Callable[[Path], str]:
    """Says when that many steps are logged."""

    def when(workdir: Path) -> str:
        log = workdir / "metrics.jsonl"
        reached = (
            log.exists() and sum('"loss"' in line for line in log.read_text().splitlines()) >= step
        )
        return f"after step {step}" if reached else ""

    return when


def in_checkpoint(number: int) -> Callable[[Path], str]:
    """Says when the checkpoint of that number is being written: its files are there and its seal is not."""
    seen: set[str] = set()

    def when(workdir: Path) -> str:
        folder = workdir / "checkpoints"
        names = {
            name.split(".")[0].split("_")[0]
            for name in (os.listdir(folder) if folder.exists() else ())
        }
        unsealed = {name for name in names if not (folder / f"{name}.json").exists()}
        seen.update(unsealed)
        return f"while {max(unsealed)} was written" if unsealed and len(seen) >= number else ""

    return when


def main() -> None:
    """Prints a line for each kill, and how many were equal; exits with 1 where one was not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw, trials = random.Random(asked.seed), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_set(folder / "set", COUNTS)
        peace = folder / "peace"
        finish(start(peace, folder / "data", 1, f"--manual_dir={folder / 'set'}"))
        if asked.workers > 1:
            peace = folder / "peace_of_workers"
            finish(start(peace, folder / "data", asked.workers))
        expected = outcome(peace)
        steps = sum('"loss"' in line for line in expected[1].splitlines())
        for number in range(asked.kills):
            when = (
                in_checkpoint(draw.randint(1, steps // 3))
                if number % 2
                else at_step(draw.randint(1, steps - 1))
            )
            trials.append(
                kill_once(
                    folder / f"run{number}",
                    folder / "data",
                    expected,
                    when,
                    draw.randrange(asked.workers),
                    asked.workers,
                )
            )
            noticed = trials[-1].seconds_to_notice
            print(
                f"kill {number + 1}, {trials[-1].when}: "
                f"{'equal' if trials[-1].equal else 'DIFFERENT'}"
                + (
                    f"; the other worker stopped after {noticed:.0f} s"
                    if noticed is not None
                    else ""
                ),
                flush=True,
            )
    equal = sum(trial.equal for trial in trials)
    print(f"{equal} of {len(trials)} equal: {expected[0][:16]}…")
    sys.exit(equal != len(trials))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for trial in sockets:
        trial.bind(("127.0.0.1", 0))
    ports = [trial.getsockname()[1] for trial in sockets]
    for trial in sockets:
        trial.close()
    return ports


if __name__ == "__main__":
    main()
