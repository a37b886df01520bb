"""The API of the page from scripts: JSON, parity with Keras, login, share link."""

import csv

import numpy as np
import pytest
import requests
from gradio_client import Client, handle_file

from tests.conftest import run_command
from tests.e2e.conftest import ESTIMATE, FACTS, serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_scripts_get_typed_json(address, image_files, tmp_path):
    client = Client(address, verbose=False)
    # One file, several files, the model.
    single = client.predict(handle_file(str(image_files["film.dcm"])), api_name="/classify")
    assert single["verdict"] in ("answered", "unsure", "refused")
    assert single["synthetic"] is True
    assert single["warnings"]
    uploads = [handle_file(str(path)) for path in image_files.values()]
    many = client.predict(uploads, api_name="/classify_batch")
    assert len(many["rows"]) == 4
    assert many["header"][0] == "filename"
    model = client.predict(api_name="/model")
    assert model["class_names"] == FACTS["class_names"]
    assert model["test"]["accuracy"] == ESTIMATE
    # A named error reaches the script.
    (tmp_path / "x.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(Exception, match="PNG, JPEG, DICOM"):
        client.predict(handle_file(str(tmp_path / "x.png")), api_name="/classify")


def test_page_command_and_keras_agree_on_every_format(
    address, served_workdir, image_files, tmp_path
):
    from trainer.data import radiograph
    from trainer.evaluation import saved_model

    paths = list(image_files.values())
    table = tmp_path / "predictions.csv"
    completed = run_command(
        "-m",
        "trainer.predict",
        f"--workdir={served_workdir}",
        f"--output={table}",
        *map(str, paths),
    )
    assert completed.returncode == 0, completed.stderr
    with open(table, encoding="utf-8", newline="") as file:
        by_command = [float(row["probability_opacities"]) for row in csv.DictReader(file)]
    # What the training pipeline would make of the files.
    squares = np.stack([radiograph.standardize(radiograph.read(path)) for path in paths])
    by_keras = saved_model.load(served_workdir).predict(squares[..., None])[0][:, 1]
    client = Client(address, verbose=False)
    results = [client.predict(handle_file(str(path)), api_name="/classify") for path in paths]
    by_page = np.array([result["probabilities"]["opacities"] for result in results])
    np.testing.assert_allclose(by_page, by_keras, rtol=0, atol=1e-4)
    np.testing.assert_allclose(by_page, by_command, rtol=0, atol=1e-4)
    # The lossless formats hold the same pixels.
    lossless = [list(image_files).index(name) for name in ("eight.png", "sixteen.png", "film.dcm")]
    np.testing.assert_allclose(by_page[lossless], by_page[lossless[0]], rtol=0, atol=1e-3)


def test_a_page_with_a_login_answers_nothing_without_it(served_workdir):
    with serve(served_workdir, "--auth=me:secret") as server:
        call = f"{server.address}gradio_api/call/model"
        login = f"{server.address}login"
        assert requests.post(call, json={"data": []}, timeout=20).status_code == 401
        session = requests.Session()
        wrong = session.post(login, data={"username": "me", "password": "wrong"}, timeout=20)
        assert wrong.status_code == 400
        right = session.post(login, data={"username": "me", "password": "secret"}, timeout=20)
        assert right.ok
        assert session.post(call, json={"data": []}, timeout=20).ok


def test_the_page_runs_with_a_password_where_no_share_link_can_be_made(served_workdir):
    with serve(served_workdir, "--share") as server:
        # The login and the missing link follow the address.
        lines = [server.process.stdout.readline() for _ in range(2)]
        assert "password" in server.output + "".join(lines)
        assert requests.get(server.address, timeout=20).status_code == 200
