"""The page under load: latency, a hundred clients at once, memory over thousands of requests.

    python -m tests.studies.load --workdir=RUN [--clients=100] [--seconds=60] [--requests=5000]

Starts the page as a process on 127.0.0.1 and sends drawn films to its /classify endpoint. Each
answer is compared with the export's own. A request may be refused only because the page is busy.
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
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from demo import serving
from tests.conftest import ROOT
from tests.studies import parse_arguments
from trainer.data import phantom
from trainer.inference import overlay

SMALL_FILMS = 12
TOLERANCE = 1e-4  # Of a probability.
REQUESTS_PER_SESSION = 40  # The page allows 60 a minute to one session.


def draw_films() -> dict[str, bytes]:
    """Draws JPEG files: twelve of 390 x 390 pixels and one of 2,500 x 2,000; name → bytes."""
    films = {}
    for index in range(SMALL_FILMS + 1):
        if index < SMALL_FILMS:
            name = f"film{index}.jpg"
            size = (390, 390)
        else:
            name = "large.jpg"
            size = (2500, 2000)  # As large as a film from a scanner.
        image = Image.fromarray(phantom.draw(3, index, index % 2).image)
        stream = io.BytesIO()
        image.resize(size).save(stream, "JPEG", quality=92)
        films[name] = stream.getvalue()
    return films


def median_milliseconds(served: serving.Served, path: Path, repeats: int) -> float:
    """Measures the median time from file to answer and coloured map, in ms."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = serving.predict(served, path)
        evidence = result.evidence_on_film(None)
        if evidence is None:  # Refused: an empty map takes as long to colour.
            evidence = np.zeros_like(result.film, np.float32)
        overlay.overlay(result.film, evidence, 0.6)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def start_page(workdir: Path, cache: Path) -> tuple[subprocess.Popen, str]:
    """Starts the page on a free port and prints the time it takes.

    Args:
      workdir: of a finished run.
      cache: folder for Gradio's uploads.

    Returns:
      The process and the page's URL, which ends with a slash.

    Raises:
      SystemExit: the process ended before it printed a URL.
    """
    # Port 0: the system chooses a free one.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.app", f"--workdir={workdir.resolve()}", f"--port={port}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "GRADIO_TEMP_DIR": str(cache)},
    )
    assert process.stdout is not None  # It is a pipe.
    for line in process.stdout:
        match = re.search(r"is served at (http://\S+?/)", line)
        if match:
            print(f"started in {time.perf_counter() - started:.1f} s", flush=True)
            return process, match[1]
    raise SystemExit("the page did not start; run python -m demo.app by itself to see why.")


async def classify(client: httpx.AsyncClient, session: str, name: str, data: bytes) -> dict | str:
    """Uploads a file and asks for its class.

    Args:
      client: of the page.
      session: any name; the page allows each session a number of requests.
      name: of the file.
      data: its bytes.

    Returns:
      The answer as JSON, or the message with which the request was refused.
    """
    upload = await client.post("gradio_api/upload", files={"files": (name, data)})
    if not upload.is_success:
        return f"{upload.status_code} {upload.text}"
    # The protocol of Gradio's HTTP API: upload, call, read the event.
    body = {
        "data": [{"path": upload.json()[0], "meta": {"_type": "gradio.FileData"}}],
        "session_hash": session,
    }
    call = await client.post("gradio_api/call/classify", json=body)
    if not call.is_success:
        return call.json().get("detail", call.text)
    # Gradio sends the result as a stream of server-sent events.
    text = (await client.get(f"gradio_api/call/classify/{call.json()['event_id']}")).text
    event = re.search(r"event: (complete|error)\ndata: (.*)", text)
    if event is None:
        return f"no answer: {text}"
    content = json.loads(event[2])
    return content[0] if event[1] == "complete" else str((content or {}).get("error"))


def judge(answer: dict | str, expected: dict) -> str:
    """Compares an answer of the page with the export's; returns right, busy, or the difference."""
    if isinstance(answer, str):
        return "busy" if answer.startswith("busy") else f"refused with other words: {answer}"
    # A refused film has no probabilities.
    same = answer["verdict"] == expected["verdict"]
    if same and answer["probabilities"] is not None:
        same = all(
            abs(answer["probabilities"][name] - value) <= TOLERANCE
            for name, value in expected["probabilities"].items()
        )
    return "right" if same else f"wrong: {answer} instead of {expected}"


