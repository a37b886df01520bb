"""A served page for the end-to-end tests of the demo: an export, its server, input files."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from trainer.data import phantom, radiograph

ESTIMATE = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 10, "groups": 10}
FACTS = {
    "class_names": ["clear", "opacities"],
    "positive_class": "opacities",
    "threshold": 0.5,
    "unsure": [0.45, 0.55],
    "synthetic": True,
    "preprocessing": radiograph.PREPROCESSING_VERSION,
}
METRICS = {
    "model": "compact",
    "dataset": {
        "name": "phantom",
        "images": {"train": 80},
        "class_names": FACTS["class_names"],
    },
    "test": dict.fromkeys(("accuracy", "roc_auc", "sensitivity", "specificity"), ESTIMATE),
    "comparison": {"warns": False, "sentence": "A sentence."},
}


@pytest.fixture(scope="session")
def served_workdir(tmp_path_factory) -> Path:
    """A workdir with the export of an untrained network: these tests are not about the model."""
    import keras

    from trainer.analysis import refusal
    from trainer.config import TrainConfig
    from trainer.evaluation import export_network
    from trainer.inference import exporting
    from trainer.training import models

    folder = tmp_path_factory.mktemp("served")
    model_folder = folder / "model"
    model_folder.mkdir()
    keras.utils.set_random_seed(0)
    trained = models.build(models.resolve(TrainConfig(model="compact", image_size=64)), 2)
    network = export_network.build_export(trained, 500)
    images = [phantom.draw(2, index, index % 2).image for index in range(80)]  # alternating classes
    squares = np.stack(images)[..., None]  # [80, 500, 500, 1]
    features = network(squares.astype(np.float32))["features"].numpy()
    fitted = refusal.fit(squares, features, np.arange(80).astype(str))
    network.save(model_folder / "model.keras")
    # trainer.evaluation reads the facts here; the export has its own.
    (model_folder / "model.json").write_text(json.dumps(FACTS), encoding="utf-8")
    exporting.write(model_folder, network, FACTS, fitted.to_arrays(), ("onnx",), squares[:2])
    (folder / "metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    return folder


@dataclasses.dataclass
class Server:
    """A running page.

    Attributes:
      process: of the server.
      address: http://127.0.0.1:PORT/.
      output: lines printed up to the address; all of them after the end.
    """

    process: subprocess.Popen
    address: str
    output: str


@contextlib.contextmanager
def serve(workdir: Path, *flags: str, **environment: str) -> Iterator[Server]:
    """Runs the page of a workdir on a free port."""
    with socket.socket() as trial:
        # Port 0: the system chooses a free one.
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.app", f"--workdir={workdir}", f"--port={port}", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,  # lines arrive as they are printed
        env=os.environ | environment,
    )
    output = ""
    for line in process.stdout:
        output += line
        # Later lines follow when the page is asked.
        if "is served at" in line:
            break
    else:
        raise AssertionError(f"the page did not start: {output}")
    server = Server(process, re.search(r"http://\S+", line)[0], output)
    try:
        yield server
    finally:
        # SIGTERM: the page ends in order and empties its cache.
        process.terminate()
        server.output += process.communicate(timeout=30)[0]


@pytest.fixture(scope="session")
def address(served_workdir, tmp_path_factory) -> Iterator[str]:
    """The address of a page without a login."""
    with serve(served_workdir, f"--flag_dir={tmp_path_factory.mktemp('flags')}") as server:
        yield server.address


@pytest.fixture
def image_files(tmp_path) -> dict[str, Path]:
    """The same synthetic radiograph in each format that the page takes."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    names = ("eight.png", "sixteen.png", "film.jpg", "film.dcm")
    paths = {name: tmp_path / name for name in names}
    image = phantom.draw(2, 100, 1).image
    Image.fromarray(image).save(paths["eight.png"])
    # 257 takes 255 to 65535.
    Image.fromarray(image.astype(np.uint16) * 257).save(paths["sixteen.png"])
    Image.fromarray(image).save(paths["film.jpg"], quality=95)
    # DICOM identifies each image worldwide.
    uid = generate_uid()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = str(paths["film.dcm"])
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.update(
        {
            "SOPClassUID": SecondaryCaptureImageStorage,
            "SOPInstanceUID": uid,
            "PatientName": "Doe^Jane",  # must not reach the page
            "Rows": image.shape[0],
            "Columns": image.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "PixelRepresentation": 0,
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
            "PixelData": image.tobytes(),
        }
    )
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return paths


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of the page."""
    programs = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, programs)), None)
    if not chromium:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # The sandbox does not run as root.
        launched = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()
