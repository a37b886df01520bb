"""The download from Kaggle, against a local stand-in of its service: anonymous, cut off half-way once, and resumed."""

import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest

from tests.conftest import run_command, write_set
from trainer.data import kaggle
from trainer.errors import UserError

HANDLE = "akhilkasare/covid19-chest-xray-detection"
PORT = 7777  # Where kagglehub looks with KAGGLE_API_ENVIRONMENT=TEST.
COUNTS = {
    ("Train", "covid"): 3,
    ("Train", "non_covid"): 2,
    ("Test", "covid"): 2,
    ("Test", "non_covid"): 2,
}


class StandIn(http.server.BaseHTTPRequestHandler):
    """Serves one archive as Kaggle does; the first transfer breaks off half-way."""

    archive = b""
    seen: list = []

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.seen.append((self.path, self.headers.get("Authorization"), self.rfile.read(length)))
        if self.path.endswith("GetDataset"):
            self.answer(json.dumps({"currentVersionNumber": 1, "ref": HANDLE}).encode())
        else:
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{PORT}/archive.zip")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_GET(self):
        self.seen.append(("GET", self.headers.get("Range"), b""))
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.archive[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/zip")
        self.end_headers()
        first = not any(path == "broke off" for path, *_ in self.seen)
        if first:
            self.seen.append(("broke off", None, b""))
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(body)

    def answer(self, body: bytes):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def stand_in(tmp_path):
    write_set(
        tmp_path / "content" / "covid_update", COUNTS, side=900
    )  # kagglehub writes whole megabytes.
    StandIn.archive = Path(
        shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "content")
    ).read_bytes()
    StandIn.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield StandIn
    server.shutdown()
    server.server_close()


def test_a_download_that_breaks_off_is_resumed_and_prepared(stand_in, tmp_path):
    # Against its test address kagglesdk prints each answer's body, and so reads it whole; against Kaggle it does not.
    code = (
        "import kagglehub.clients as clients\n"
        "make = clients.KaggleClient\n"
        "clients.KaggleClient = lambda **options: make(**{**options, 'verbose': False})\n"
        "from trainer import errors\n"
        "from trainer.data import prepared\n"
        "with errors.reported():\n"
        "    print(prepared.open_dataset('covid_xray', "
        f"data_dir={str(tmp_path / 'data')!r}).fingerprint['images'])"
    )
    environment = {
        "KAGGLE_API_ENVIRONMENT": "TEST",
        "KAGGLEHUB_CACHE": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
        "KAGGLE_CONFIG_DIR": str(tmp_path / "none"),
        "KAGGLE_USERNAME": "",
        "KAGGLE_KEY": "",
        "KAGGLE_API_TOKEN": "",
        "HTTP_PROXY": "",
        "HTTPS_PROXY": "",
        "NO_PROXY": "localhost",
    }
    first = run_command("-c", code, **environment)
    assert (
        first.returncode == 1
        and "run the command again to go on" in first.stderr
        and "Traceback" not in first.stderr
    )
    second = run_command("-c", code, **environment)
    assert second.returncode == 0, second.stderr
    assert "{'test': 4, 'train': 5}" in second.stdout
    ranges = [wanted for path, wanted, _ in stand_in.seen if path == "GET" and wanted]
    assert ranges and int(ranges[0].removeprefix("bytes=").rstrip("-")) > 0
    assert all(
        not authorization for path, authorization, _ in stand_in.seen if path.startswith("/api")
    )


def test_no_network_is_answered_at_once(monkeypatch):
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="does not answer") as caught:
        kaggle.download(HANDLE)
    assert "\n" not in str(caught.value)


def test_an_archive_that_came_damaged_is_downloaded_anew(stand_in, tmp_path, monkeypatch):
    for name, value in {
        "KAGGLE_API_ENVIRONMENT": "TEST",
        "KAGGLEHUB_CACHE": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
        "KAGGLE_CONFIG_DIR": str(tmp_path / "none"),
        "NO_PROXY": "localhost",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    whole, stand_in.seen = stand_in.archive, [("broke off", None, b"")]
    monkeypatch.setattr(stand_in, "archive", whole[: -len(whole) // 3] + bytes(len(whole) // 3))
    with pytest.raises(UserError, match="run the command again") as caught:
        kaggle.download(HANDLE)
    assert "\n" not in str(caught.value) and not list((tmp_path / "cache").rglob("*.archive"))
    monkeypatch.setattr(stand_in, "archive", whole)
    folder = kaggle.download(HANDLE)
    assert len(list(folder.rglob("*.png"))) == sum(COUNTS.values())
