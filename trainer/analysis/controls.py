"""Controls: simple models trained on inputs that cannot show the disease.

    results = run(train, test, class_names, positive_class)
    detected_shortcuts(results)    # ["header"]

A control is a function under `@_no_lung` or `@_weak_sight`, with its input in words.

If the file's header, two statistics of the pixels, the border or the corners tell the classes
apart, a network can use them too, and its score alone says nothing of lungs (DeGrave 2021,
doi:10.1038/s42256-021-00338-7; Maguolo & Nanni 2021, doi:10.1016/j.inffus.2021.04.008). Controls of
weak sight see the lungs in little detail: they show the scale.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from trainer.analysis import intervals, metrics
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions

# Name of a control → its input in words. From the one that sees least to the one that sees most.
NO_LUNG: dict[str, str] = {}
WEAK_SIGHT: dict[str, str] = {}

_TREES = 300
# Shares of the side length.
_EDGE = 0.035  # The outermost edge, left out of the corners.
_STRIP = 0.06  # Depth of a border strip.
_CORNER = 0.18  # Side of a corner square.
_PATCHES = 10  # Patches a side.


class _Records(Protocol):
    """The fields of `data.records.Records` that controls use.

    Attributes:
      images: [n, side, side, 1] uint8.
      labels: [n] int, or [n, findings] int with 1, 0, and -1 for unknown.
      groups, filenames: [n] str.
      header: name → [n]: width, height, channels, byte_size.
    """

    @property
    def images(self) -> np.ndarray: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def groups(self) -> np.ndarray: ...
    @property
    def filenames(self) -> np.ndarray: ...
    @property
    def header(self) -> dict[str, np.ndarray]: ...


# Records → the input of the control for each image, [n, d] float64.
_Input = Callable[[_Records], np.ndarray]
# Name of a control → its input. Controls register below, in the order of the tables above.
INPUTS: dict[str, _Input] = {}


@dataclasses.dataclass(frozen=True)
class Control:
    """A control and its scores.

    Attributes:
      name: as in `NO_LUNG` or `WEAK_SIGHT`.
      kind: no_lung or weak_sight.
      what: the input it sees, in words.
      predictions: of the test images; probabilities are NaN where it could not be trained.
      accuracy, roc_auc: on test, with intervals over groups.
    """

    name: str
    kind: str
    what: str
    predictions: Predictions
    accuracy: Estimate
    roc_auc: Estimate

    def finding(self, index: int) -> "Control":
        """Returns the control of one finding, with its scores."""
        predictions = self.predictions.finding(index)
        missing = intervals.missing("no test image with and without it", predictions.groups)
        scores = {"accuracy": missing, "roc_auc": missing}
        if len(np.unique(predictions.labels)) == 2 and np.isfinite(predictions.probabilities).all():
            scores = metrics.scores(predictions)
        return dataclasses.replace(
            self,
            predictions=predictions,
            accuracy=scores["accuracy"],
            roc_auc=scores["roc_auc"],
        )


def run(
    train: _Records,
    test: _Records,
    class_names: tuple[str, ...],
    positive_class: str | None,
    seed: int = 0,
) -> list[Control]:
    """Trains each control on train and scores it on test.

    Every model is a random forest (Breiman 2001, doi:10.1023/A:1010933404324); nothing is chosen by
    its scores.

    Args:
      train: Records, with merged groups.
      test: Records of the same set, with merged groups.
      class_names: in label order.
      positive_class: the class that sensitivity speaks of; None with more than two.
      seed: of the forests.

    Returns:
      the controls, the no-lung ones first; without numbers where train or test hold a single class.
      Of several findings an image each has a forest of its own.
    """
    untrained = Predictions(
        filenames=test.filenames,
        groups=test.groups,
        labels=test.labels,
        probabilities=np.full((len(test.labels), len(class_names)), np.nan),
        class_names=class_names,
        positive_class=positive_class,
    )
    bar = tqdm(NO_LUNG | WEAK_SIGHT, "controls", leave=False, delay=2, disable=None)
    return [_control(name, train, test, untrained, seed) for name in bar]


def shortcuts_by_finding(controls: list[Control]) -> dict[str, list[str]]:
    """Lists the shortcuts of each finding that has one, as `detected_shortcuts`.

    Intervals are widened for the number of findings (Bonferroni), or chance alone would give some.
    """
    if not controls:
        return {}
    names = controls[0].predictions.class_names
    quantile = stats.norm.ppf(1.0 - 0.025 / len(names)) / intervals.Z
    result = {}
    for index, name in enumerate(names):
        of_finding = [control.finding(index) for control in controls]
        if detected := detected_shortcuts(of_finding, widened=float(quantile)):
            result[name] = detected
    return result


def detected_shortcuts(controls: list[Control], widened: float = 1.0) -> list[str]:
    """Lists the no-lung controls that do better than chance, the worst shortcut first.

    Better than chance means that the lower bound of the AUC is above 0.5. Controls whose interval
    reaches the highest AUC count as equally bad; of these the one that sees least comes first,
    since its input explains the scores of the others too.

    Args:
      controls: of two classes, or more.
      widened: factor of the distance from the AUC to its lower bound.
    """
    aucs = {}
    for control in controls:
        if control.kind == "no_lung" and control.roc_auc.value is not None:
            value, low, high = control.roc_auc.numbers()
            if value - widened * (value - low) > 0.5:
                aucs[control.name] = (value, low, high)
    highest = max((value for value, _, _ in aucs.values()), default=1.0)

    def rank(name: str) -> tuple[int, float]:
        value, _, high = aucs[name]
        return (0, list(NO_LUNG).index(name)) if high >= highest else (1, -value)

    return sorted(aucs, key=rank)


def _control(
    name: str,
    train: _Records,
    test: _Records,
    untrained: Predictions,
    seed: int,
) -> Control:
    # `untrained` holds the test images with NaN probabilities.
    kind = "no_lung" if name in NO_LUNG else "weak_sight"
    what = (NO_LUNG | WEAK_SIGHT)[name]
    # Of several classes some may be missing.
    if len(np.unique(train.labels)) < 2 or not len(untrained):
        missing = intervals.missing(
            "train holds a single class" if len(untrained) else "no test image",
            test.groups,
        )
        return Control(name, kind, what, untrained, missing, missing)
    features = INPUTS[name]
    inputs = (features(train), features(test))  # [n, d], [n_test, d]
    probabilities = np.zeros_like(untrained.probabilities)  # [n_test, classes]
    if untrained.multi_label:
        for index, labels in enumerate(train.labels.T):
            labelled = labels >= 0
            classes, votes = _fit_forest(inputs[0][labelled], labels[labelled], inputs[1], seed)
            if 1 in classes:
                probabilities[:, index] = votes[:, list(classes).index(1)]
    else:
        classes, votes = _fit_forest(inputs[0], train.labels, inputs[1], seed)
        probabilities[:, classes] = votes
    predictions = untrained.with_probabilities(probabilities)
    scores = metrics.scores(predictions)
    return Control(name, kind, what, predictions, scores["accuracy"], scores["roc_auc"])


def _fit_forest(
    inputs: np.ndarray, labels: np.ndarray, test_inputs: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fits a forest; returns its classes ([c] int) and its votes on test ([n_test, c])."""
    forest = RandomForestClassifier(_TREES, random_state=seed, n_jobs=os.cpu_count())
    forest.fit(inputs, labels)
    # Threads add the votes of the trees in any order, which changes the last bit.
    forest.n_jobs = 1
    return forest.classes_, forest.predict_proba(test_inputs)


