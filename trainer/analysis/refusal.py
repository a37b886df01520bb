"""Refusal of pictures unlike the radiographs that the network was trained on.

    refusal = fit(train_images, train_features, train_groups)
    refusal.verdict(features, image)    # Verdict(refused=True, score=3.1, reason="…")

Two scores are computed; each is blind where the other sees. One is the distance of the network's
features to the nearest training radiographs: it sees noise and exposure. The other rates the
picture's edges: as those of a radiograph, or of one inverted, turned or cropped. The worse one
counts. `fit` takes training radiographs only. The result is a few arrays, stored with the model.
Scoring needs neither TensorFlow nor scikit-learn.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis import input_checks
from trainer.analysis.refusal_statistics import (
    alteration_odds,
    out_of_fold_scores,
    raw_scores,
    statistics_of,
    thresholds,
)

# More radiographs would make the model's file large and the answer no better.
_MAX_RADIOGRAPHS = 2000
# Of fewer than 49 scores none is exceeded with a chance of only 2 %.
_MIN_RADIOGRAPHS = 50
_MIN_GROUPS = 10
_CLEARLY_PASSED = 0.5
_UNLIKE = (
    "it is unlike the frontal chest radiographs the model was trained on: another picture, another "
    "view, or only a part of the chest"
)
_STRANGE = (
    "the model has seen no radiograph like it: exposure, contrast or noise lie outside those it "
    "was trained on, or it is no radiograph"
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Decision to answer or to refuse a picture.

    Attributes:
      refused: whether the model should not answer.
      score: 0 is ordinary, above 1 is refused; infinite for a blank picture or features that are no
        numbers.
      reason: one line for the person who sent the picture; empty where it is not refused.
    """

    refused: bool
    score: float
    reason: str


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Statistics of m training radiographs, with d features and k alterations.

    Attributes:
      neighbours: [m, d] float32, their features, squashed and standardised.
      scale: size of a feature.
      mean, deviation: [d] float32, of the squashed features.
      weights: [128, k] float32, of the log odds that edges come from an altered radiograph.
      bias: [k] float32, of the same.
      centre: [2] float64, median of the network's and of the edges' score out of fold.
      spread: [2] float64, from the median to a score of 1.
      images: number of radiographs behind the threshold.
      groups: number of patients behind the threshold.
      why: empty, or the reason that nothing is ever refused.
    """

    neighbours: np.ndarray
    scale: float
    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    images: int
    groups: int
    why: str = ""

    def score(self, features: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Scores pictures: 0 is ordinary, above 1 is refused.

        2 % of the training radiographs would be above 1.

        Args:
          features: [n, d] float, of the network.
          images: [n, side, side] or [n, side, side, 1] uint8, as `radiograph.standardize` returns
            them.

        Returns:
          [n] float64; 0 where nothing is ever refused (`why`), infinite for blank pictures and
          features that are no numbers.
        """
        squares = _squares(images)
        if self.why:
            return np.zeros(len(squares))
        with np.errstate(invalid="ignore"):  # Features that are no numbers are refused below.
            scores = raw_scores(vars(self), features, input_checks.edge_directions(squares))
            worst = ((scores - self.centre) / self.spread).max(axis=1)
        blank = np.array([bool(input_checks.blank(square)) for square in squares])
        return np.where(blank | ~np.isfinite(worst), np.inf, worst)

    def verdict(self, features: np.ndarray, image: np.ndarray) -> Verdict:
        """Judges one picture.

        Args:
          features: [d] float, of the network.
          image: [side, side] or [side, side, 1] uint8, the square they were computed from.
        """
        square = _squares(image[None])[0]
        score = float(self.score(features[None], square[None])[0])
        return Verdict(score > 1.0, score, self._reason(square) if score > 1.0 else "")

    def to_arrays(self) -> dict[str, Any]:
        """Returns the fields as arrays that `np.savez` stores without pickling."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> "Refusal":
        """Inverts `to_arrays`."""
        fields = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        # Scalars were stored as arrays without a dimension.
        return cls(
            **{name: value if value.ndim else value.item() for name, value in fields.items()}
        )

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        np.savez_compressed(path, **self.to_arrays())

    @classmethod
    def load(cls, path: Path) -> "Refusal":
        """Reads a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls.from_arrays(dict(arrays))

    def _edge_score(self, squares: np.ndarray) -> np.ndarray:
        odds = alteration_odds(
            input_checks.edge_directions(squares),
            self.weights,
            self.bias,
        )
        return (odds - self.centre[1]) / self.spread[1]  # [n], on the scale of `score`.

    def _reason(self, square: np.ndarray) -> str:
        if blank := input_checks.blank(square):
            return blank
        if self._edge_score(square[None])[0] <= 1.0:
            return _STRANGE
        # An alteration is named only if undoing it gives a picture that clearly passes: of a cat,
        # too, some alteration is the likeliest.
        restored = input_checks.restored(square)
        scores = self._edge_score(np.stack(list(restored.values())))
        if scores.min() >= _CLEARLY_PASSED:
            return _UNLIKE
        return f"it looks {list(restored)[scores.argmin()]}; correct that and send it again"


