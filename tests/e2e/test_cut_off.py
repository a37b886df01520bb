"""A run on two hosts stops without one and resumes with it.

The hosts are network namespaces of this machine.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TINY_COUNTS, prepare, read_log, write_set
from tests.studies import chaos

ADDRESSES = ("10.213.7.1", "10.213.7.2")


def ip(*arguments: str) -> None:
    """Runs iproute2's `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, ...]]:
    """Names of two namespaces at ADDRESSES, joined by a `cable`."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need Linux, root and iproute2")
    names = tuple(f"trainer{os.getpid()}{letter}" for letter in "ab")
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        _remove(names)  # The first may exist although the second failed.
        pytest.skip(f"network namespaces are not allowed here ({error.stderr.decode().strip()})")
    try:
        # A veth pair is a cable: each end lies in one namespace.
        peer = ("peer", "name", "cable", "netns", names[1])
        ip("link", "add", "cable", "netns", names[0], "type", "veth", *peer)
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield names
    finally:
        _remove(names)


def _remove(names: tuple[str, ...]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def start(hosts: tuple[str, ...], workdir: Path, data_dir: Path) -> list[subprocess.Popen]:
    """Starts one worker on each host."""
    workers = [f"{address}:2222" for address in ADDRESSES]
    command = chaos.command(workdir, data_dir, "--strategy=multi_worker")
    return [
        chaos.start_worker(["ip", "netns", "exec", name, *command], workers, index)
        for index, name in enumerate(hosts)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cut", "mend"),
    [
        (("link", "set", "cable", "down"), ("link", "set", "cable", "up")),
        # Packets still arrive at the second host, but its answers are dropped.
        (
            ("route", "add", "blackhole", ADDRESSES[0]),
            ("route", "delete", "blackhole", ADDRESSES[0]),
        ),
    ],
    ids=["cable pulled", "no answer"],
)
def test_run_stops_within_a_minute_of_a_lost_host_and_resumes_with_it(
    hosts: tuple[str, ...], cut: tuple[str, ...], mend: tuple[str, ...], tmp_path: Path
) -> None:
    write_set(tmp_path / "set", TINY_COUNTS)
    data_dir = prepare(tmp_path / "set", tmp_path / "data")
    workdir = tmp_path / "run"
    workers = start(hosts, workdir, data_dir)
    # In mid-run, after the first checkpoints.
    reached = chaos.at_step(20)
    while not reached(workdir):
        ended = [worker for worker in workers if worker.poll() is not None]
        assert not ended, [worker.communicate()[1][-2000:] for worker in ended]
        time.sleep(0.01)
    ip("-n", hosts[1], *cut)
    cut_time = time.monotonic()
    # Both must notice, the host that is cut off as well.
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        seconds = time.monotonic() - cut_time
        print(f"noticed after {seconds:.0f} s: {errors.strip().splitlines()[-1]}")
        assert worker.returncode == 1
        assert "another worker is lost" in errors
        assert "the run goes on" in errors
        assert seconds < chaos.NOTICE_SECONDS
    ip("-n", hosts[1], *mend)
    chaos.finish(start(hosts, workdir, data_dir))
    # No step is missing or logged twice.
    steps = [line["step"] for line in read_log(workdir) if "epoch" not in line]
    assert steps == list(range(1, len(steps) + 1))
    assert (workdir / "metrics.json").exists()
