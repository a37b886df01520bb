"""A small network retrained without lungs, on lungs alone and on permuted labels.

    for row in retrain(audit.dataset):
        print(row["name"], row["shown"])

Part of `python -m trainer.audit --workdir=…`. A network that scores well without lungs shows that
the data give the classes away by other means.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from trainer.analysis import metrics
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data import lungs
from trainer.data.records import Records
from trainer.evaluation.data_audit import AuditedSet
from trainer.evaluation.description import plain
from trainer.training import distribution, input_pipeline, layers, models, steps
from trainer.training.input_pipeline import Examples

# Small, since it is trained four times.
_SIDE = 128
_EPOCHS = 13

# Name → the network's input, and the score to expect.
_VARIANTS = {
    "whole_image": ("the whole image", "what the small network can do"),
    "lungs_removed": (
        "everything but the lung fields ({masks} masks)",
        "chance, if the score comes from the lungs",
    ),
    "lungs_only": (
        "the lung fields alone ({masks} masks)",
        "as much as the whole image, if the score comes from the lungs",
    ),
    "permuted_labels": (
        "the whole image, with the labels of patients exchanged at random",
        "chance",
    ),
}


def retrain(dataset: AuditedSet, seed: int = 0) -> list[dict[str, Any]]:
    """Trains `compact` at 128 pixels four times and scores each on test.

    Args:
      dataset: the set; `lungs.mask` approximates lung masks that are unknown.
      seed: of weights, order, augmentation and permutation.

    Returns:
      Rows of audit.json: name; what (the network's input) and expected (the score), in words; shown
      (the AUC as text), roc_auc and accuracy. With permuted labels those of test are permuted too.
    """
    config = models.resolve(
        TrainConfig(
            model="compact",
            image_size=_SIDE,
            epochs=_EPOCHS,
            seed=seed,
            validation_fraction=0.0,  # Nothing is selected: the last weights count.
            strategy="one_device",
        )
    )
    splits = dataset.merged()  # So that permuted labels are equal within copies.
    masks = "true" if splits["train"].lung_masks is not None else "approximate"
    rows = []
    for name, (what, expected) in _VARIANTS.items():
        # One variant at a time: each takes as much memory as the data set.
        train = _variant(name, splits["train"], seed)
        test = _variant(name, splits["test"], seed)
        predictions = Predictions(
            test.filenames,
            test.groups,
            test.labels,
            _fit_and_predict(train, test.images, len(dataset.class_names), config, name),
            dataset.class_names,
            dataset.positive_class,
        )
        scores = metrics.scores(predictions)
        row = {
            "name": name,
            "what": what.format(masks=masks),
            "expected": expected,
            "shown": str(scores["roc_auc"]),  # As the screen and the report print it.
            "roc_auc": plain(scores["roc_auc"]),
            "accuracy": plain(scores["accuracy"]),
        }
        rows.append(row)
    return rows


def permute_labels(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Exchanges labels at random between whole groups.

    Args:
      labels: [n] int.
      groups: [n] str.
      seed: of the exchange.

    Returns:
      [n] int; each group gets the first label of some group.
    """
    # [groups] int, the first image of each; [n] int, the group of each image.
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    rng = np.random.Generator(np.random.Philox(key=seed))
    return labels[first][rng.permutation(len(first))][member]


def _variant(name: str, records: Records, seed: int) -> Records:
    """Returns a split with the images or labels of one variant."""
    if name == "whole_image":
        return records
    if name == "permuted_labels":
        labels = permute_labels(records.labels, records.groups, seed)
        return dataclasses.replace(records, labels=labels)
    masks = records.lung_masks  # [n, side, side] bool
    if masks is None:
        masks = lungs.mask(records.images)
    change = lungs.without_lungs if name == "lungs_removed" else lungs.only_lungs
    return dataclasses.replace(records, images=change(records.images, masks))


def _fit_and_predict(
    train: Records, test_images: np.ndarray, classes: int, config: TrainConfig, name: str
) -> np.ndarray:
    """Trains a network in memory, keeping its last weights, and predicts other images.

    Args:
      train: the training split.
      test_images: [n, side, side, 1] uint8.
      classes: number of classes.
      config: resolved.
      name: beside the progress bar.

    Returns:
      [n, classes] float64.
    """
    keras.utils.clear_session()  # The graph of the variant before would stay in memory.
    strategy = distribution.make_strategy(config)
    images = layers.resample_images(train.images, _SIDE)  # [n, 128, 128, 1] uint8
    examples = Examples(images, train.labels, train.groups, train.filenames)
    total_steps = input_pipeline.number_of_steps(len(examples), config.epochs, config.batch_size)
    state = steps.create_train_state(
        config,
        strategy,
        classes,
        total_steps,
        steps_per_epoch=len(examples) / config.batch_size,
        labels=examples.labels,
    )
    workers = distribution.Workers(strategy)  # One process, however the run was trained.
    batches = distribution.distribute(
        workers, input_pipeline.training_batches(examples, config), config.batch_size
    )
    for _ in tqdm(range(total_steps), name, unit="step", delay=2, leave=False, disable=None):
        state.train_step(next(batches))
    return state.predict(layers.resample_images(test_images, _SIDE))