async def send_films(
    address: str,
    films: dict[str, bytes],
    expected: dict[str, dict],
    clients: int,
    until: Callable[[int], bool],
) -> dict[str, int]:
    """Lets several clients send films to the page without a pause.

    Args:
      address: of the page.
      films: name → JPEG bytes.
      expected: name → the answer as JSON.
      clients: number of them at once.
      until: number of right answers → whether to stop.

    Returns:
      Judgement → number of answers, and the median time of all as "median ms".
    """
    counts: collections.Counter[str] = collections.Counter()
    times: list[float] = []
    names = sorted(films)
    label = uuid.uuid4().hex  # New sessions: each may send only so many requests.

    async def run_client(number: int, client: httpx.AsyncClient) -> None:
        request = number  # Clients begin with different films.
        while not until(counts["right"]):
            name = names[request % len(names)]
            session = f"{label}{number}s{request // REQUESTS_PER_SESSION}"
            started = time.perf_counter()
            try:
                answer = await classify(client, session, name, films[name])
            except httpx.HTTPError as error:
                answer = type(error).__name__
            judgement = judge(answer, expected[name])
            counts[judgement] += 1
            request += 1
            times.append(time.perf_counter() - started)
            if judgement == "busy":
                await asyncio.sleep(1.0)  # A pause for the page.

    # The server ends idle connections after 5 s; the clients must drop them before.
    pool = httpx.Limits(max_connections=clients * 2, keepalive_expiry=1.0)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=pool) as client:
        await asyncio.gather(*(run_client(number, client) for number in range(clients)))
    counts["median ms"] = round(1e3 * statistics.median(times))
    return dict(counts)


def measure_page(
    process: subprocess.Popen,
    address: str,
    films: dict[str, bytes],
    expected: dict[str, dict],
    args: argparse.Namespace,
) -> None:
    """Prints the times of one client, of many, and the growth of memory.

    Args:
      process: of the page.
      address: of the page.
      films: name → JPEG bytes, among them large.jpg.
      expected: name → the answer as JSON.
      args: gives clients, seconds and requests.
    """

    def run(names: list[str], clients: int, until: Callable[[int], bool]) -> dict[str, int]:
        selected = {name: films[name] for name in names}
        return asyncio.run(send_films(address, selected, expected, clients, until))

    for name in ("film0.jpg", "large.jpg"):
        counts = run([name], 1, lambda right: right >= 30)
        print(f"one client over HTTP, {name}: {counts}", flush=True)
    small = [name for name in films if name != "large.jpg"]
    end = time.monotonic() + args.seconds
    counts = run(small, args.clients, lambda right: time.monotonic() > end)
    print(f"{args.clients} clients for {args.seconds:.0f} s: {counts}", flush=True)
    memory = psutil.Process(process.pid).memory_info
    before = memory().rss / 1024e3  # After the crowd: all caches are filled.
    counts = run(small, 8, lambda right: right >= args.requests)
    after = memory().rss / 1024e3
    print(f"memory: {before:.0f} MB, after {counts['right']} more answers {after:.0f} MB; {counts}")


def main() -> None:
    """Prints the measurements."""
    args = parse_arguments(__doc__, workdir=Path, clients=100, seconds=60.0, requests=5000)
    films = draw_films()
    served = serving.open_run(args.workdir)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        expected = {}
        for name, data in films.items():
            # The answers to expect come from the export, without the page.
            (folder / name).write_bytes(data)
            expected[name] = serving.as_json(served, serving.predict(served, folder / name))
        small = median_milliseconds(served, folder / "film0.jpg", 40)
        large = median_milliseconds(served, folder / "large.jpg", 20)
        print(
            "in the process, file to answer and map: "
            f"390 px {small:.0f} ms, 2,500 x 2,000 {large:.0f} ms",
            flush=True,
        )
        process, address = start_page(args.workdir, folder / "cache")
        try:
            measure_page(process, address, films, expected, args)
        finally:
            process.terminate()
            process.communicate(timeout=60)


if __name__ == "__main__":
    main()
