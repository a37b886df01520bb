"""Hostile uploads: each gets a message, and nothing is left on the server."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests.e2e.conftest import serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Ordinary images under unusual names.
READABLE = {"mislabelled", "climbing", "unicode", "a long name"}


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def hostile_files(image: bytes) -> dict[str, tuple[str, bytes]]:
    """Makes hostile uploads: description → (file name, content)."""
    # 900 megapixels, small as a file.
    wide = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(wide, "PNG")
    bomb = zip_of({"zeros.png": bytes(400_000_000)})  # 400 MB unpacked
    nested = zip_of({"inner.zip": zip_of({"film.png": image}), "../../climbed.png": image})
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    return {
        "truncated": ("a.png", image[: len(image) // 2]),
        "mislabelled": ("a.dcm", image),
        "pixel bomb": ("a.png", wide.getvalue()),
        "a script": ("a.png", script),
        "an SVG": ("a.svg", script),
        "empty": ("a.png", b""),
        "text": ("a.jpg", b"no picture"),
        "climbing": ("../../../climbed.png", image),
        "unicode": ("Ρ\u202egnp.\N{PILE OF POO}.png", image),
        "a long name": ("x" * 900 + ".png", image),
        "nested zip": ("a.zip", nested),
        "zip bomb": ("a.zip", bomb),
        "a broken zip": ("a.zip", bomb[:500]),
        "50 MB": ("a.png", image + bytes(50_000_000)),
    }


def call(address: str, endpoint: str, path: str) -> str:
    """Calls an endpoint for a file on the server; returns the events as text."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    url = f"{address}gradio_api/call/{endpoint}"
    data = [file] if endpoint == "classify" else [[file]]
    called = requests.post(url, json={"data": data}, timeout=60)
    assert called.ok, called.text
    return requests.get(f"{url}/{called.json()['event_id']}", timeout=60).text


def send(address: str, endpoint: str, name: str, content: bytes) -> str:
    """Uploads a file and calls an endpoint for it."""
    url = f"{address}gradio_api/upload"
    uploaded = requests.post(url, files={"files": (name, content)}, timeout=60)
    if not uploaded.ok:
        return f"upload: {uploaded.text}"
    return call(address, endpoint, uploaded.json()[0])


def check_hostile_files(address: str, image: bytes) -> None:
    for description, (name, content) in hostile_files(image).items():
        # Both endpoints read files.
        single = send(address, "classify", name, content)
        many = send(address, "classify_batch", name, content)
        for reply in (single, many):
            assert "Traceback" not in reply, (description, reply)
            assert "/deep/" not in reply, (description, reply)  # the cache's path
        readable = description in READABLE
        assert ("event: complete" in single) == readable, (description, single)
        if not readable:
            assert len(single) > 30, (description, single)
            assert "event: error" in single or single.startswith("upload:"), (description, single)


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_content_decides_not_the_name(address, image_files):
    jpeg = image_files["film.jpg"].read_bytes()
    for name in ("film.jfif", "film.jpe", "film.JPG_", "film", "film.txt", ".film", "-film"):
        assert "probabilities" in send(address, "classify", name, jpeg), name
    films = {"a/film.jfif": jpeg, "b/film": jpeg, "notes.txt": b"no picture"}
    for name, content in (
        ("films.zip", zip_of(films)),
        ("films.tar", gzip.decompress(tar_of(films))),
        ("films.tar.gz", tar_of(films)),
        ("films", tar_of(films)),
        ("films.png", zip_of(films)),
    ):
        many = send(address, "classify_batch", name, content)
        # A file that cannot be read has a row with the reason.
        assert many.count('"answered"') + many.count('"unsure"') == 2, (name, many)
        assert many.count("is not an image") == 1, (name, many)
        assert "Many files" in send(address, "classify", name, content), name
    for name, content in (("films.7z", b"7z\xbc\xaf\x27\x1c"), ("cut.zip", zip_of(films)[:300])):
        many = send(address, "classify_batch", name, content)
        assert many.count('"error"') == 1, (name, many)


def files_outside(folder: Path, cache: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if cache not in path.parents}


def test_hostile_files_get_a_message_and_leave_nothing(served_workdir, image_files, tmp_path):
    cache = tmp_path / "deep" / "in" / "cache"  # climbing names stay below tmp_path
    cache.mkdir(parents=True)
    # A file beside the cache, which the server must not read.
    path = image_files["eight.png"]
    before = files_outside(tmp_path, cache)
    with serve(served_workdir, GRADIO_TEMP_DIR=str(cache), TMPDIR=str(cache)) as server:
        check_hostile_files(server.address, path.read_bytes())
        forged = call(server.address, "classify", str(path))
        assert "probabilities" not in forged, "a file outside the uploads was read"
        ordinary = send(server.address, "classify", "film.png", path.read_bytes())
        assert "event: complete" in ordinary, "the server has stopped"
        assert files_outside(tmp_path, cache) == before
    # Gradio itself logs the traceback of the forged path.
    output = server.output
    assert output.count("Traceback") == output.count("InvalidPathError: ") == 1, output
    # File names may hold a patient's.
    assert "climbed" not in output, output
    assert "PILE" not in output, output
    assert list(cache.rglob("*")) == [], "the cache was not removed"
