"""Temporary files, addresses and proxies of the page."""

import os
import signal
import socket
import tempfile
import urllib.request
from pathlib import Path

import httpx
import pytest

from demo import surroundings
from tests.conftest import run_command
from trainer.errors import UserError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Restores the variables that the functions set."""
    schemes = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in ("GRADIO_TEMP_DIR", *schemes, *map(str.upper, schemes)):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("given", ["", "hospital.example, .local", "*"])
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("share", [False, True])
def test_local_addresses_are_exempt_from_proxies(monkeypatch, name, given, share):
    monkeypatch.setenv(name, given)
    surroundings.exempt_from_proxies("192.0.2.7", share)
    surroundings.exempt_from_proxies("192.0.2.7", share)
    hosts = os.environ["no_proxy"].split(",")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
    assert len(set(hosts)) == len(hosts)
    assert {"127.0.0.1", "localhost", "::1", "192.0.2.7"} <= set(hosts)
    # What the user exempts stays exempt.
    assert set(filter(None, given.replace(" ", "").split(","))) <= set(hosts)
    assert urllib.request.proxy_bypass_environment("127.0.0.1:7860")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("all_proxy", "socks5://127.0.0.1:9"),
        ("HTTP_PROXY", "socks://127.0.0.1:9"),
        ("https_proxy", "http://127.0.0.1:port"),
        ("no_proxy", "[::1], 10.0.0.0/8"),
    ],
)
def test_proxies_that_gradio_cannot_use_keep_no_page_from_starting(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    # Gradio creates a client while it is imported.
    with pytest.raises((ImportError, ValueError, httpx.InvalidURL)):
        httpx.Client()
    with pytest.raises(UserError, match="unset them"):
        surroundings.exempt_from_proxies("127.0.0.1", share=True)
    surroundings.exempt_from_proxies("127.0.0.1", share=False)
    httpx.Client().close()


_USE_FOLDER = """
import os, sys, tempfile
from demo import surroundings

surroundings.end_as_ctrl_c()
folder = surroundings.make_private_folder()
assert folder.stat().st_mode & 0o077 == 0
assert os.environ["GRADIO_TEMP_DIR"] == str(folder / "gradio")
# Uploads on their way and tables are there, too.
tempfile.mkstemp()
(folder / "gradio").mkdir()
(folder / "gradio" / "upload").write_bytes(b"x")
print(folder, len(list(folder.iterdir())))
if len(sys.argv) > 1:
    os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("ends", [(), (str(int(signal.SIGTERM)),), (str(int(signal.SIGINT)),)])
def test_the_folder_is_private_and_removed(tmp_path, monkeypatch, ends):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    result = run_command("-c", _USE_FOLDER, *ends)
    folder, count = result.stdout.split()
    assert Path(folder).parent == tmp_path
    assert count == "2"
    assert list(tmp_path.iterdir()) == []


def test_another_folder_is_used_where_the_one_of_gradio_cannot_be_written(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(file))
    result = run_command("-c", _USE_FOLDER)
    assert result.returncode == 0, result.stderr
    assert not Path(result.stdout.split()[0]).exists()
    monkeypatch.setattr(tempfile, "tempdir", str(file))
    with pytest.raises(UserError, match="set TMPDIR"):
        surroundings.make_private_folder()


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("0.0.0.0", "http://127.0.0.1:80/"),
        ("::1", "http://[::1]:80/"),
        ("::", "http://[::1]:80/"),
        ("xray.example", "http://xray.example:80/"),
    ],
)
def test_urls_have_addresses_of_version_6_in_brackets(address, url):
    assert surroundings.local_url(address, 80) == url


@pytest.mark.parametrize(
    "address",
    ["10.9.9.9", "xray.invalid", "http://127.0.0.1", "fe80::1%lo", "2001:db8::1", "ä" * 70],
)
def test_an_address_of_another_machine_is_refused(address):
    with pytest.raises(UserError, match="give an address of this machine"):
        surroundings.free_port(address, 7860)


def test_a_port_is_free_for_the_page_and_for_gradio():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        used = other.getsockname()[1]
        for address in ("127.0.0.1", "localhost", "0.0.0.0"):
            assert surroundings.free_port(address, used) > used
        # Gradio tries 127.0.0.1 for a page at ::1, too.
        if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
            assert surroundings.free_port("::1", used) > used


def test_sigterm_and_a_closed_terminal_end_as_ctrl_c(monkeypatch):
    handlers = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_IGN}
    monkeypatch.setattr(signal, "getsignal", handlers.get)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    surroundings.end_as_ctrl_c()
    # nohup has made the program ignore a closed terminal.
    assert handlers == {
        signal.SIGTERM: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_IGN,
    }