def _register(sentences: dict[str, str], sentence: str) -> Callable[[_Input], _Input]:
    def add(function: _Input) -> _Input:
        name = function.__name__.removeprefix("_")
        sentences[name] = sentence
        INPUTS[name] = function
        return function

    return add


_no_lung = functools.partial(_register, NO_LUNG)
_weak_sight = functools.partial(_register, WEAK_SIGHT)


def _of_each_image(function: Callable[[np.ndarray], np.ndarray]) -> _Input:
    # From a function of one image, [side, side] uint8, to one of all.
    @functools.wraps(function)
    def of_all(records: _Records) -> np.ndarray:
        return np.stack([function(image[..., 0]) for image in records.images]).astype(np.float64)

    return of_all


@_no_lung("the file's header alone: width, height, channels, bytes a pixel")
def _header(records: _Records) -> np.ndarray:
    pixels = np.maximum(records.header["width"] * records.header["height"], 1)
    columns = [records.header[name] for name in ("width", "height", "channels")]
    columns.append(records.header["byte_size"] / pixels)  # Bytes a pixel.
    return np.stack(columns, axis=1).astype(np.float64)


@_no_lung("two numbers: the mean and the standard deviation of the pixels")
@_of_each_image
def _mean_and_deviation(image: np.ndarray) -> np.ndarray:
    return np.array([image.mean(), image.std()])


