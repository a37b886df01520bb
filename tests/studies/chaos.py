"""Kills and restarts training runs and compares them with one left alone.

    python -m tests.studies.chaos [--kills=20]
    python -m tests.studies.chaos --workers=2 --kills=5

Each trial ends a run with SIGKILL at a random moment and gives the same command again. Every
other kill waits for a checkpoint that is being written. Equal means: the same SHA-256 over all
final weights, and the same metrics.jsonl, so that no step is logged twice or missing. With two
workers one of them is killed. The other must end by itself with one clear line, and both are
started again.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.conftest import ROOT, TINY_COUNTS, write_set
from tests.studies import parse_arguments

SETTINGS = (
    "--dataset=covid_xray",
    "--model=compact",
    "--image_size=64",
    "--epochs=24",
    "--batch_size=8",
    "--checkpoint_every_steps=3",
    "--nogroup_copies",
)
HANG_SECONDS = 300.0  # After this time a process counts as hung.
NOTICE_SECONDS = 60.0  # Time a worker may take to notice that another is lost.

# Workdir → the moment in words once it is reached, before that an empty string.
Trigger = Callable[[Path], str]


def start(workdir: Path, data_dir: Path, workers: int, *flags: str) -> list[subprocess.Popen]:
    """Starts a run as one process, or as several workers on this machine.

    Args:
      workdir: of the run.
      data_dir: where the set is or will be prepared.
      workers: number of processes.
      *flags: of `trainer.main`, after those in SETTINGS.

    Returns:
      The processes, the chief first.
    """
    if workers == 1:
        return [start_worker(command(workdir, data_dir, *flags))]
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(workers)]
    worker_command = command(workdir, data_dir, "--strategy=multi_worker", *flags)
    return [start_worker(worker_command, addresses, index) for index in range(workers)]


def command(workdir: Path, data_dir: Path, *flags: str) -> list[str]:
    """Builds the command line of a run from SETTINGS and more flags."""
    return [
        sys.executable,
        "-m",
        "trainer.main",
        *SETTINGS,
        f"--data_dir={data_dir}",
        f"--workdir={workdir}",
        *flags,
    ]


def start_worker(
    command: list[str], addresses: Sequence[str] = (), index: int = 0
) -> subprocess.Popen:
    """Starts a command as a single process or one worker of a cluster.

    Args:
      command: program and arguments.
      addresses: host:port of every worker; empty for a single process.
      index: of this worker.
    """
    environment = dict(os.environ)
    if addresses:
        task = {"type": "worker", "index": index}
        cluster = {"cluster": {"worker": list(addresses)}, "task": task}
        environment["TF_CONFIG"] = json.dumps(cluster)
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: list[subprocess.Popen]) -> None:
    """Waits until all processes have ended with status 0.

    Raises:
      AssertionError: one ended with another status.
    """
    try:
        for process in processes:
            _, errors = process.communicate(timeout=HANG_SECONDS)
            assert process.returncode == 0, errors[-3000:]
    finally:
        # A worker whose peer has failed would wait for it.
        for process in processes:
            process.kill()


def outcome(workdir: Path) -> tuple[str, str]:
    """Reads (SHA-256 of the final weights, text of metrics.jsonl) of a finished run."""
    metrics = json.loads((workdir / "metrics.json").read_text(encoding="utf-8"))
    return metrics["weights_sha256"], (workdir / "metrics.jsonl").read_text(encoding="utf-8")


def kill_once(
    workdir: Path,
    data_dir: Path,
    expected: tuple[str, str],
    trigger: Trigger,
    victim: int,
    workers: int,
) -> tuple[bool, str]:
    """Starts a run, kills one process, starts the run again and compares.

    Args:
      workdir: of the run; must not exist.
      data_dir: where the set is prepared.
      expected: `outcome` of the run left alone.
      trigger: chooses the moment of the kill.
      victim: index of the process that is killed.
      workers: number of processes.

    Returns:
      Whether the outcome is the expected one, and the moment of the kill in words.
    """
    survivors = start(workdir, data_dir, workers)
    killed = survivors.pop(victim)  # The others must end by themselves.
    moment = _wait([killed], workdir, trigger) or "it had ended"
    killed.kill()
    kill_time = time.monotonic()
    for process in survivors:
        _, errors = process.communicate(timeout=HANG_SECONDS)
        moment += f" (the other worker stopped after {time.monotonic() - kill_time:.0f} s)"
        assert process.returncode == 1, errors[-3000:]
        assert "another worker is lost" in errors, errors[-3000:]
    killed.communicate()
    # The same command resumes from the last whole checkpoint.
    finish(start(workdir, data_dir, workers))
    return outcome(workdir) == expected, moment


def kill_all(processes: list[subprocess.Popen], workdir: Path, trigger: Trigger) -> None:
    """Kills all processes of a run at the trigger's moment."""
    _wait(processes, workdir, trigger)
    for process in processes:
        process.kill()
        process.communicate()


