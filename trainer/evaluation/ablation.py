"""Small networks retrained on changed images or labels, and on painted opacities.

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

from trainer.analysis import finding_metrics, metrics
from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig
from trainer.data import lungs, views
from trainer.data.records import Records
from trainer.evaluation.data_audit import AuditedSet
from trainer.evaluation.description import plain
from trainer.training import distribution, input_pipeline, layers, models, steps
from trainer.training.input_pipeline import Examples

# Small, since it is trained five times.
_SIDE = 128
_EPOCHS = 13
_PAINTED_EPOCHS = 40

_PAINTED = "painted_opacities"

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
    "lung_outlines": (
        "the outline of the lungs alone, white on black ({masks} masks)",
        "what size and shape of the lungs tell, without their inside",
    ),
    "permuted_labels": (
        "the whole image, with the labels of patients exchanged at random",
        "chance",
    ),
    _PAINTED: (
        "opacities painted into the lungs of the other classes' images; it sees no {positive}",
        "what opacities alone tell, whatever hospital each class is from",
    ),
}


def retrain(dataset: AuditedSet, seed: int = 0) -> list[dict[str, Any]]:
    """Trains a small network on each variant and scores it on test.

    `compact` at 128 pixels, and `opacity` on painted opacities.

    Args:
      dataset: the set; `lungs.mask` predicts lung masks that are unknown.
      seed: of weights, order, augmentation and permutation.

    Returns:
      Rows of audit.json: name; what (the network's input) and expected (the score), in words; shown
      (the AUC as text), roc_auc and accuracy, and of several findings an image findings (name →
      AUC). With permuted labels those of test are permuted too.
      Opacities are painted only where the set has a positive class.
    """
    splits = dataset.merged()  # So that permuted labels are equal within copies.
    masks = "true" if splits["train"].lung_masks is not None else "predicted"
    rows = []
    for name, (what, expected) in _VARIANTS.items():
        if name == _PAINTED and dataset.positive_class is None:
            continue
        # One variant at a time: each takes as much memory as the data set.
        train, config, positive = _prepare(name, splits["train"], dataset, seed)
        test = _variant(name, splits["test"], seed)
        predictions = Predictions(
            test.filenames,
            test.groups,
            test.labels,
            _fit_and_predict(train, test.images, len(dataset.class_names), config, positive),
            dataset.class_names,
            dataset.positive_class,
        )
        scores = metrics.scores(predictions)
        row = {
            "name": name,
            "what": what.format(masks=masks, positive=dataset.positive_class),
            "expected": expected,
            "shown": str(scores["roc_auc"]),  # As the screen and the report print it.
            "roc_auc": plain(scores["roc_auc"]),
            "accuracy": plain(scores["accuracy"]),
        }
        if predictions.multi_label:
            row["findings"] = plain(finding_metrics.each_auc(predictions))
        rows.append(row)
    return rows


def permute_labels(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Exchanges labels at random between whole groups.

    Args:
      labels: [n] int, or [n, findings] int.
      groups: [n] str.
      seed: of the exchange.

    Returns:
      Like `labels`; each group gets the first label of some group.
    """
    # [groups] int, the first image of each; [n] int, the group of each image.
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    rng = np.random.Generator(np.random.Philox(key=seed))
    return labels[first][rng.permutation(len(first))][member]


def _prepare(
    name: str, train: Records, dataset: AuditedSet, seed: int
) -> tuple[Examples, TrainConfig, int | None]:
    """Prepares the training of one variant.

    Returns:
      (the examples, the resolved configuration, the class of an image with paint).
    """
    painted = name == _PAINTED
    config = models.resolve(
        TrainConfig(
            model="opacity" if painted else "compact",
            image_size=_SIDE,
            epochs=_PAINTED_EPOCHS if painted else _EPOCHS,
            seed=seed,
            validation_fraction=0.0,  # Nothing is selected: the last weights count.
            strategy="one_device",
        )
    )
    variant = _variant(name, train, seed)
    images = layers.resample_images(variant.images, _SIDE)  # [n, 128, 128, 1] uint8
    examples = Examples(images, variant.labels, variant.groups, variant.filenames)
    if not painted:
        return examples, config, None
    masks = [square.lungs for square in _lung_squares(train.images) if square.lungs is not None]
    examples = dataclasses.replace(examples, lungs=np.stack(masks)[..., None] * np.uint8(255))
    positive = dataset.class_names.index(dataset.positive_class)
    return examples.take(np.flatnonzero(examples.labels != positive)), config, positive


def _lung_squares(images: np.ndarray) -> list[views.Square]:
    return [views.make_square(image[..., 0], _SIDE, views.LUNGS) for image in images]


def _variant(name: str, records: Records, seed: int) -> Records:
    """Returns a split with the images or labels of one variant."""
    if name == _PAINTED:
        squares = [square.pixels for square in _lung_squares(records.images)]
        return dataclasses.replace(records, images=np.stack(squares)[..., None])
    if name == "whole_image":
        return records
    if name == "permuted_labels":
        labels = permute_labels(records.labels, records.groups, seed)
        return dataclasses.replace(records, labels=labels)
    masks = records.lung_masks  # [n, side, side] bool
    if masks is None:
        masks = lungs.mask(records.images)
    if name == "lungs_removed":
        images = lungs.without_lungs(records.images, masks)
    elif name == "lungs_only":
        images = lungs.only_lungs(records.images, masks)
    else:
        images = lungs.outlines(masks)
    return dataclasses.replace(records, images=images)


def _fit_and_predict(
    examples: Examples,
    test_images: np.ndarray,
    classes: int,
    config: TrainConfig,
    positive: int | None,
) -> np.ndarray:
    """Trains a network in memory, keeping its last weights, and predicts other images.

    Args:
      examples: the training split.
      test_images: [n, side, side, 1] uint8.
      classes: number of classes.
      config: resolved.
      positive: the class of an image with paint.

    Returns:
      [n, classes] float64.
    """
    keras.utils.clear_session()  # The graph of the variant before would stay in memory.
    strategy = distribution.make_strategy(config)
    total_steps = input_pipeline.number_of_steps(len(examples), config.epochs, config.batch_size)
    state = steps.create_train_state(
        config,
        strategy,
        classes,
        total_steps,
        steps_per_epoch=len(examples) / config.batch_size,
        labels=examples.labels,
        positive=positive,
    )
    workers = distribution.Workers(strategy)  # One process, however the run was trained.
    batches = distribution.distribute(
        workers,
        input_pipeline.training_batches(examples, config, positive=positive),
        config.batch_size,
    )
    bar = tqdm(range(total_steps), "retraining", unit="step", delay=2, leave=False, disable=None)
    for _ in bar:
        state.train_step(next(batches))
    return state.predict(layers.resample_images(test_images, _SIDE))