@_no_lung("the four corners, without the outermost edge")
@_of_each_image
def _corners(image: np.ndarray) -> np.ndarray:
    """Shrinks the four corner squares to 12 × 12 each.

    They are mirrored so that the corner of the image, which is left out, is at the origin.
    """
    first = round(_EDGE * len(image))
    last = round(_CORNER * len(image))
    views = (image, image[:, ::-1], image[::-1], image[::-1, ::-1])
    return np.concatenate([_shrink(view[first:last, first:last], 12, 12) for view in views])


@_no_lung("strips along the four edges, without the corners")
@_of_each_image
def _border(image: np.ndarray) -> np.ndarray:
    # Strips are shrunk to 6 × 16 each.
    depth = round(_STRIP * len(image))
    corner = round(_CORNER * len(image))
    views = (image, image[::-1], image.T, image.T[::-1])  # Each has another edge on top.
    return np.concatenate([_shrink(view[:depth, corner:-corner], 16, 6) for view in views])


@_weak_sight("how often each grey level occurs, not where")
@_of_each_image
def _histogram(image: np.ndarray) -> np.ndarray:
    return np.bincount(image.ravel() >> 3, minlength=32) / image.size


@_weak_sight("a hundred patches in no order: how bright, how uneven, how sharp each is")
@_of_each_image
def _shuffled_patches(image: np.ndarray) -> np.ndarray:
    # Mean, deviation and gradient of each patch. Sorting each removes what shuffling would remove.
    side = len(image) // _PATCHES
    cropped = image[: side * _PATCHES, : side * _PATCHES].astype(np.float32)
    grid = cropped.reshape(_PATCHES, side, _PATCHES, side)
    patches = grid.swapaxes(1, 2).reshape(-1, side, side)  # [patches, side, side]
    vertical = np.abs(np.diff(patches, axis=1)).mean(axis=(1, 2))
    horizontal = np.abs(np.diff(patches, axis=2)).mean(axis=(1, 2))
    columns = [
        patches.mean(axis=(1, 2)),
        patches.std(axis=(1, 2)),
        vertical + horizontal,
    ]
    return np.sort(columns, axis=1).ravel()


@_weak_sight("a thumbnail of 16 × 16 pixels")
@_of_each_image
def _thumbnail_16(image: np.ndarray) -> np.ndarray:
    return _shrink(image, 16, 16)


def _shrink(view: np.ndarray, width: int, height: int) -> np.ndarray:
    contiguous = np.ascontiguousarray(view)
    shrunk = cv2.resize(contiguous, (width, height), interpolation=cv2.INTER_AREA)
    return shrunk.ravel()  # [height * width]
