"""The page in a real browser: uploads, paste, batches, keyboard, contrast, disagreements."""

import base64
import csv
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TIMEOUT = 30_000  # milliseconds


@pytest.fixture(params=[(1280, 900, "light"), (390, 844, "dark")], ids=["desktop", "phone"])
def page(browser, address, request):
    """The page; after the test it must fit the screen, without errors or outside requests."""
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened = context.new_page()
    urls = []
    errors = []
    # Recorded for the checks after the test.
    opened.on("request", lambda sent: urls.append(sent.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console",
        lambda message: errors.append(message.text) if message.type == "error" else None,
    )
    opened.goto(address)
    opened.wait_for_selector("#upload")
    yield opened
    if opened.locator("#upload").is_visible():
        assert opened.locator("#upload").bounding_box()["width"] > 290, "the columns are squeezed"
    page_width = opened.evaluate("document.documentElement.scrollWidth")
    assert page_width <= width, "the page is wider than the screen"
    local = ("data:", "blob:")
    outside = [url for url in urls if "127.0.0.1" not in url and not url.startswith(local)]
    assert outside == [], "the page sends requests to other servers"
    assert errors == [], "the page has errors"
    context.close()


def reload(page) -> None:
    page.reload()
    page.wait_for_selector("#upload")


def upload(page, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", str(path))


def test_each_format_gets_the_same_prediction_and_a_map(page, image_files):
    percentages = []
    for path in image_files.values():
        reload(page)
        upload(page, path)
        page.wait_for_selector("#verdict .card", timeout=TIMEOUT)
        page.wait_for_selector("#evidence img", timeout=TIMEOUT)
        texts = re.findall(r"(\d+\.\d)%", page.inner_text("#verdict"))
        percentages.append([float(text) for text in texts])
        # The patient's name is in the DICOM only.
        assert "Doe" not in page.content()
    values = np.array(percentages)  # [formats, classes]
    assert values.shape == (4, 2)
    assert np.ptp(values, axis=0).max() < 5.0
    assert "synthetic" in page.inner_text(".warning").lower()


PASTE = """async data => {
    const bytes = Uint8Array.from(atob(data), char => char.charCodeAt(0));
    const carried = new DataTransfer();
    carried.items.add(new File([bytes], "pasted.png", {type: "image/png"}));
    const options = {clipboardData: carried, bubbles: true, cancelable: true};
    document.body.dispatchEvent(new ClipboardEvent("paste", options));
}"""


def test_an_image_can_be_pasted(page, image_files):
    page.evaluate(PASTE, base64.b64encode(image_files["eight.png"].read_bytes()).decode())
    page.wait_for_selector("#verdict .card", timeout=TIMEOUT)
    assert "Not read" not in page.inner_text("#verdict")


def test_a_photograph_is_refused_and_a_text_is_not_read(page, tmp_path):
    # A blurred colour picture.
    colours = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(colours).resize((800, 600)).save(tmp_path / "photo.png")
    upload(page, tmp_path / "photo.png")
    page.wait_for_selector("#verdict .card.refused", timeout=TIMEOUT)
    verdict = page.inner_text("#verdict")
    assert "refused" in verdict
    assert "%" not in verdict
    reload(page)
    # A script under the name of an image.
    (tmp_path / "fake.png").write_text("<svg onload='alert(1)'></svg>", encoding="utf-8")
    upload(page, tmp_path / "fake.png")
    page.wait_for_selector("#verdict .card.refused", timeout=TIMEOUT)
    verdict = page.inner_text("#verdict")
    assert "Not read" in verdict
    assert "fake" not in verdict


def test_many_files_give_a_table_and_a_csv(page, image_files, tmp_path):
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        for name in ("eight.png", "film.dcm"):
            archive.write(image_files[name], name)
        # A bad file gets its row.
        archive.writestr("broken.png", b"\x89PNG broken")
    # Its content makes it a JPEG.
    image_files["film.jpg"].rename(tmp_path / "film")
    page.get_by_role("tab", name="Many files").click()
    files = [str(tmp_path / name) for name in ("films.zip", "film")]
    page.set_input_files("#uploads input[type=file]", files)
    page.wait_for_selector("#csv a[href]", timeout=2 * TIMEOUT)
    url = page.locator("#csv a[href]").first.get_attribute("href")
    rows = list(csv.DictReader(io.StringIO(page.request.get(url).text())))
    assert [row["filename"] for row in rows] == ["broken.png", "eight.png", "film.dcm", "film"]
    assert rows[0]["verdict"] == "error"
    assert rows[1]["verdict"] == rows[3]["verdict"] != "error"


def test_the_page_can_be_used_by_keyboard(page):
    role = "document.activeElement.getAttribute('role') || document.activeElement.tagName"
    page.keyboard.press("Tab")
    roles = set()
    # Forty steps reach every control of the first tab.
    for _ in range(40):
        roles.add(page.evaluate(role))
        page.keyboard.press("Tab")
    assert {"tab", "INPUT"} <= roles or {"tab", "BUTTON"} <= roles


# Contrast of every visible text over the contrast that WCAG 2.1 demands (success criterion 1.4.3).
CONTRASTS = """() => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = colour => {
        const [r, g, b] = colour.map(v => linear(v / 255));
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
    const rows = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const visible = {opacityProperty: true, visibilityProperty: true};
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim();
        const element = walker.currentNode.parentElement;
        const style = getComputedStyle(element), box = element.getBoundingClientRect();
        const seen = element.checkVisibility(visible) && box.width >= 2;
        if (!/[A-Za-z0-9]/.test(text) || !seen) continue;
        const lights = [light(parse(style.color)), light(behind(element))];
        const [a, b] = lights.sort((x, y) => y - x);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        const ratio = (a + 0.05) / (b + 0.05) / (large ? 3 : 4.5);
        rows.push([ratio, text.slice(0, 40), style.color, behind(element).join()]);
    }
    return rows;
}"""


def test_every_text_has_the_contrast_of_wcag_aa(page, image_files):
    upload(page, image_files["eight.png"])
    page.wait_for_selector("#verdict .card", timeout=TIMEOUT)
    page.wait_for_timeout(500)  # animations end
    for name in ("Classify", "Many files", "How much to trust it"):
        tab = page.get_by_role("tab", name=name)
        # On a phone the last tabs are in a menu.
        if name != "Classify" and tab.is_visible():
            tab.click()
            page.wait_for_timeout(700)  # animations end
        rows = page.evaluate(CONTRASTS)
        assert len(rows) > 8
        low = [row for row in rows if row[0] < 1.0]
        assert low == [], (name, low)


def test_a_disagreement_is_stored_only_after_consent(
    browser, served_workdir, image_files, tmp_path
):
    folder = tmp_path / "flags"
    with serve(served_workdir, f"--flag_dir={folder}") as server:
        page = browser.new_page()
        page.goto(server.address)
        page.wait_for_selector("#upload")
        upload(page, image_files["film.dcm"])
        page.wait_for_selector("#evidence img", timeout=TIMEOUT)
        page.get_by_text("I disagree with this answer").click()
        # Consent is not ticked yet.
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Nothing was kept").wait_for(timeout=TIMEOUT)
        assert not folder.exists()
        page.get_by_label("I may share this").check()
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Kept, thank you").wait_for(timeout=TIMEOUT)
    files = list(folder.iterdir())
    assert len(files) == 1
    assert files[0].suffix == ".json"
    assert "Doe" not in files[0].read_text(encoding="utf-8")
