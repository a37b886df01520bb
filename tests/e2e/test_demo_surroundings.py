"""The page on machines of others: proxies, folders of somebody else, IPv6, a reverse proxy."""

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
    """Passes /xray/… on to the page, without the prefix."""

    page = ""

    def do_GET(self) -> None:
        assert self.path.startswith("/xray/"), self.path
        request = urllib.request.Request(self.page + self.path.removeprefix("/xray/"))
        request.add_header("X-Forwarded-Host", self.headers["Host"])
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as response:
            body = response.read()
            self.send_response(response.status)
            self.send_header("Content-Type", response.headers["Content-Type"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_page_works_behind_a_reverse_proxy(served_workdir, browser):
    with serve(served_workdir, "--root_path=/xray") as server:
        _ReverseProxy.page = server.address
        proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _ReverseProxy)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        page = browser.new_page()
        failed: list[str] = []
        page.on("requestfailed", lambda request: failed.append(request.url))
        page.goto(f"http://127.0.0.1:{proxy.server_address[1]}/xray/")
        page.get_by_text("A frontal chest radiograph").wait_for(timeout=60_000)
        # The examples are pictures that the proxy passes on.
        picture = page.locator("#examples img").first
        picture.wait_for(timeout=60_000)
        assert "/xray/" in picture.get_attribute("src")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert [url for url in failed if "127.0.0.1" in url] == []
        page.close()
        proxy.shutdown()
