"""A finished run's model, loaded from its workdir: what it says of prepared squares, and where it looks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from trainer import workdir
from trainer.analysis.refusal import Refusal
from trainer.errors import UserError
from trainer.evaluation import export_network as _explained
from trainer.training import input_pipeline

_BATCH = 16


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A model and what is written beside it.

    Attributes:
      network: from squares to probabilities, map and features, as `explained.export_of` has it.
      facts: model.json: class_names, positive_class, temperature, thresholds, …
    """

    network: keras.Model
    facts: dict[str, Any]

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated probabilities [n, classes] float64, features [n, channels] float32 of squares [n, side, side, 1] uint8."""
        outputs = self.network.output
        model = keras.Model(self.network.input, [outputs["probabilities"], outputs["features"]])
        forward = tf.function(lambda batch: model(batch, training=False))
        probabilities, features = _in_batches(
            images, forward, "predicting", [output.shape[1:] for output in model.outputs]
        )
        return probabilities.astype(np.float64), features

    def maps(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Where the evidence for a class lies: [n, side, side] float32 ≥ 0, of class classes[i] ([n] int) in image i."""
        model = keras.Model(self.network.input, self.network.output["map"])
        of_class = tf.function(
            lambda batch, wanted: [tf.einsum("bhwc,bc->bhw", model(batch, training=False), wanted)]
        )
        waiting = iter(
            np.eye(model.output_shape[-1], dtype=np.float32)[
                np.append(classes, np.zeros(_BATCH, np.int64))
            ]
        )

        def forward(batch: tf.Tensor) -> list[tf.Tensor]:
            return of_class(
                batch, tf.constant(np.stack([next(waiting) for _ in range(len(batch))]))
            )

        return _in_batches(images, forward, "drawing maps", [images.shape[1:3]])[0]

    def shuffled(self, seed: int) -> "SavedModel":
        """The same network with the values of each weight tensor shuffled, for the sanity check of its maps (Adebayo 2018)."""
        rng = np.random.Generator(np.random.Philox(key=seed))
        other = keras.models.clone_model(self.network)
        other.set_weights([rng.permuted(value, axis=None) for value in self.network.get_weights()])
        return SavedModel(other, self.facts)


def load(path: Path) -> SavedModel:
    """Loads the model of a workdir. No code is run from it.

    Raises:
      UserError: the folder holds no finished model.
    """
    model = path / "model" / "model.keras"
    if not model.exists():
        raise UserError(
            f"{path} holds no finished model; run trainer.main with --workdir={path} to its end."
        )
    try:
        network = keras.saving.load_model(model, compile=False, safe_mode=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{model} cannot be loaded ({reason}); train it again in a new --workdir."
        ) from error
    if not isinstance(network.output, dict):
        raise UserError(
            f"{model} was saved by an earlier version; train it again in a new --workdir."
        )
    return SavedModel(network, workdir.read_json(path / "model" / "model.json"))


def refusal_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of model/refusal.npz in a workdir; None where nothing was fitted."""
    place = path / "model" / "refusal.npz"
    return Refusal.load(place).to_arrays() if place.exists() else None


def prepared_squares(builder: Any, count: int) -> np.ndarray:
    """The first squares of a prepared set's test split, [count, side, side, 1] uint8."""
    return np.stack(
        [row["image"] for row in builder.as_dataset(split=f"test[:{count}]").as_numpy_iterator()]
    )


def _in_batches(
    images: np.ndarray,
    forward: Callable[[tf.Tensor], list[tf.Tensor]],
    what: str,
    shapes: list[tuple],
) -> list[np.ndarray]:
    """Each output of `forward` over all images, every image once; `shapes` are those of one image's outputs."""
    batches = input_pipeline.evaluation_batches(images, _BATCH)
    shown = tqdm(
        batches,
        what,
        -(-len(images) // _BATCH),
        unit=" batches",
        delay=2,
        leave=False,
        disable=None,
    )
    parts = [
        [output.numpy()[:real] for output in forward(tf.constant(batch))] for batch, real in shown
    ]
    if not parts:
        return [np.zeros((0, *shape), np.float32) for shape in shapes]
    return [np.concatenate(found) for found in zip(*parts, strict=True)]


def save(path: Path, model: SavedModel) -> None:
    """Saves a model into a workdir: model/model.keras and model/model.json."""
    (path / "model").mkdir(exist_ok=True)
    model.network.save(path / "model" / "model.keras")
    workdir.write_json(path / "model" / "model.json", model.facts)
