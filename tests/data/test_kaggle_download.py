"""Tests of the download from Kaggle, against a local server."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import run_command, write_set
from tests.data.sets import COUNTS
from trainer.data import kaggle
from trainer.errors import UserError

HANDLE = "akhilkasare/covid19-chest-xray-detection"
PORT = 7777  # kagglehub's address with KAGGLE_API_ENVIRONMENT=TEST.
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class KaggleServer(http.server.BaseHTTPRequestHandler):
    """Serves one archive like Kaggle; the first transfer breaks off half-way.

    Attributes:
      archive: the content of the archive.
      requests: (path, authorization) of API requests and ("GET", range) of transfers.
      breaks_off: whether the next transfer breaks off.
    """

    archive = b""
    requests: list[tuple[str, str | None]] = []
    breaks_off = True

    def do_POST(self) -> None:  # The name that http.server calls.
        self.requests.append((self.path, self.headers.get("Authorization")))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("GetDataset"):
            body = json.dumps({"currentVersionNumber": 1, "ref": HANDLE}).encode()
            self.answer(200, body, {"Content-Type": "application/json"})
        else:
            self.answer(302, b"", {"Location": f"http://localhost:{PORT}/archive.zip"})

    def do_GET(self) -> None:
        byte_range = self.headers.get("Range")
        self.requests.append(("GET", byte_range))
        start = range_start(byte_range) if byte_range else 0
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/zip"}
        self.answer(206 if byte_range else 200, self.archive[start:], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET" and type(self).breaks_off:
            type(self).breaks_off = False
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def range_start(byte_range: str) -> int:
    return int(byte_range.removeprefix("bytes=").rstrip("-"))


@pytest.fixture
def server(tmp_path) -> Iterator[type[KaggleServer]]:
    """A local stand-in for Kaggle with a set of nine images."""
    # Large images: kagglehub writes whole megabytes.
    write_set(tmp_path / "content" / "covid_update", COUNTS, side=900)
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "content")
    KaggleServer.archive = Path(archive).read_bytes()
    KaggleServer.requests = []
    KaggleServer.breaks_off = True
    local = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), KaggleServer)
    threading.Thread(target=local.serve_forever, daemon=True).start()
    yield KaggleServer
    local.shutdown()
    local.server_close()


def environment(folder: Path) -> dict[str, str]:
    """Returns variables for an anonymous download from the local server."""
    return {
        "KAGGLE_API_ENVIRONMENT": "TEST",
        "KAGGLEHUB_CACHE": str(folder / "cache"),
        "HOME": str(folder),
        "KAGGLE_CONFIG_DIR": str(folder / "none"),
        "KAGGLE_USERNAME": "",
        "KAGGLE_KEY": "",
        "KAGGLE_API_TOKEN": "",
        "HTTP_PROXY": "",
        "HTTPS_PROXY": "",
        "NO_PROXY": "localhost",
    }


def test_interrupted_download_is_resumed_and_prepared(server, tmp_path):
    # With its test address kagglesdk prints each answer's body, and so reads it whole; with
    # Kaggle's address it does not.
    code = f"""
import kagglehub.clients as clients
make = clients.KaggleClient
clients.KaggleClient = lambda **options: make(**{{**options, "verbose": False}})
from trainer import errors
from trainer.config import TrainConfig
from trainer.data import prepared
with errors.exit_on_user_error():
    config = TrainConfig(dataset="covid_xray", data_dir={str(tmp_path / "data")!r})
    print(prepared.open_from_config(config).fingerprint["images"])
"""
    first = run_command("-c", code, **environment(tmp_path))
    assert first.returncode == 1
    assert "run the command again to go on" in first.stderr
    assert "Traceback" not in first.stderr
    second = run_command("-c", code, **environment(tmp_path))
    assert second.returncode == 0, second.stderr
    assert "{'test': 4, 'train': 5}" in second.stdout
    ranges = [value for path, value in server.requests if path == "GET" and value]
    assert ranges
    assert range_start(ranges[0]) > 0
    api_requests = [request for request in server.requests if request[0].startswith("/api")]
    assert not any(authorization for _, authorization in api_requests)


def test_missing_network_fails_at_once(monkeypatch):
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="does not answer") as caught:
        kaggle.download(HANDLE)
    assert "\n" not in str(caught.value)


def test_damaged_archive_is_downloaded_again(server, tmp_path, monkeypatch):
    for name, value in environment(tmp_path).items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
    whole = server.archive
    damaged_bytes = len(whole) // 3
    server.breaks_off = False
    monkeypatch.setattr(server, "archive", whole[:-damaged_bytes] + bytes(damaged_bytes))
    with pytest.raises(UserError, match="run the command again") as caught:
        kaggle.download(HANDLE)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.archive"))
    monkeypatch.setattr(server, "archive", whole)
    folder = kaggle.download(HANDLE)
    assert len(list(folder.rglob("*.png"))) == sum(COUNTS.values())
