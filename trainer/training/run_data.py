"""The examples of a run: its splits, validation carved out, and the class that paint stands for.

train, validation, notes = run_data.load_train(run, cache, near_duplicates, workers)
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from trainer.analysis.duplicates import NearDuplicates
from trainer.data import split
from trainer.data.run import Run
from trainer.errors import UserError
from trainer.training import aligned, input_pipeline, models
from trainer.training.distribution import Workers
from trainer.training.input_pipeline import Examples


def positive_index(run: Run) -> int | None:
    """Returns the index of the positive class; None without one and where nothing is painted.

    Raises:
      UserError: opacities are painted, and the set has no positive class.
    """
    if not run.config.paint_opacities:
        return None
    if run.data.positive_class is None:
        raise UserError(
            f"{run.data.name} has no positive class that an image with painted opacities could be "
            "of; leave --paint_opacities out."
        )
    return run.data.class_names.index(run.data.positive_class)


def load_split(
    run: Run, name: str, cache: str, near_duplicates: NearDuplicates, workers: Workers
) -> Examples:
    """Loads a split with near-duplicates merged into one group."""
    masked = name == "train" and bool(run.config.paint_opacities or run.config.swap_backgrounds)
    with workers.chief_runs_first():  # The chief writes the cache file, the others read it.
        examples = input_pipeline.load(run.data.builder, name, run.image_size, cache, masked)
    return near_duplicates.merge_records(examples)


def load_train(
    run: Run,
    cache: str,
    near_duplicates: NearDuplicates,
    workers: Workers,
    find_opacities: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[Examples, Examples, list[str]]:
    """Loads train, and the validation split or what is carved out of train.

    A cross-validation does not use the validation split: each fold holds out images of train.

    Args:
      run: an open run.
      cache: memory, disk or none.
      near_duplicates: images that count as one group.
      workers: the processes that train together.
      find_opacities: from images to opacity maps, [n, side, side, 1] uint8; those of the positive
        images become their targets. Without it a source-free model sees no positive image.

    Raises:
      UserError: maps are to be learnt, and the images are not in memory.

    Returns:
      (train, validation, a line on images without lungs where there are any).
    """
    # Freed on return: the two subsets are copies of its images.
    labelled = load_split(run, "train", cache, near_duplicates, workers)
    held_out = None
    if "validation" in run.data.builder.info.splits and not run.config.folds:
        held_out = load_split(run, "validation", cache, near_duplicates, workers)
        train = np.arange(len(labelled))
        validation = train[:0]
    else:
        train, validation = split.split_train(labelled.labels, labelled.groups, run.config)
    if find_opacities:
        labelled = _with_opacities(labelled, positive_index(run), find_opacities)
    elif models.is_source_free(run.config):
        train = train[labelled.labels[train] != positive_index(run)]
    has_lungs = labelled.has_lungs
    if held_out is None:
        held_out = labelled.take(validation)
    if has_lungs is None or has_lungs.all():
        return labelled.take(train), held_out, []
    treatment = "seen whole"
    if run.config.on_no_lungs == "drop":
        treatment = "left out of training"
        train = train[has_lungs[train]]
    message = f"no lungs were found on {(~has_lungs).sum()} of {len(has_lungs)} images; {treatment}"
    return labelled.take(train), held_out, [message]


def _with_opacities(
    examples: Examples, positive: int | None, find_opacities: Callable[[np.ndarray], np.ndarray]
) -> Examples:
    if not isinstance(examples.images, np.ndarray):
        raise UserError(
            "--rounds and --teacher keep a map of each image in memory; give --cache=memory, and "
            "no --data_service."
        )
    rows = np.flatnonzero(examples.labels == positive)
    opacities = aligned.empty(examples.images.shape)
    opacities[:] = 0
    opacities[rows] = find_opacities(examples.images[rows])
    return dataclasses.replace(examples, opacities=opacities)
