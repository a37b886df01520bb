"""The default network with weights as they are drawn, saved and exported, for where training would not change the time."""

from pathlib import Path

import keras
import numpy as np

from trainer.config import TrainConfig, resolved
from trainer.data import radiograph
from trainer.evaluation import export_network
from trainer.inference import exporting
from trainer.training import models


def write(folder: Path, square: np.ndarray) -> None:
    """Writes model.keras and model.onnx; `square` ([side, side] uint8) is what the two are compared on."""
    side = radiograph.STANDARD_SIDE
    keras.utils.set_random_seed(0)
    network = export_network.export_of(models.build(resolved(TrainConfig()), 2), side)
    facts = {
        "class_names": ["non_covid", "covid"],
        "positive_class": "covid",
        "threshold": 0.5,
        "synthetic": True,
        "side": side,
    }
    network.save(folder / "model.keras")
    exporting.write(folder, network, facts, None, ("onnx",), square[None, ..., None])