def at_step(step: int) -> Trigger:
    """Builds a trigger for the moment when `step` steps are logged."""

    def trigger(workdir: Path) -> str:
        log = workdir / "metrics.jsonl"
        reached = log.exists() and _logged_steps(log.read_text(encoding="utf-8")) >= step
        return f"after step {step}" if reached else ""

    return trigger


def in_checkpoint(number: int) -> Trigger:
    """Builds a trigger for the moment when checkpoint `number` is being written."""
    seen: set[str] = set()  # Checkpoints observed while they were written.

    def trigger(workdir: Path) -> str:
        folder = workdir / "checkpoints"
        names = {path.name.split(".")[0].split("_")[0] for path in folder.glob("*")}
        # The JSON file is written last: it seals the checkpoint.
        unsealed = {name for name in names if not (folder / f"{name}.json").exists()}
        seen.update(unsealed)
        writing = unsealed and len(seen) >= number
        return f"while {max(unsealed)} was written" if writing else ""

    return trigger


def run_trials(folder: Path, kills: int, workers: int, seed: int) -> Iterator[tuple[bool, str]]:
    """Runs once without a kill, then yields a result of `kill_once` each.

    Args:
      folder: an empty one, for the set and all runs.
      kills: number of trials.
      workers: number of processes of each run.
      seed: of the moments and the victims.
    """
    data_dir = folder / "data"
    write_set(folder / "set", TINY_COUNTS)
    undisturbed = folder / "undisturbed"
    # One process prepares the set, so that several workers find it ready.
    finish(start(undisturbed, data_dir, 1, f"--manual_dir={folder / 'set'}"))
    if workers > 1:
        undisturbed = folder / "undisturbed_workers"
        finish(start(undisturbed, data_dir, workers))
    expected = outcome(undisturbed)
    print(f"left alone: weights {expected[0][:16]}…", flush=True)
    steps = _logged_steps(expected[1])
    # The same seed kills at the same steps.
    draws = random.Random(seed)
    for number in range(kills):
        if number % 2:
            # There is a checkpoint every three steps.
            trigger = in_checkpoint(draws.randint(1, steps // 3))
        else:
            trigger = at_step(draws.randint(1, steps - 1))
        victim = draws.randrange(workers)
        yield kill_once(folder / f"run{number}", data_dir, expected, trigger, victim, workers)


def main() -> None:
    """Prints a line for each kill and the number of equal runs; exits with 1 if one differs."""
    args = parse_arguments(__doc__, kills=20, workers=1, seed=0)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for equal, moment in run_trials(Path(folder), args.kills, args.workers, args.seed):
            results.append(equal)
            verdict = "equal" if equal else "DIFFERENT"
            print(f"kill {len(results)}, {moment}: {verdict}", flush=True)
    print(f"{sum(results)} of {len(results)} equal")
    sys.exit(not all(results))


def _wait(processes: list[subprocess.Popen], workdir: Path, trigger: Trigger) -> str:
    """Waits for the trigger or the end of a process; returns the moment or an empty string."""
    while not (moment := trigger(workdir)) and all(each.poll() is None for each in processes):
        time.sleep(0.001)  # A small checkpoint takes a few milliseconds.
    return moment


def _logged_steps(log: str) -> int:
    # Lines of epochs hold "validation_loss", not "loss".
    return log.count('"loss"')


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        # All are open at once, so that no port is given twice.
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [server.getsockname()[1] for server in servers]


if __name__ == "__main__":
    main()
