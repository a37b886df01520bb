"""Controls: simple models that are shown something which cannot hold the disease, trained and scored on the same split.

If the file's header, two statistics of the pixels, the border or the corners tell the classes apart, a network can too, and its
score says nothing of lungs by itself (DeGrave 2021, doi:10.1038/s42256-021-00338-7; Maguolo & Nanni 2021,
doi:10.1016/j.inffus.2021.04.008). Controls of weak sight see the lungs, but hardly: they show the scale.
"""

import dataclasses

import cv2
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

from trainer.analysis import intervals, metrics
from trainer.analysis.intervals import Estimate
from trainer.data.records import Records

# From the one that sees least to the one that sees most.
NO_LUNG = {
    "header": "the file's header alone: width, height, channels, bytes a pixel",
    "mean_and_deviation": "two numbers: the mean and the standard deviation of the pixels",
    "corners": "the four corners, without the outermost edge",
    "border": "strips along the four edges, without the corners",
}
WEAK_SIGHT = {
    "histogram": "how often each grey level occurs, not where",
    "shuffled_patches": "a hundred patches in no order: how bright, how uneven, how sharp each is",
    "thumbnail_16": "a thumbnail of 16 × 16 pixels",
}

_TREES = 300
_EDGE, _STRIP, _CORNER = (
    0.035,
    0.06,
    0.18,
)  # Shares of the side: the outermost edge, a border strip, a corner square.
_PATCHES = 10


@dataclasses.dataclass(frozen=True)
class Control:
    """A control and what it scores.

    Attributes:
      name: as in `NO_LUNG` or `WEAK_SIGHT`.
      kind: no_lung or weak_sight.
      what: what it sees, in words.
      probabilities: [n_test, classes] float64; NaN where it could not be trained.
      accuracy, roc_auc: on test, with intervals over groups.
    """

    name: str
    kind: str
    what: str
    probabilities: np.ndarray
    accuracy: Estimate
    roc_auc: Estimate


def run(
    train: Records,
    test: Records,
    class_names: tuple[str, ...],
    positive_class: str | None,
    seed: int = 0,
) -> list[Control]:
    """Trains each control on train and scores it on test, the no-lung controls first.

    The model is a random forest (Breiman 2001, doi:10.1023/A:1010933404324) for all, with nothing chosen by its scores.

    Args:
      train, test: of one set, in groups that hold their copies.
      class_names, positive_class: as in `metrics.scores`.
      seed: of the forests.

    Returns:
      the controls; where train or test hold a single class, without numbers.
    """
    known = {name: ("no_lung", what) for name, what in NO_LUNG.items()}
    known |= {name: ("weak_sight", what) for name, what in WEAK_SIGHT.items()}
    return [
        _control(name, kind, what, train, test, class_names, positive_class, seed)
        for name, (kind, what) in tqdm(
            known.items(), "controls", leave=False, delay=2, disable=None
        )
    ]


def shortcuts_found(found: list[Control]) -> list[str]:
    """The no-lung controls that do better than chance (the lower end of the area's interval is above 0.5), the worst first.

    Controls whose interval reaches the greatest area count as equally bad; of these the one that sees least comes first, since
    what it sees explains the others' scores too.
    """
    bad = [
        control
        for control in found
        if control.kind == "no_lung"
        and control.roc_auc.value is not None
        and control.roc_auc.low > 0.5
    ]
    if not bad:
        return []
    greatest = max(control.roc_auc.value for control in bad)
    order = list(NO_LUNG)
    return [
        control.name
        for control in sorted(
            bad,
            key=lambda control: (
                (0, order.index(control.name))
                if control.roc_auc.high >= greatest
                else (1, -control.roc_auc.value)
            ),
        )
    ]


def features(name: str, records: Records) -> np.ndarray:
    """What a control sees of each image, [n, d] float64; `name` as in `NO_LUNG` or `WEAK_SIGHT`."""
    if name == "header":
        header = records.header
        pixels = np.maximum(header["width"] * header["height"], 1)
        columns = (
            header["width"],
            header["height"],
            header["channels"],
            header["byte_size"] / pixels,
        )
        return np.stack(columns, axis=1).astype(np.float64)
    seen = {
        "mean_and_deviation": _mean_and_deviation,
        "corners": _corners,
        "border": _border,
        "histogram": _histogram,
        "shuffled_patches": _shuffled_patches,
        "thumbnail_16": _thumbnail,
    }[name]
    return np.stack([seen(image[..., 0]) for image in records.images]).astype(np.float64)


def _control(
    name: str,
    kind: str,
    what: str,
    train: Records,
    test: Records,
    class_names: tuple[str, ...],
    positive_class: str | None,
    seed: int,
) -> Control:
    present = np.unique(train.labels)
    if len(present) < 2 or not len(test):
        missing = intervals.none(
            "train holds a single class" if len(test) else "no test image", test.groups
        )
        return Control(
            name, kind, what, np.full((len(test), len(class_names)), np.nan), missing, missing
        )
    forest = RandomForestClassifier(_TREES, random_state=seed, n_jobs=2).fit(
        features(name, train), train.labels
    )
    forest.n_jobs = 1  # Threads add the trees' votes up in any order, and the last bit follows it.
    probabilities = np.zeros((len(test), len(class_names)))
    probabilities[:, present] = forest.predict_proba(features(name, test))
    scores = metrics.scores(test.labels, probabilities, test.groups, class_names, positive_class)
    return Control(name, kind, what, probabilities, scores["accuracy"], scores["roc_auc"])


def _mean_and_deviation(image: np.ndarray) -> np.ndarray:
    return np.array([image.mean(), image.std()])


def _corners(image: np.ndarray) -> np.ndarray:
    """The corner squares inside the outermost edge, 12 × 12 each, mirrored so that the image's corner is at the origin."""
    first, last = round(_EDGE * len(image)), round(_CORNER * len(image))
    turned = (image, image[:, ::-1], image[::-1], image[::-1, ::-1])
    return np.concatenate([_shrunk(view[first:last, first:last], 12, 12) for view in turned])


def _border(image: np.ndarray) -> np.ndarray:
    """Strips along the edges, six pixels deep and 16 long each, from the edge inwards; the corners are left out."""
    depth, corner = round(_STRIP * len(image)), round(_CORNER * len(image))
    turned = (image, image[::-1], image.T, image.T[::-1])
    return np.concatenate([_shrunk(view[:depth, corner:-corner], 16, 6) for view in turned])


def _histogram(image: np.ndarray) -> np.ndarray:
    return np.bincount(image.ravel() >> 3, minlength=32) / image.size


def _shuffled_patches(image: np.ndarray) -> np.ndarray:
    """Mean, deviation and mean gradient of each patch, each of the three sorted by itself: what shuffling leaves."""
    side = len(image) // _PATCHES
    cut = (
        image[: side * _PATCHES, : side * _PATCHES]
        .astype(np.float32)
        .reshape(_PATCHES, side, _PATCHES, side)
    )
    patches = cut.swapaxes(1, 2).reshape(-1, side, side)
    gradient = np.abs(np.diff(patches, axis=1)).mean(axis=(1, 2)) + np.abs(
        np.diff(patches, axis=2)
    ).mean(axis=(1, 2))
    return np.concatenate(
        [
            np.sort(values)
            for values in (patches.mean(axis=(1, 2)), patches.std(axis=(1, 2)), gradient)
        ]
    )


def _thumbnail(image: np.ndarray) -> np.ndarray:
    return _shrunk(image, 16, 16)


def _shrunk(part: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(
        np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_AREA
    ).ravel()
