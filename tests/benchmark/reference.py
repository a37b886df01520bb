"""The reference recipe as its authors ran it: plain Keras, files read by ImageDataGenerator; its times written down."""

import tempfile
import time
from pathlib import Path
from typing import Any

import keras

from tests.benchmark import keras_side
from tests.benchmark.material import BATCH, SIDE, Material
from trainer.config import TrainConfig, resolved
from trainer.training import split
from trainer.workdir import write_json

FILE, EPOCHS = "reference.json", 13


def train(material: Material, workdir: Path, seed: int, epochs: int = EPOCHS) -> dict[str, Any]:
    """Trains it on the same part of Train as our runs of this seed, scores the other after each epoch, writes reference.json.

    Returns:
      seed; seconds, of everything; epochs: a list of {epoch, seconds since the start, validation_accuracy}.
    """
    started = time.perf_counter()
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory(prefix="benchmark_") as files:
        found = {"seed": seed, **_fit(_flows(material, Path(files), seed), epochs, started)}
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / FILE, found)
    return found


def _flows(material: Material, files: Path, seed: int) -> list:
    """Generators over the part trained on and the part scored."""
    examples = material.train
    parts = split.parts(examples.labels, examples.groups, resolved(TrainConfig(seed=seed)))
    return [
        keras_side.generator(
            material.link(list(examples.filenames[rows]), files / name), SIDE, BATCH, trained
        )
        for rows, name, trained in zip(parts, ("train", "validation"), (True, False), strict=True)
    ]


def _fit(flows: list, epochs: int, started: float) -> dict[str, Any]:
    lines: list[dict[str, float]] = []

    class Noted(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            lines.append(
                {
                    "epoch": epoch + 1,
                    "seconds": round(time.perf_counter() - started, 1),
                    "validation_accuracy": float((logs or {})["val_accuracy"]),
                }
            )

    model = keras_side.compiled(SIDE)
    model.fit(flows[0], validation_data=flows[1], epochs=epochs, verbose=0, callbacks=[Noted()])
    return {"seconds": round(time.perf_counter() - started, 1), "epochs": lines}