def fit(
    images: np.ndarray,
    features: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
) -> Refusal:
    """Fits the refusal to training radiographs; takes some 3 s for 640 of them.

    The network's score is the distance to the fifth nearest training radiograph (Sun 2022,
    arXiv:2204.06507) after an asinh that makes small features count, standardised. The edges' score
    is the log odds, by logistic regression, that the radiograph is altered in some way: outlier
    exposure (Hendrycks 2019, arXiv:1812.04606) with foreign pictures made of the training
    radiographs themselves. The scores of radiographs out of fold, split by patient, give the
    threshold: the conformal quantile (Vovk 2005, doi:10.1007/b106715) that the next radiograph
    exceeds with a chance of 2 %. The network itself saw these radiographs in training, so its score
    may be a little too strict with new ones.

    Args:
      images: [n, side, side, 1] uint8, training radiographs.
      features: [n, d] float, of the trained network.
      groups: [n] str, patients.
      seed: of the crops, the folds and, beyond 2000 radiographs, the sample.

    Returns:
      a refusal; below 50 radiographs or 10 patients one that refuses nothing and says why.

    Raises:
      ValueError: the arrays differ in length, or a feature is not a number.
    """
    # Imported here: only fitting needs it.
    from threadpoolctl import threadpool_limits

    squares = _squares(images)
    features = np.asarray(features, np.float64)
    if not len(squares) == len(features) == len(groups) or not np.isfinite(features).all():
        raise ValueError(
            "images, features and groups are of one length and features finite numbers"
        )
    rng = np.random.Generator(np.random.Philox(key=seed))  # Of the sample and the alterations.
    sample_size = min(len(squares), _MAX_RADIOGRAPHS)
    sample = np.sort(rng.choice(len(squares), sample_size, replace=False))
    squares = squares[sample]
    features = features[sample]
    groups = np.asarray(groups)[sample]
    patients = len(np.unique(groups))
    if len(squares) < _MIN_RADIOGRAPHS or patients < _MIN_GROUPS:
        return _never(features.shape[1], len(squares), patients)
    edges = input_checks.edges_with_altered(squares, rng)  # [n, 1 + k, 128]
    # The matrices are small: threads would wait for one another, several times as long.
    with threadpool_limits(1):
        centre, spread = thresholds(out_of_fold_scores(edges, features, groups, seed))
        statistics = statistics_of(edges, features)
    return Refusal(**statistics, centre=centre, spread=spread, images=len(squares), groups=patients)


def _squares(images: np.ndarray) -> np.ndarray:
    squares = images[..., 0] if images.ndim == 4 else images  # [n, side, side]
    if squares.ndim != 3 or squares.dtype != np.uint8:
        raise ValueError(
            f"images are [n, side, side] or [n, side, side, 1] uint8, not {images.shape} "
            f"{images.dtype}"
        )
    return squares


def _never(
    features: int,
    images: int,
    groups: int,
) -> Refusal:
    # Refuses nothing, for want of radiographs or patients.
    return Refusal(
        neighbours=np.zeros((0, features), np.float32),
        scale=1.0,
        mean=np.zeros(features, np.float32),
        deviation=np.ones(features, np.float32),
        weights=np.zeros((0, 0), np.float32),
        bias=np.zeros(0, np.float32),
        centre=np.zeros(2),
        spread=np.ones(2),
        images=images,
        groups=groups,
        why=(
            f"nothing is refused: {images} training radiographs of {groups} patients are too few "
            f"for a threshold ({_MIN_RADIOGRAPHS} of {_MIN_GROUPS} are needed)"
        ),
    )
