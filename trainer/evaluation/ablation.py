"""The small network retrained on what should not suffice, and on what should: lungs removed, lungs alone, labels permuted.

Part of `python -m trainer.audit --workdir=…`.
"""

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
from tqdm import tqdm

from trainer.analysis.predictions import Predictions
from trainer.config import TrainConfig, resolved
from trainer.data import lungs
from trainer.data.records import Records
from trainer.training import augment, distribution, input_pipeline, layers, models, steps

SIDE = 128
_EPOCHS = 13
_EVALUATION_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Retrained:
    """One retraining.

    Attributes:
      name: whole_image, lungs_removed, lungs_only or permuted_labels.
      what: one sentence on what the network saw.
      expected: one sentence on what it should score.
      said: what it said of the test split; with permuted labels `said.labels` are permuted too.
    """

    name: str
    what: str
    expected: str
    said: Predictions


def retrain(
    train: Records, test: Records, class_names: tuple[str, ...], seed: int = 0
) -> Iterator[Retrained]:
    """Trains `compact` at 128 pixels four times and yields what each said of test.

    Args:
      train, test: the splits; where lung masks are known (phantom) they are used, else `lungs.mask` approximates them.
      class_names: in label order.
      seed: of weights, order, augmentation and permutation.
    """
    config = resolved(
        TrainConfig(
            model="compact",
            image_size=SIDE,
            epochs=_EPOCHS,
            seed=seed,
            validation_fraction=0.0,
            strategy="one_device",
        )
    )
    masks = [
        part.lung_masks if part.lung_masks is not None else lungs.mask(part.images)
        for part in (train, test)
    ]
    about = "true" if train.lung_masks is not None else "approximate"
    variants = [
        (
            "whole_image",
            "the whole image",
            "what the small network can do",
            lambda images, _: images,
        ),
        (
            "lungs_removed",
            f"everything but the lung fields ({about} masks)",
            "chance, if the score comes from the lungs",
            lungs.without_lungs,
        ),
        (
            "lungs_only",
            f"the lung fields alone ({about} masks)",
            "as much as the whole image, if the score comes from the lungs",
            lungs.only_lungs,
        ),
    ]
    for name, what, expected, change in variants:
        changed = [
            change(part.images, mask) for part, mask in zip((train, test), masks, strict=True)
        ]
        said = _said(changed, train.labels, test.labels, train, test, class_names, config, name)
        yield Retrained(name, what, expected, said)
    labels = [permuted(part.labels, part.groups, seed) for part in (train, test)]
    said = _said(
        [train.images, test.images], *labels, train, test, class_names, config, "permuted_labels"
    )
    yield Retrained(
        "permuted_labels",
        "the whole image, with the labels of patients exchanged at random",
        "chance",
        said,
    )


def permuted(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Labels exchanged at random between whole groups, so that images of one patient keep a common one.

    Args:
      labels: [n] int.
      groups: [n] str.
      seed: of the exchange.

    Returns:
      [n] int; each group gets the first label of some group.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    rng = np.random.Generator(np.random.Philox(key=seed))
    return labels[first][rng.permutation(len(first))][member]


def _said(
    images: list[np.ndarray],
    train_labels: np.ndarray,
    test_labels: np.ndarray,
    train: Records,
    test: Records,
    class_names: tuple[str, ...],
    config: TrainConfig,
    name: str,
) -> Predictions:
    squares = [layers.resample_images(part, config.image_size) for part in images]
    examples = input_pipeline.Examples(squares[0], train_labels, train.groups, train.filenames)
    probabilities = fit(examples, len(class_names), config, name)(squares[1])
    return Predictions(test.filenames, test.groups, test_labels, probabilities, class_names)


def fit(train: input_pipeline.Examples, classes: int, config: TrainConfig, name: str):
    """Trains a network in memory, keeping its last weights.

    Args:
      train: the images, [n, image_size, image_size, 1] uint8.
      classes: how many.
      config: resolved.
      name: beside the progress bar.

    Returns:
      images [n, side, side, 1] uint8 → probabilities [n, classes] float64.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(config.seed)
    strategy = distribution.make_strategy(config)  # Never multi_worker: audits run in one process.
    total = input_pipeline.number_of_steps(len(train), config.epochs, config.batch_size)
    rate = steps.make_rate(config, total, len(train) / config.batch_size)
    with strategy.scope():
        model = models.build(config, classes)
        optimizer = steps.make_optimizer(config, rate)
        optimizer.build(model.trainable_variables)
    step = steps.make_train_step(
        model, optimizer, strategy, config, steps.class_weights(train.labels, classes, False)
    )
    batches = input_pipeline.training_batches(
        train, augment.Limits.from_config(config), config.batch_size, config.seed
    )
    dealt = distribution.deal(distribution.Workers(strategy), batches, config.batch_size)
    for _ in tqdm(range(total), name, unit="step", delay=2, leave=False, disable=None):
        step(next(dealt))
    return steps.make_predict(model, strategy, _EVALUATION_BATCH)
