"""The page on machines of others: proxies, folders of somebody else, IPv6, a reverse proxy."""

import contextlib
import http.server
import socket
import threading
import urllib.request

import pytest

from tests.e2e.conftest import serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def get(url: str) -> str:
    """Gets a page without any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as response:
        return response.read().decode()


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as trial:
        try:
            trial.bind(("::1", 0))
        except OSError:
            return False
    return True


def test_a_proxy_does_not_keep_the_page_from_starting(served_workdir):
    # Nothing listens there.
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    proxies = dict.fromkeys(names, "http://127.0.0.1:9")
    proxies |= dict.fromkeys(("all_proxy", "ALL_PROXY"), "socks5://127.0.0.1:9")
    with serve(served_workdir, **proxies, no_proxy="[::1],hospital.example") as server:
        assert "<html" in get(server.address)


def test_folders_of_somebody_else_are_not_needed(served_workdir, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    elsewhere = dict.fromkeys(
        ("HOME", "XDG_CACHE_HOME", "GRADIO_TEMP_DIR", "MPLCONFIGDIR"), str(file)
    )
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with serve(served_workdir, **elsewhere, TMPDIR=str(temporary)) as server:
        assert "<html" in get(server.address)
        folders = [path.name for path in temporary.iterdir()]
        assert any(name.startswith("chest-radiograph-page-") for name in folders)
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in server.output
    assert "Matplotlib" not in server.output


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("address", ["::1", "[::1]", "::"])
def test_the_page_listens_on_ipv6(served_workdir, address):
    with serve(served_workdir, f"--address={address}", "--auth=none") as server:
        assert server.address.startswith("http://[::1]:")
        assert "<html" in get(server.address)


class _ReverseProxy(http.server.BaseHTTPRequestHandler):
    """Passes /xray/… on to the page."""

    page = ""
    removes_path = True

    def do_GET(self) -> None:
        if not self.path.startswith("/xray/"):
            self.send_error(404)  # A browser asks for /favicon.ico by itself.
            return
        path = self.path.removeprefix("/xray") if self.removes_path else self.path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = urllib.request.Request(
            self.page.rstrip("/") + path, body or None, method=self.command
        )
        for name in ("Content-Type", "Cookie"):
            if self.headers[name]:
                request.add_header(name, self.headers[name])
        request.add_header("X-Forwarded-Host", self.headers["Host"])
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with contextlib.suppress(OSError), opener.open(request, timeout=60) as response:
            self.send_response(response.status)
            self.send_header("Content-Type", response.headers["Content-Type"])
            self.end_headers()
            # Events arrive one by one.
            while chunk := response.read1(65536):
                self.wfile.write(chunk)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("removes_path", [True, False])
def test_the_page_works_behind_a_reverse_proxy(served_workdir, browser, image_files, removes_path):
    with serve(served_workdir, "--root_path=/xray") as server:
        _ReverseProxy.page = server.address
        _ReverseProxy.removes_path = removes_path
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _ReverseProxy)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        page = browser.new_page()
        failed: list[str] = []
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.goto(f"http://127.0.0.1:{proxy.server_address[1]}/xray/")
        page.wait_for_selector("#upload", timeout=60_000)
        # The examples are pictures that the proxy passes on.
        picture = page.locator("#examples img").first
        picture.wait_for(timeout=60_000)
        assert "/xray/" in picture.get_attribute("src")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.set_input_files("#upload input[type=file]", str(image_files["film.dcm"]))
        page.wait_for_selector("#verdict .card", timeout=60_000)
        page.wait_for_selector("#evidence img", timeout=60_000)
        # The page itself ends a stream of events.
        assert [url for url in failed if "127.0.0.1" in url and "queue/data" not in url] == []
        page.close()
        proxy.shutdown()
