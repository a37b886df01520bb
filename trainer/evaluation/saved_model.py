"""A finished run's model: loading, saving, predictions and evidence maps.

model = load(Path("runs/mine"))
probabilities, features = model.predict(images)
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from trainer.analysis.refusal import Refusal
from trainer.data import views
from trainer.data.radiograph import PREPROCESSING_VERSION
from trainer.errors import UserError
from trainer.evaluation import plain_network  # Registers the layers of earlier versions too.
from trainer.training import input_pipeline
from trainer.training.input_pipeline import Images
from trainer.workdir import locate, read_json, unfinished_error, write_json

_BATCH_SIZE = 16  # Images: little memory, and the graph is built for one shape.


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A saved network with its facts.

    Attributes:
      network: from prepared images to probabilities, map and features, as
        `export_network.build_export` makes it.
      facts: model.json: class_names, positive_class, temperature, thresholds, …
    """

    network: keras.Model
    facts: dict[str, Any]

    @property
    def square(self) -> str:
        """The squares that the network sees, in words: their side in pixels and their view."""
        view = self.facts.get("view") or views.describe(views.WHOLE)  # Earlier versions had none.
        return f"of side {self.network.input.shape[1]}, {view['name']}"

    def predict(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Predicts prepared images.

        Args:
          images: [n, side, side, 1] uint8.

        Returns:
          Calibrated probabilities [n, classes] float64, and features [n, channels] float32.
        """
        outputs = self.network.output
        shapes = [outputs[name].shape[1:] for name in ("probabilities", "features")]
        probabilities, features = _in_batches(images, self._without_map, "predicting", shapes)
        return probabilities.astype(np.float64), features

    def maps(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Computes the evidence map of one class for each image.

        Args:
          images: [n, side, side, 1] uint8.
          classes: [n] int, the class of each map.

        Returns:
          [n, side, side] float32, ≥ 0.
        """
        # The last batch is padded with images; their maps are dropped.
        padded = np.append(classes, np.zeros(_BATCH_SIZE, np.int64))
        count = self.network.output["map"].shape[-1]
        one_hot = iter(np.eye(count, dtype=np.float32)[padded])

        def forward(batch: tf.Tensor) -> list[tf.Tensor]:
            rows = np.stack([next(one_hot) for _ in range(len(batch))])  # [batch, classes]
            return self._map_of_class(batch, tf.constant(rows))

        return _in_batches(images, forward, "drawing maps", [images.shape[1:3]])[0]

    def mapped_classes(self, predicted: np.ndarray) -> np.ndarray:
        """Selects the classes to map: those predicted, or the one whose map shows opacities."""
        opacity_map = self.facts.get("opacity_map")
        if opacity_map is None:
            return predicted
        return np.full_like(predicted, self.facts["class_names"].index(opacity_map["class"]))

    # Built once: a new function would be traced anew.
    @functools.cached_property
    def _without_map(self) -> Callable[[tf.Tensor], list[tf.Tensor]]:
        # The graph leaves out what nobody reads.
        outputs = self.network.output
        model = keras.Model(self.network.input, [outputs["probabilities"], outputs["features"]])
        return tf.function(lambda batch: model(batch, training=False))

    @functools.cached_property
    def _map_of_class(self) -> Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]]:
        model = keras.Model(self.network.input, self.network.output["map"])

        @tf.function
        def map_of_class(batch: tf.Tensor, one_hot: tf.Tensor) -> list[tf.Tensor]:
            maps = model(batch, training=False)  # [batch, side, side, classes]
            return [tf.einsum("bhwc,bc->bhw", maps, one_hot)]  # [batch, side, side]

        return map_of_class

    def with_shuffled_weights(self, seed: int) -> "SavedModel":
        """Shuffles the values of each weight tensor (Adebayo 2018)."""
        rng = np.random.Generator(np.random.Philox(key=seed))
        # A copy: this model's own weights stay.
        shuffled = keras.models.clone_model(self.network)
        weights = []
        for variable in self.network.weights:
            fixed = plain_network.FIXED in variable.path
            weights.append(variable.numpy() if fixed else rng.permuted(variable, axis=None))
        shuffled.set_weights(weights)
        return SavedModel(shuffled, self.facts)


def load(path: Path) -> SavedModel:
    """Loads the model of a workdir without running code from it.

    Raises:
      UserError: the folder holds no finished model, or one of another version.
    """
    path = locate(path)
    model_path = path / "model" / "model.keras"
    if not model_path.exists():
        raise unfinished_error(path)
    # Safe mode refuses layers that hold Python code; a workdir may come from somebody else.
    try:
        network = plain_network.from_plain(
            keras.saving.load_model(model_path, compile=False, safe_mode=True)
        )
    except (OSError, ValueError, TypeError) as error:  # TypeError: a layer has other arguments now.
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{model_path} cannot be loaded ({reason}); train it again in a new --workdir."
        ) from error
    facts = read_json(path / "model" / "model.json")
    # Other preprocessing would give other images, and so wrong probabilities without an error.
    if facts["preprocessing"] != PREPROCESSING_VERSION:
        raise UserError(
            f"{model_path} was saved by another version; train it again in a new --workdir."
        )
    return SavedModel(network, facts)


def save(path: Path, model: SavedModel) -> None:
    """Saves a model into a workdir: model/model.keras, in layers of Keras, and model/model.json."""
    folder = path / "model"
    folder.mkdir(exist_ok=True)
    plain_network.to_plain(model.network).save(folder / "model.keras")
    write_json(folder / "model.json", model.facts)


def load_refusal(path: Path) -> Refusal | None:
    """Loads model/refusal.npz of a workdir; None if no refusal was fitted."""
    refusal_path = path / "model" / "refusal.npz"
    return Refusal.load(refusal_path) if refusal_path.exists() else None


def _in_batches(
    images: Images,
    forward: Callable[[tf.Tensor], list[tf.Tensor]],
    description: str,
    shapes: list[tuple],
) -> list[np.ndarray]:
    """Runs a function over all images.

    Args:
      images: [n, side, side, 1] uint8.
      forward: batch → outputs.
      description: beside the progress bar.
      shapes: of one image's outputs, for n = 0.

    Returns:
      Each output, [n, …].
    """
    batches = tqdm(
        input_pipeline.evaluation_batches(images, _BATCH_SIZE),
        description,
        -(-len(images) // _BATCH_SIZE),
        unit=" batches",
        delay=2,
        leave=False,
        disable=None,
    )
    # The last batch is padded; only its first `count` rows are images.
    outputs = [
        [output.numpy()[:count] for output in forward(tf.constant(batch))]
        for batch, count in batches
    ]
    if not outputs:
        return [np.zeros((0, *shape), np.float32) for shape in shapes]
    return [np.concatenate(output) for output in zip(*outputs, strict=True)]
