"""Fixtures of the inference tests: an untrained network and its ONNX export."""

import numpy as np
import pytest

from trainer.analysis import refusal
from trainer.config import TrainConfig
from trainer.data import phantom, radiograph

FACTS = {
    "class_names": ["clear", "opacities"],
    "positive_class": "opacities",
    "threshold": 0.5,
    "unsure": [0.45, 0.5],  # probabilities of opacities
    "synthetic": True,
    "preprocessing": radiograph.PREPROCESSING_VERSION,
}


@pytest.fixture(scope="session")
def squares() -> np.ndarray:
    """Sixty phantoms, [60, 500, 500, 1] uint8."""
    return np.stack([phantom.draw(2, index, index % 2).image for index in range(60)])[
        ..., None
    ]  # [n, side, side, 1]


def build_network(config: TrainConfig, temperature: float = 1.0):
    """Builds an untrained network in the form that is exported."""
    # imported lazily: test_command.py needs no TensorFlow
    import keras

    from trainer.evaluation import export_network
    from trainer.training import models

    # The same weights in every run.
    keras.utils.set_random_seed(0)
    return export_network.build_export(models.build(models.resolve(config), 2), 500, temperature)


@pytest.fixture(scope="session")
def network():
    """A small network."""
    return build_network(TrainConfig(model="compact", image_size=64), temperature=1.3)


@pytest.fixture(scope="session")
def workdir(network, squares, tmp_path_factory):
    """A folder with an ONNX export that refuses images unlike its sixty phantoms."""
    from trainer.inference import exporting

    folder = tmp_path_factory.mktemp("run") / "model"
    folder.mkdir()
    # The network's own features, as trainer.evaluation takes them.
    features = network(squares.astype(np.float32))["features"].numpy()
    fitted = refusal.fit(squares, features, np.arange(60).astype(str))
    lines = exporting.write(folder, network, FACTS, fitted.to_arrays(), ("onnx",), squares[:4])
    assert "agrees with Keras" in lines[0]
    return folder.parent
