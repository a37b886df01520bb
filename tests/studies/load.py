"""Measures the page under load: latency, a hundred clients at once, memory over thousands of requests.

python -m tests.studies.load --workdir=RUN [--clients=100] [--seconds=60] [--requests=5000]

Starts the page as a process of its own on 127.0.0.1 and asks its /classify endpoint for drawn films whose answers are known
from the export. Every answer is compared; refusals may only say that the page is busy.
"""

import argparse
import asyncio
import collections
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from demo import answers
from tests.conftest import ROOT
from trainer.data import phantom

FILMS = 12
TOLERANCE = 1e-4


def films() -> dict[str, bytes]:
    """JPEGs by name: twelve of 390 pixels, and one of 2,500 by 2,000."""
    found = {}
    for index in range(FILMS + 1):
        image = Image.fromarray(phantom.draw(3, index, index % 2).image)
        size = (390, 390) if index < FILMS else (2500, 2000)
        stream = io.BytesIO()
        image.resize(size).save(stream, "JPEG", quality=92)
        found[f"film{index}.jpg" if index < FILMS else "large.jpg"] = stream.getvalue()
    return found


def in_process(served: answers.Served, path: Path, repeats: int) -> float:
    """The median time in ms from a file on disk to its answer and the map laid over it."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        seen = answers.see(served, path)
        answers.overlay(
            seen.square,
            np.zeros_like(seen.square, np.float32) if seen.evidence is None else seen.evidence,
            0.6,
        )
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def start(workdir: Path, cache: str) -> tuple[subprocess.Popen, str, float]:
    """The page's process, its address, and the seconds until it printed it."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.app", f"--workdir={workdir.resolve()}", f"--port={port}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "GRADIO_TEMP_DIR": cache},
    )
    for line in process.stdout:
        if "is served at" in line:
            return process, re.search(r"http://\S+?/", line)[0], time.perf_counter() - started
    raise SystemExit("the page did not start")


async def ask(client: httpx.AsyncClient, session: str, name: str, data: bytes) -> dict | str:
    """The answer as JSON, or the words it was refused with. The file is uploaded each time."""
    sent = await client.post("gradio_api/upload", files={"files": (name, data)})
    if not sent.is_success:
        return f"{sent.status_code} {sent.text}"
    body = {
        "data": [{"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}],
        "session_hash": session,
    }
    called = await client.post("gradio_api/call/classify", json=body)
    if not called.is_success:
        return called.json().get("detail", called.text)
    text = (await client.get(f"gradio_api/call/classify/{called.json()['event_id']}")).text
    event = re.search(r"event: (complete|error)\ndata: (.*)", text)
    if event is None:
        return f"no answer: {text}"
    said = json.loads(event[2])
    return said[0] if event[1] == "complete" else str((said or {}).get("error"))


def judged(found: dict | str, expected: dict) -> str:
    """right, busy, or what was wrong."""
    if isinstance(found, str):
        return "busy" if found.startswith("busy") else f"refused with other words: {found}"
    same = found["verdict"] == expected["verdict"] and (
        found["probabilities"] is None
        or all(
            abs(found["probabilities"][name] - value) <= TOLERANCE
            for name, value in expected["probabilities"].items()
        )
    )
    return "right" if same else f"wrong: {found} instead of {expected}"


async def crowd(
    address: str, wanted: dict[str, bytes], expected: dict, clients: int, until, label: str
) -> collections.Counter:
    """Lets clients ask without pause until `until(answers)` says so; counts the judgements and notes the times."""
    counts: collections.Counter = collections.Counter()
    times: list[float] = []
    names = sorted(wanted)

    async def one(number: int, client: httpx.AsyncClient) -> None:
        asked = number
        while not until(counts["right"]):
            name, started = names[asked % len(names)], time.perf_counter()
            try:
                found = await ask(client, f"{label}{number}s{asked // 40}", name, wanted[name])
            except httpx.HTTPError as error:
                found = type(error).__name__
            verdict = judged(found, expected[name])
            counts[verdict] += 1
            asked += 1
            times.append(time.perf_counter() - started)
            if verdict == "busy":
                await asyncio.sleep(1.0)

    limits = httpx.Limits(
        max_connections=clients * 2, keepalive_expiry=1.0
    )  # The server ends idle connections after 5 s.
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        await asyncio.gather(*(one(number, client) for number in range(clients)))
    counts["median ms"] = round(1e3 * statistics.median(times))
    return counts


def resident(process: subprocess.Popen) -> float:
    """The resident memory of the page in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--requests", type=int, default=5000)
    asked = parser.parse_args()
    pictures, served = films(), answers.open_run(asked.workdir)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in pictures}
        for name, path in paths.items():
            path.write_bytes(pictures[name])
        expected = {
            name: answers.as_json(served, answers.see(served, path)) for name, path in paths.items()
        }
        print(
            "in the process, file to answer and map: 390 px "
            f"{in_process(served, paths['film0.jpg'], 40):.0f} ms, 2,500 x 2,000 "
            f"{in_process(served, paths['large.jpg'], 20):.0f} ms",
            flush=True,
        )
        process, address, seconds = start(asked.workdir, str(Path(folder) / "cache"))
        try:
            print(f"started in {seconds:.1f} s", flush=True)
            for name in ("film0.jpg", "large.jpg"):
                alone = asyncio.run(
                    crowd(
                        address, {name: pictures[name]}, expected, 1, lambda done: done >= 30, name
                    )
                )
                print(f"one client over HTTP, {name}: {dict(alone)}", flush=True)
            small = {name: data for name, data in pictures.items() if name != "large.jpg"}
            end = time.monotonic() + asked.seconds
            many = asyncio.run(
                crowd(
                    address,
                    small,
                    expected,
                    asked.clients,
                    lambda done: time.monotonic() > end,
                    "crowd",
                )
            )
            print(f"{asked.clients} clients for {asked.seconds:.0f} s: {dict(many)}", flush=True)
            before = resident(process)
            rest = asyncio.run(
                crowd(address, small, expected, 8, lambda done: done >= asked.requests, "memory")
            )
            print(
                f"memory: {before:.0f} MB, after {rest['right']} more answers "
                f"{resident(process):.0f} MB; {dict(rest)}"
            )
        finally:
            process.terminate()
            process.communicate(timeout=60)


if __name__ == "__main__":
    main()
