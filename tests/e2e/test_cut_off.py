"""Two hosts (network namespaces): one is cut off in mid-run, both stop with a clear line, and go on once it is back."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import write_set
from tests.studies import chaos
from trainer.data import prepared

HOSTS = ("10.213.7.1", "10.213.7.2")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """The names of two namespaces that reach one another, at HOSTS, over a cable called `cable` in each."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need Linux, root and iproute2")
    names = tuple(f"trainer{os.getpid()}{letter}" for letter in "ab")
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        _remove(names)
        pytest.skip(f"network namespaces are not allowed here ({error.stderr.decode().strip()})")
    try:
        ip(
            "link",
            "add",
            "cable",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            names[1],
        )
        for name, host in zip(names, HOSTS, strict=True):
            ip("-n", name, "address", "add", f"{host}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield names
    finally:
        _remove(names)


def _remove(names: tuple[str, ...]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def start(hosts: tuple[str, ...], workdir: Path, data_dir: Path) -> list[subprocess.Popen]:
    places = [f"{host}:2222" for host in HOSTS]
    command = chaos.command(workdir, data_dir, "--strategy=multi_worker")
    return [
        chaos.process(["ip", "netns", "exec", name, *command], chaos.as_worker(places, index))
        for index, name in enumerate(hosts)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "cut, mend",
    [
        (("link", "set", "cable", "down"), ("link", "set", "cable", "up")),
        (("route", "add", "blackhole", HOSTS[0]), ("route", "delete", "blackhole", HOSTS[0])),
    ],
    ids=["the cable is pulled", "nothing comes back"],
)
def test_a_host_that_is_cut_off_ends_the_run_within_a_minute_and_it_goes_on_when_the_host_is_back(
    hosts, cut, mend, tmp_path
):
    write_set(tmp_path / "set", chaos.COUNTS)
    prepared.open_dataset(
        "covid_xray", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "set")
    )
    workdir = tmp_path / "run"
    workers = start(hosts, workdir, tmp_path / "data")
    reached = chaos.at_step(20)
    while not reached(workdir):
        assert all(worker.poll() is None for worker in workers), [
            worker.communicate()[1][-2000:] for worker in workers
        ]
        time.sleep(0.01)
    ip("-n", hosts[1], *cut)
    happened = time.monotonic()
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        noticed = time.monotonic() - happened
        print(f"noticed after {noticed:.0f} s: {errors.strip().splitlines()[-1]}")
        assert (
            worker.returncode == 1
            and "another worker is lost" in errors
            and "the run goes on" in errors
        )
        assert noticed < chaos.SURVIVOR
    ip("-n", hosts[1], *mend)
    chaos.finish(start(hosts, workdir, tmp_path / "data"))
    steps = [
        line["step"]
        for line in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        if "epoch" not in line
    ]
    assert steps == list(range(1, len(steps) + 1)) and (workdir / "metrics.json").exists()
