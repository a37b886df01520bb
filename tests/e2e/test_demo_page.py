"""The page in a real browser and its API from a script, served by a real process on 127.0.0.1."""

import base64
import csv
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, run_command
from trainer.data import phantom

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ESTIMATE = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 10, "groups": 10}
FACTS = {
    "class_names": ["clear", "opacities"],
    "positive_class": "opacities",
    "threshold": 0.5,
    "unsure": [0.45, 0.55],
    "synthetic": True,
    "preprocessing": 1,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir with an untrained network's export: the page is tested here, not the model."""
    import keras

    from trainer.analysis import refusal
    from trainer.config import TrainConfig, resolved
    from trainer.evaluation import export_network
    from trainer.inference import exporting
    from trainer.training import models

    folder = tmp_path_factory.mktemp("served")
    (folder / "model").mkdir()
    keras.utils.set_random_seed(0)
    network = export_network.export_of(
        models.build(resolved(TrainConfig(model="compact", image_size=64)), 2), 500
    )
    squares = np.stack([phantom.draw(2, index, index % 2).image for index in range(80)])[..., None]
    fitted = refusal.fit(
        squares, network(squares.astype(np.float32))["features"].numpy(), np.arange(80).astype(str)
    )
    network.save(folder / "model" / "model.keras")
    (folder / "model" / "model.json").write_text(json.dumps(FACTS))
    exporting.write(folder / "model", network, FACTS, fitted.to_arrays(), ("onnx",), squares[:2])
    (folder / "metrics.json").write_text(
        json.dumps(
            {
                "model": "compact",
                "dataset": {
                    "name": "phantom",
                    "images": {"train": 80},
                    "class_names": FACTS["class_names"],
                },
                "test": dict.fromkeys(
                    ("accuracy", "roc_auc", "sensitivity", "specificity"), ESTIMATE
                ),
                "comparison": {"warns": False, "sentence": "A sentence."},
            }
        )
    )
    return folder


def serve(run, *flags: str, **environment: str) -> tuple[subprocess.Popen, str, str]:
    """Starts the page and waits for it: (process, address, what it printed)."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.app", f"--workdir={run}", f"--port={port}", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    printed = ""
    for line in process.stdout:
        printed += line
        if "is served at" in line:
            return process, re.search(r"http://\S+", line)[0], printed
    raise AssertionError(f"the page did not start: {printed}")


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    process, found, _ = serve(run, f"--flag_dir={tmp_path_factory.mktemp('flags')}")
    yield found
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def browser():
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if not chromium:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        launched = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(params=[(1280, 900, "light"), (390, 844, "dark")], ids=["desktop", "phone"])
def page(browser, address, request):
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened = context.new_page()
    outside, wrong = [], []
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "request",
        lambda asked: (
            outside.append(asked.url)
            if "127.0.0.1" not in asked.url and not asked.url.startswith(("data:", "blob:"))
            else None
        ),
    )
    opened.goto(address)
    opened.wait_for_selector("#upload")
    yield opened
    if opened.locator("#upload").is_visible():
        assert opened.locator("#upload").bounding_box()["width"] > 290, "the columns are squeezed"
    assert opened.evaluate("document.documentElement.scrollWidth") <= width, (
        "the page is wider than the screen"
    )
    assert outside == [], "the page asks for something from outside"
    assert wrong == [], "the page has errors"
    context.close()


def films(folder) -> dict[str, object]:
    """The same synthetic radiograph in each format the page takes."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    image = phantom.draw(2, 100, 1).image
    Image.fromarray(image).save(folder / "eight.png")
    Image.fromarray(image.astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.fromarray(image).save(folder / "film.jpg", quality=95)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        SecondaryCaptureImageStorage,
        generate_uid(),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(folder / "film.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = (
        SecondaryCaptureImageStorage,
        meta.MediaStorageSOPInstanceUID,
    )
    data.PatientName = "Doe^Jane"
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = (
        1,
        "MONOCHROME2",
        0,
    )
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelData = 8, 8, 7, image.tobytes()
    pydicom.dcmwrite(folder / "film.dcm", data, enforce_file_format=True)
    return {name: folder / name for name in ("eight.png", "sixteen.png", "film.jpg", "film.dcm")}


def send(page, path, selector: str = "#upload") -> None:
    if page.locator(f"{selector} button[aria-label='Clear']").count():
        page.locator(f"{selector} button[aria-label='Clear']").first.click()
    page.set_input_files(f"{selector} input[type=file]", str(path))


def test_each_format_gets_the_same_answer_and_a_map(page, tmp_path):
    said = {}
    for name, path in films(tmp_path).items():
        page.reload()
        page.wait_for_selector("#upload")
        send(page, path)
        page.wait_for_selector("#verdict .card", timeout=30_000)
        page.wait_for_selector("#evidence img", timeout=30_000)
        said[name] = re.findall(r"(\d+\.\d)%", page.inner_text("#verdict"))
        assert "Doe" not in page.content()
    values = np.array([[float(value) for value in row] for row in said.values()])
    assert values.shape == (4, 2) and np.ptp(values, axis=0).max() < 5.0
    assert "synthetic" in page.inner_text(".warning").lower()


def test_an_image_can_be_pasted(page, tmp_path):
    films(tmp_path)
    page.evaluate(
        """async data => {
        const carried = new DataTransfer(), bytes = Uint8Array.from(atob(data), char => char.charCodeAt(0));
        carried.items.add(new File([bytes], "pasted.png", {type: "image/png"}));
        document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: carried, bubbles: true, cancelable: true}));
    }""",
        base64.b64encode((tmp_path / "eight.png").read_bytes()).decode(),
    )
    page.wait_for_selector("#verdict .card", timeout=30_000)
    assert "Not read" not in page.inner_text("#verdict")


def test_a_photograph_is_refused_and_a_text_is_not_read(page, tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(colours).resize((800, 600)).save(tmp_path / "photo.png")
    send(page, tmp_path / "photo.png")
    page.wait_for_selector("#verdict .card.refused", timeout=30_000)
    assert "refused" in page.inner_text("#verdict") and "%" not in page.inner_text("#verdict")
    page.reload()
    page.wait_for_selector("#upload")
    (tmp_path / "fake.png").write_text("<svg onload='alert(1)'></svg>")
    send(page, tmp_path / "fake.png")
    page.wait_for_selector("#verdict .card.refused", timeout=30_000)
    assert "Not read" in page.inner_text("#verdict") and "fake" not in page.inner_text("#verdict")


def test_many_files_give_a_table_and_a_csv(page, tmp_path):
    found = films(tmp_path)
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        for name in ("eight.png", "film.dcm"):
            archive.write(found[name], name)
        archive.writestr("broken.png", b"\x89PNG broken")
    page.get_by_role("tab", name="Many files").click()
    page.set_input_files("#uploads input[type=file]", str(tmp_path / "films.zip"))
    page.wait_for_selector("#csv a[href]", timeout=60_000)
    address = page.locator("#csv a[href]").first.get_attribute("href")
    rows = list(csv.DictReader(io.StringIO(page.request.get(address).text())))
    assert [row["filename"] for row in rows] == ["broken.png", "eight.png", "film.dcm"]
    assert rows[0]["verdict"] == "error" and rows[1]["verdict"] != "error"


def test_it_can_be_reached_by_keyboard(page):
    page.keyboard.press("Tab")
    reached = set()
    for _ in range(40):
        reached.add(
            page.evaluate(
                "document.activeElement.getAttribute('role') || document.activeElement.tagName"
            )
        )
        page.keyboard.press("Tab")
    assert {"tab", "INPUT"} <= reached or {"tab", "BUTTON"} <= reached


CONTRASTS = """() => {
    const light = colour => {
        const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const parse = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const [r, g, b, a = 1] = parse(getComputedStyle(element).backgroundColor);
            if (a > 0.99 && r !== undefined) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
        const style = getComputedStyle(element), box = element.getBoundingClientRect();
        const seen = element.checkVisibility({opacityProperty: true, visibilityProperty: true}) && box.width >= 2;
        if (!/[A-Za-z0-9]/.test(text) || !seen) continue;
        const [a, b] = [light(parse(style.color)), light(behind(element))].sort((x, y) => y - x);
        const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        found.push([(a + 0.05) / (b + 0.05) / (large ? 3 : 4.5), text.slice(0, 40), style.color, behind(element).join()]);
    }
    return found;
}"""


def test_every_text_has_the_contrast_of_wcag_aa(page, tmp_path):
    send(page, films(tmp_path)["eight.png"])
    page.wait_for_selector("#verdict .card", timeout=30_000)
    page.wait_for_timeout(500)
    for tab in ("Classify", "Many files", "How much to trust it"):
        if tab != "Classify" and page.get_by_role("tab", name=tab).is_visible():
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(700)
        found = page.evaluate(CONTRASTS)
        assert len(found) > 8
        low = [row for row in found if row[0] < 1.0]
        assert low == [], (tab, low)


def test_a_disagreement_is_kept_only_after_consent(browser, run, tmp_path):
    process, address, _ = serve(run, f"--flag_dir={tmp_path / 'flags'}")
    try:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#upload")
        send(page, films(tmp_path)["film.dcm"])
        page.wait_for_selector("#evidence img", timeout=30_000)
        page.get_by_text("I disagree with this answer").click()
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Nothing was kept").wait_for(timeout=15_000)
        assert not (tmp_path / "flags").exists()
        page.get_by_label("I may share this").check()
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Kept, thank you").wait_for(timeout=15_000)
    finally:
        process.terminate()
        process.wait(20)
    kept = list((tmp_path / "flags").iterdir())
    assert len(kept) == 1 and kept[0].suffix == ".json" and "Doe" not in kept[0].read_text()


def test_scripts_are_answered_with_typed_json(address, tmp_path):
    from gradio_client import Client, handle_file

    client, found = Client(address, verbose=False), films(tmp_path)
    one = client.predict(handle_file(str(found["film.dcm"])), api_name="/classify")
    assert (
        one["verdict"] in ("answered", "unsure", "refused")
        and one["synthetic"] is True
        and one["warnings"]
    )
    many = client.predict(
        [handle_file(str(path)) for path in found.values()], api_name="/classify_batch"
    )
    assert len(many["rows"]) == 4 and many["header"][0] == "filename"
    about = client.predict(api_name="/model")
    assert about["class_names"] == FACTS["class_names"] and about["test"]["accuracy"] == ESTIMATE
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(Exception, match="PNG, JPEG or DICOM"):
        client.predict(handle_file(str(tmp_path / "x.png")), api_name="/classify")


def test_the_page_the_command_and_keras_agree_on_every_format(address, run, tmp_path):
    from gradio_client import Client, handle_file

    from trainer.data import radiograph
    from trainer.evaluation import saved_model

    found = films(tmp_path)
    table = tmp_path / "predictions.csv"
    done = run_command(
        "-m", "trainer.predict", f"--workdir={run}", f"--output={table}", *map(str, found.values())
    )
    assert done.returncode == 0, done.stderr
    rows = {os.path.basename(row["filename"]): row for row in csv.DictReader(table.open())}
    squares = np.stack([radiograph.standardize(radiograph.read(path)) for path in found.values()])[
        ..., None
    ]
    keras_says = dict(zip(found, saved_model.load(run).predict(squares)[0][:, 1], strict=True))
    client, said = Client(address, verbose=False), {}
    for name, path in found.items():
        answer = client.predict(handle_file(str(path)), api_name="/classify")
        said[name] = answer["probabilities"]["opacities"]
        assert abs(said[name] - keras_says[name]) <= 1e-4
        assert abs(said[name] - float(rows[name]["probability_opacities"])) <= 1e-4
    assert (
        abs(said["eight.png"] - said["film.dcm"]) <= 1e-3
        and abs(said["eight.png"] - said["sixteen.png"]) <= 1e-3
    )


def test_behind_a_login_nothing_is_answered_without_it(run):
    import requests

    process, address, _ = serve(run, "--auth=me:secret")
    try:
        assert (
            requests.post(
                f"{address}gradio_api/call/model", json={"data": []}, timeout=20
            ).status_code
            == 401
        )
        session = requests.Session()
        assert (
            session.post(
                f"{address}login", data={"username": "me", "password": "wrong"}, timeout=20
            ).status_code
            == 400
        )
        assert session.post(
            f"{address}login", data={"username": "me", "password": "secret"}, timeout=20
        ).ok
        assert session.post(f"{address}gradio_api/call/model", json={"data": []}, timeout=20).ok
    finally:
        process.terminate()
        process.wait(20)


def hostile(folder) -> dict[str, tuple[str, bytes]]:
    """What it is → (the name it is sent under, bytes)."""
    film = (folder / "eight.png").read_bytes()
    wide = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(wide, "PNG")
    inner, bomb, nested = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("film.png", film)
    with zipfile.ZipFile(nested, "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
        archive.writestr("../../climbed.png", film)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("zeros.png", bytes(400_000_000))
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    return {
        "truncated": ("a.png", film[: len(film) // 2]),
        "mislabelled": ("a.dcm", film),
        "pixel bomb": ("a.png", wide.getvalue()),
        "a script": ("a.png", script),
        "an SVG": ("a.svg", script),
        "empty": ("a.png", b""),
        "text": ("a.jpg", b"no picture"),
        "climbing": ("../../../climbed.png", film),
        "unicode": ("Ρ\u202egnp.\N{PILE OF POO}.png", film),
        "a long name": ("x" * 900 + ".png", film),
        "nested zip": ("a.zip", nested.getvalue()),
        "zip bomb": ("a.zip", bomb.getvalue()),
        "a broken zip": ("a.zip", bomb.getvalue()[:500]),
        "50 MB": ("a.png", film + bytes(50_000_000)),
    }


READ = {"mislabelled", "climbing", "unicode", "a long name"}  # Ordinary films under odd names.


def test_hostile_files_get_a_message_and_leave_nothing_behind(run, tmp_path):
    import requests

    films(tmp_path)
    cache = tmp_path / "deep" / "in" / "cache"
    cache.mkdir(parents=True)
    before = {path for path in tmp_path.rglob("*") if cache not in path.parents}
    process, address, _ = serve(run, GRADIO_TEMP_DIR=str(cache), TMPDIR=str(cache))

    def ask(name: str, data: bytes, endpoint: str) -> str:
        sent = requests.post(
            f"{address}gradio_api/upload", files={"files": (name, data)}, timeout=60
        )
        if not sent.ok:
            return f"upload: {sent.text}"
        file = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
        body = {"data": [file if endpoint == "classify" else [file]]}
        called = requests.post(f"{address}gradio_api/call/{endpoint}", json=body, timeout=60)
        assert called.ok, called.text
        return requests.get(
            f"{address}gradio_api/call/{endpoint}/{called.json()['event_id']}", timeout=60
        ).text

    try:
        for what, (name, data) in hostile(tmp_path).items():
            said = ask(name, data, "classify")
            assert "Traceback" not in said and "/deep/" not in said, (what, said)
            assert ("event: complete" in said) == (what in READ), (what, said)
            if what not in READ:
                assert len(said) > 30 and ("event: error" in said or said.startswith("upload:")), (
                    what,
                    said,
                )
            many = ask(name, data, "classify_batch")
            assert "Traceback" not in many and "/deep/" not in many, (what, many)
        outside = requests.post(
            f"{address}gradio_api/call/classify",
            timeout=60,
            json={
                "data": [
                    {"path": str(tmp_path / "eight.png"), "meta": {"_type": "gradio.FileData"}}
                ]
            },
        )
        assert (
            "probabilities"
            not in requests.get(
                f"{address}gradio_api/call/classify/{outside.json()['event_id']}", timeout=60
            ).text
        ), "a file outside was read"
        assert "event: complete" in ask(
            "film.png", (tmp_path / "eight.png").read_bytes(), "classify"
        ), "the server has died"
        assert {path for path in tmp_path.rglob("*") if cache not in path.parents} == before
    finally:
        process.terminate()
        rest = process.communicate(timeout=30)[0]
    assert rest.count("Traceback") == rest.count("InvalidPathError: ") == 1, (
        rest
    )  # Of the forged path; Gradio logs it itself.
    assert "climbed" not in rest and "PILE" not in rest, rest
    left = [path.name for path in cache.rglob("*") if path.is_file() and path.stat().st_size]
    assert left == [], "the cache was not emptied"


def test_a_share_link_that_cannot_be_made_leaves_the_page_running_with_a_password(run):
    started = time.monotonic()
    process, address, printed = serve(run, "--share")
    try:
        import requests

        rest = process.stdout.readline() + process.stdout.readline()
        assert "password" in printed + rest
        assert requests.get(address, timeout=20).status_code == 200
        print(f"started in {time.monotonic() - started:.1f} s")
    finally:
        process.terminate()
        process.wait(20)
