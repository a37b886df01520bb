"""When to say nothing: tells whether a picture is a radiograph like those the network was trained on.

Two things are looked at, each blind where the other sees: the network's features (how far is the nearest training
radiograph? It sees noise and exposure) and the picture's edges (does it look like a radiograph, or like one inverted,
turned or cropped?). The worse of the two counts. `fit` takes training radiographs and no others; what it finds is a few
arrays, stored with the model. Judging needs neither TensorFlow nor scikit-learn.
"""

import dataclasses
from pathlib import Path

import numpy as np

from trainer.analysis import input_checks, intervals
from trainer.analysis.intervals import Estimate

FALSE_REFUSALS = 0.02

_MOST = 2000  # Training radiographs looked at; more would make the model's file large and the answer no better.
_LEAST, _LEAST_GROUPS = (
    50,
    10,
)  # Of fewer than 49 scores none is exceeded with a chance of only 2 %.
_NEIGHBOUR, _FOLDS = 5, 10
_WITH_EASE = 0.5
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
    """Whether the model should keep silent on a picture, and why.

    Attributes:
      refused: whether it should.
      score: 0 is ordinary, above 1 is refused; infinite for a blank picture or features that are no numbers.
      reason: one line for the person who sent the picture; empty where it is not refused.
    """

    refused: bool
    score: float
    reason: str


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What is known of the training radiographs (m of them; d features, k alterations).

    Attributes:
      neighbours: [m, d] float32, their features, squashed and standardised.
      scale: the size of a feature; mean, deviation: [d] float32, of the squashed features.
      weights: [128, k] float32, bias: [k] float32; the log odds that edges come from an altered radiograph.
      centre, spread: [2] float64; median of the network's and the edges' score out of fold, and from there to 1.
      images, groups: how many radiographs and patients the threshold rests on.
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
        """How foreign each picture is: 0 is ordinary, above 1 is refused, as 2 % of the training radiographs would be.

        Args:
          features: [n, d] float, as given by the network.
          images: [n, side, side] or [n, side, side, 1] uint8, as `radiograph.standardize` gives them.

        Returns:
          [n] float64; 0 where nothing is ever refused (`why`), infinite for blank pictures and features that are no numbers.
        """
        squares = _squares(images)
        if self.why:
            return np.zeros(len(squares))
        with np.errstate(invalid="ignore"):  # Features that are no numbers are refused below.
            worst = self._parts(features, squares).max(axis=1)
        blank = np.array([bool(input_checks.blank(square)) for square in squares])
        return np.where(blank | ~np.isfinite(worst), np.inf, worst)

    def verdict(self, features: np.ndarray, image: np.ndarray) -> Verdict:
        """Judges one picture: its features [d] and the square ([side, side] or [side, side, 1] uint8) they came from."""
        square = _squares(image[None])[0]
        score = float(self.score(features[None], square[None])[0])
        return Verdict(score > 1.0, score, self._reason(square) if score > 1.0 else "")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The fields as arrays that `np.savez` stores without pickling."""
        return {
            field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Refusal":
        """The inverse of `to_arrays`."""
        return cls(
            **{
                field.name: arrays[field.name]
                if field.type is np.ndarray
                else field.type(arrays[field.name])
                for field in dataclasses.fields(cls)
            }
        )

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        np.savez_compressed(path, **self.to_arrays())

    @classmethod
    def load(cls, path: Path) -> "Refusal":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls.from_arrays(dict(arrays))

    def _parts(self, features: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """[n, 2]: the network's and the edges' score, each scaled so that the two compare."""
        rows = (_squash(features, self.scale) - self.mean) / self.deviation
        network = (_distance(rows, self.neighbours, _NEIGHBOUR) - self.centre[0]) / self.spread[0]
        return np.stack([network, self._edges(squares)], axis=1)

    def _edges(self, squares: np.ndarray) -> np.ndarray:
        odds = _odds(input_checks.edge_directions(squares), self.weights, self.bias)
        return (odds - self.centre[1]) / self.spread[1]

    def _reason(self, square: np.ndarray) -> str:
        if blank := input_checks.blank(square):
            return blank
        if self._edges(square[None])[0] <= 1.0:
            return _STRANGE
        # Named only if undoing it gives a picture that passes with ease: of a cat, too, some alteration is the likeliest.
        undone = input_checks.restored(square)
        scores = self._edges(np.stack(list(undone.values())))
        named = list(undone)[int(scores.argmin())]
        return (
            f"it looks {named}; correct that and send it again"
            if scores.min() < _WITH_EASE
            else _UNLIKE
        )


def fit(images: np.ndarray, features: np.ndarray, groups: np.ndarray, seed: int = 0) -> Refusal:
    """Learns from training radiographs which pictures to refuse; takes some 3 s for 640 radiographs.

    The network's part is the distance to the fifth nearest training radiograph (Sun 2022, arXiv:2204.06507) after an
    asinh that makes small features count, standardised. The edges' part is the log odds, by logistic regression, that
    the radiograph is altered in some way: outlier exposure (Hendrycks 2019, arXiv:1812.04606) with foreign pictures made
    of the training radiographs themselves. The scores of radiographs out of fold, patients kept whole, give the
    threshold: the conformal quantile (Vovk 2005, doi:10.1007/b106715) that the next radiograph exceeds with a chance of
    2 %. The network itself saw these radiographs in training, so its part may be a little too strict with new ones.

    Args:
      images: [n, side, side, 1] uint8, training radiographs.
      features: [n, d] float, what the trained network makes of them.
      groups: [n] str, patients.
      seed: of the crops, the folds and, beyond 2000 radiographs, the sample.

    Returns:
      a refusal; one that refuses nothing and says why where there are under 50 radiographs or 10 patients.

    Raises:
      ValueError: the arrays differ in length, or a feature is not a number.
    """
    from threadpoolctl import threadpool_limits

    squares, features = _squares(images), np.asarray(features, np.float64)
    if not len(squares) == len(features) == len(groups) or not np.isfinite(features).all():
        raise ValueError(
            "images, features and groups are of one length and features finite numbers"
        )
    rng = np.random.Generator(np.random.Philox(key=seed))
    kept = np.sort(rng.choice(len(squares), min(len(squares), _MOST), replace=False))
    squares, features, groups = squares[kept], features[kept], np.asarray(groups)[kept]
    count = len(np.unique(groups))
    if len(squares) < _LEAST or count < _LEAST_GROUPS:
        return _never(features.shape[1], len(squares), count)
    edges = input_checks.edges_with_altered(squares, rng)
    with threadpool_limits(
        1
    ):  # The matrices are small: threads would wait for one another, several times as long.
        centre, spread = _calibration(_out_of_fold(edges, features, groups, seed))
        found = _statistics(edges, features)
    return Refusal(**found, centre=centre, spread=spread, images=len(squares), groups=count)


def risk_coverage(
    confidence: np.ndarray, correct: np.ndarray, groups: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Estimate]:
    """How often the model errs on the images it answers, were it to answer only the most certain of them.

    El-Yaniv & Wiener 2010 (https://jmlr.org/papers/v11/el-yaniv10a.html); the area under the curve as in Geifman 2019
    (arXiv:1805.08206), images of equal confidence being answered together.

    Args:
      confidence: [n] float, higher is answered first: a probability, or the negative of `Refusal.score`.
      correct: [n] bool.
      groups: [n] str.
      seed: of the interval's resampling.

    Returns:
      (coverage, risk, area): shares [steps] of images answered, rising to 1, and of errors among them; the mean risk over
      all coverages, 0 at best, with its interval over groups.
    """
    if len(correct) == 0:
        return np.empty(0), np.empty(0), Estimate(None, None, None, 0, 0, "no image")
    coverage, risk, area = _curve(confidence, correct, np.ones(len(correct)))
    low, high = intervals.bootstrap(
        lambda weights: _curve(confidence, correct, weights)[2], groups, seed
    )
    return coverage, risk, Estimate(area, low, high, len(correct), len(np.unique(groups)))


def risk_coverage_figure(
    confidence: np.ndarray, correct: np.ndarray, groups: np.ndarray, path: Path, title: str
) -> Estimate:
    """Draws the risk–coverage curve into a PNG and returns its area; the arguments are those of `risk_coverage`."""
    from trainer.analysis.figures import plt

    coverage, risk, area = risk_coverage(confidence, correct, groups)
    figure, axis = plt.subplots(figsize=(5.5, 4), layout="constrained")
    axis.plot(coverage, risk, drawstyle="steps-post", label=f"area {area}")
    axis.axhline(
        1.0 - np.mean(correct),
        color="0.6",
        linestyle="--",
        linewidth=1,
        label="answering everything",
    )
    axis.set(
        xlabel="share of images answered, most certain first",
        ylabel="share of errors among them",
        xlim=(0, 1.01),
    )
    axis.set_ylim(bottom=0.0)
    axis.legend()
    axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return area


def _curve(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    order = np.argsort(-confidence, kind="stable")
    confidence, weights = confidence[order], weights[order]
    ends = np.append(confidence[1:] != confidence[:-1], True)
    answered = weights.cumsum()[ends]
    answered, errors = (
        answered[answered > 0],
        (weights * ~correct[order]).cumsum()[ends][answered > 0],
    )
    risk, total = errors / answered, answered[-1]
    return answered / total, risk, float(risk @ np.diff(answered, prepend=0) / total)


def _squares(images: np.ndarray) -> np.ndarray:
    squares = images[..., 0] if images.ndim == 4 else images
    if squares.ndim != 3 or squares.dtype != np.uint8:
        raise ValueError(
            f"images are [n, side, side] or [n, side, side, 1] uint8, not {images.shape} "
            f"{images.dtype}"
        )
    return squares


def _never(features: int, images: int, groups: int) -> Refusal:
    why = (
        f"nothing is refused: {images} training radiographs of {groups} patients are too few for a "
        f"threshold ({_LEAST} of {_LEAST_GROUPS} are needed)"
    )
    nothing, zeros = np.zeros((0, features), np.float32), np.zeros(features, np.float32)
    return Refusal(
        nothing,
        1.0,
        zeros,
        zeros + 1,
        np.zeros((0, 0), np.float32),
        np.zeros(0, np.float32),
        np.zeros(2),
        np.ones(2),
        images,
        groups,
        why,
    )


def _statistics(edges: np.ndarray, features: np.ndarray) -> dict:
    scale = float(np.abs(features).mean()) or 1.0
    squashed = _squash(features, scale)
    mean, deviation = squashed.mean(axis=0), squashed.std(axis=0)
    deviation = np.maximum(
        deviation, 1e-3 * deviation.mean() + 1e-9
    )  # A feature that never changes may change a little.
    weights, bias = input_checks.discriminants(edges)
    return {
        "neighbours": ((squashed - mean) / deviation).astype(np.float32),
        "scale": scale,
        "mean": mean.astype(np.float32),
        "deviation": deviation.astype(np.float32),
        "weights": weights,
        "bias": bias,
    }


def _squash(features: np.ndarray, scale: float) -> np.ndarray:
    return np.arcsinh(10.0 * np.asarray(features, np.float64) / scale)


def _distance(rows: np.ndarray, neighbours: np.ndarray, order: int) -> np.ndarray:
    """[n]: from each row to its `order`-th nearest neighbour; written out, since inference does without scikit-learn."""
    squared = (
        (rows**2).sum(axis=1)[:, None] + (neighbours**2).sum(axis=1) - 2.0 * rows @ neighbours.T
    )
    return np.sqrt(np.maximum(np.partition(squared, order - 1, axis=1)[:, order - 1], 0.0))


def _odds(edges: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """[n]: the log odds that the picture is altered in any way, against none."""
    return np.logaddexp.reduce(edges.astype(np.float64) @ weights + bias, axis=1)


def _out_of_fold(
    edges: np.ndarray, features: np.ndarray, groups: np.ndarray, seed: int
) -> np.ndarray:
    """[n, 2]: what both parts say of each radiograph when it and its patient's others were not learnt from."""
    from sklearn.model_selection import GroupKFold

    found = np.empty((len(groups), 2))
    for learnt, held_out in GroupKFold(_FOLDS, shuffle=True, random_state=seed).split(
        groups, groups=groups
    ):
        known = _statistics(edges[learnt], features[learnt])
        rows = (_squash(features[held_out], known["scale"]) - known["mean"]) / known["deviation"]
        found[held_out, 0] = _distance(rows, known["neighbours"], _NEIGHBOUR)
        found[held_out, 1] = _odds(edges[held_out, 0], known["weights"], known["bias"])
    return found


def _calibration(held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(centre, spread), [2] each, by which the worse of both parts exceeds 1 in 2 % of radiographs.

    The network's part gets a quarter of these: what it alone sees lies far beyond any radiograph, while a crop is a near
    miss to the edges.
    """
    centre = np.median(held_out, axis=0)
    limits = [
        np.quantile(held_out[:, 0], 1.0 - FALSE_REFUSALS / 4),
        np.quantile(held_out[:, 1], 1.0 - FALSE_REFUSALS),
    ]
    spread = np.maximum(limits - centre, 1e-9)
    worst = np.sort(((held_out - centre) / spread).max(axis=1))
    rank = int(np.ceil((len(worst) + 1) * (1.0 - FALSE_REFUSALS)))
    return centre, spread * max(worst[rank - 1], 1e-9)
