"""Temporary files, addresses and proxies of the page."""

import os
import urllib.request

import pytest

from demo import surroundings
from trainer.errors import UserError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Restores the variables that the functions set."""
    for name in ("GRADIO_TEMP_DIR", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("given", ["", "hospital.example, .local", "*"])
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_local_addresses_are_exempt_from_proxies(monkeypatch, name, given):
    monkeypatch.setenv(name, given)
    surroundings.exempt_from_proxies("192.0.2.7")
    surroundings.exempt_from_proxies("192.0.2.7")
    hosts = os.environ["no_proxy"].split(",")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
    assert len(set(hosts)) == len(hosts)
    assert {"127.0.0.1", "localhost", "::1", "192.0.2.7"} <= set(hosts)
    # What the user exempts stays exempt.
    assert set(filter(None, given.replace(" ", "").split(","))) <= set(hosts)
    assert urllib.request.proxy_bypass_environment("127.0.0.1:7860")


def test_the_folder_is_private_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with surroundings.private_folder() as first:
        assert first.parent == tmp_path
        assert first.stat().st_mode & 0o077 == 0
        assert os.environ["GRADIO_TEMP_DIR"] == str(first / "gradio")
        (first / "gradio").mkdir()
        (first / "gradio" / "upload").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_another_folder_is_used_where_the_one_of_gradio_cannot_be_written(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(file))
    with surroundings.private_folder() as folder:
        assert folder.is_dir()
    monkeypatch.setattr(surroundings.tempfile, "tempdir", str(file))
    with (
        pytest.raises(UserError, match="set TMPDIR"),
        surroundings.private_folder(),
    ):
        pass


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
