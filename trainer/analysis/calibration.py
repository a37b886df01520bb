"""Whether probabilities mean what they say: calibration error, reliability diagram, and the temperature that mends them.

Two classes: the probability of the positive class against how often it is true. More: the probability of the class that was
taken against how often it is right.
"""

import dataclasses
from pathlib import Path

import numpy as np
from scipy import optimize, special
from sklearn.model_selection import GroupKFold

from trainer.analysis import intervals
from trainer.analysis.intervals import Estimate

_LEAST = 1e-12  # Logarithms of probabilities stop here: files hold eight decimals, and log(0) has no temperature.
_LEAST_IN_BIN = 10
_FOLDS = 5
_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Temperature:
    """What logits are divided by, and what that was worth on predictions it was not fitted to.

    Attributes:
      value: the temperature; 1 where none is applied.
      kept: whether it improved the held-out log-loss and is to be applied.
      gain: log-loss before minus after in nats, each image scored with the temperature of the other folds.
      why: empty, or why none is applied.
    """

    value: float
    kept: bool
    gain: Estimate
    why: str = ""


def fit_temperature(
    labels: np.ndarray, log_probabilities: np.ndarray, groups: np.ndarray, seed: int = 0
) -> Temperature:
    """Finds the temperature that gives out-of-fold predictions the least log-loss (Guo 2017, arXiv:1706.04599).

    It is fitted to all, after its worth was measured by cross-fitting over groups; without an error among the predictions it is
    never below 1, since their log-loss would only fall with it, down to certainty.

    Args:
      labels: [n] int.
      log_probabilities: [n, classes] float, logits or logarithms of probabilities, of images the model was not fitted to.
      groups: [n] str.
      seed: of the interval's resampling.
    """
    logits = np.maximum(
        log_probabilities.astype(np.float64),
        np.log(_LEAST) + log_probabilities.max(axis=1, keepdims=True),
    )
    folds = min(_FOLDS, len(np.unique(groups)))
    if folds < 2:
        return Temperature(
            1.0, False, intervals.none("fewer than two groups", groups), "fewer than two groups"
        )
    cooled = np.empty(len(labels))
    for fitted, held_out in GroupKFold(folds).split(logits, groups=groups):
        cooled[held_out] = _losses(
            labels[held_out], logits[held_out], _best_temperature(labels[fitted], logits[fitted])
        )
    gain = intervals.mean(_losses(labels, logits, 1.0) - cooled, groups, seed)
    temperature = _best_temperature(labels, logits)
    if temperature == 1.0 or gain.value <= 0:
        return Temperature(
            1.0,
            False,
            gain,
            "no temperature improves the log-loss of predictions it was not fitted to",
        )
    return Temperature(temperature, True, gain)


def apply(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [n, classes] at another temperature: softened above 1, sharpened below; each image's ranking stays."""
    return special.softmax(
        np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature, axis=1
    )


def errors(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The expected calibration error, and what it would read were the probabilities right.

    Bins of equal numbers of images; absolute differences, weighted by images, less the bias that chance gives them (Kumar 2019,
    arXiv:1909.10155; Bröcker 2012, doi:10.1007/s00382-011-1191-1): each bin's expected excess under a normal deviation of its
    own standard error, which goes by groups. Some bias stays where the probabilities are right, so compare with the band.
    The interval is the bootstrap's, over groups, moved to the debiased value; in simulation it held the truth 84 to 94 times in
    a hundred, so take it for too narrow. The band errs seldom: right probabilities lay above it 1 to 3 times in a hundred.

    Args:
      labels, probabilities, groups, class_names, positive_class: as in `metrics.scores`.
      seed: of the resampling.

    Returns:
      ece: in 0..1. ece_if_calibrated: median and 95 % band over labels drawn from the probabilities; images of one group share
      their draw where groups hold one class each, as patients do.
    """
    event, score = _event(labels, probabilities, class_names, positive_class)
    if len(labels) < 2 * _LEAST_IN_BIN or len(np.unique(groups)) < 2:
        missing = intervals.none(f"fewer than {2 * _LEAST_IN_BIN} images or two groups", groups)
        return {"ece": missing, "ece_if_calibrated": missing}
    bins, member = _bins(score), intervals.members(groups)
    value = float(_debiased(event[None] - score, bins, member)[0])

    def plain(weights: np.ndarray) -> dict[str, np.ndarray]:
        sums = (weights * (event - score)) @ np.eye(bins.max() + 1)[bins]
        return {"ece": np.abs(sums).sum(axis=1) / weights.sum(axis=1)}

    drawn = intervals.resample(plain, groups, seed, _RESAMPLES)["ece"]
    low, high = np.maximum(np.array(intervals.percentiles(drawn)) - np.mean(drawn) + value, 0.0)
    band = _debiased(_labels_if_calibrated(event, score, member, seed) - score, bins, member)
    n, count = len(labels), int(member.max()) + 1
    return {
        "ece": Estimate(value, float(low), float(max(high, value)), n, count),
        "ece_if_calibrated": Estimate(
            float(np.median(band)), *intervals.percentiles(band), n, count
        ),
    }


def reliability(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
) -> list[dict]:
    """What a reliability diagram shows, the least probable bin first.

    The arguments are those of `metrics.scores`.

    Returns:
      for each bin of about equal numbers of images {"low", "high", "mean": probabilities, "n": images, "share": Estimate}.
    """
    event, score = _event(labels, probabilities, class_names, positive_class)
    if not len(score):
        return []
    bins = _bins(score)
    return [
        {
            "low": float(score[inside].min()),
            "high": float(score[inside].max()),
            "mean": float(score[inside].mean()),
            "n": int(inside.sum()),
            "share": intervals.proportion(event[inside], groups[inside]),
        }
        for inside in (bins == number for number in range(bins.max() + 1))
    ]


def draw_reliability(
    diagrams: dict[str, tuple[np.ndarray, list[dict]]], path: Path, title: str
) -> None:
    """Reliability diagrams beside one another, with the histogram of the probabilities below each.

    Args:
      diagrams: caption ("before", "after") → (probabilities [n] in 0..1 of what is said, bins as `reliability` gives them).
      path: where the PNG goes.
      title: above the figure.
    """
    import matplotlib  # Here, so that who only applies a temperature does not wait for it.

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2,
        len(diagrams),
        figsize=(4.6 * len(diagrams), 5.6),
        layout="constrained",
        squeeze=False,
        sharex=True,
        height_ratios=(4, 1),
    )
    for (caption, (score, bins)), (above, below) in zip(diagrams.items(), axes.T, strict=True):
        above.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
        means, shares = [each["mean"] for each in bins], [each["share"] for each in bins]
        spread = [
            [share.value - share.low for share in shares],
            [share.high - share.value for share in shares],
        ]
        counts = [each["n"] for each in bins]
        above.errorbar(
            means,
            [share.value for share in shares],
            spread,
            fmt="o",
            color="#0072b2",
            capsize=3,
            markersize=5,
        )
        above.set(
            ylabel="how often it is true",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            title=f"{caption}\n({min(counts)} to {max(counts)} images a point)",
        )
        above.grid(alpha=0.3)
        below.hist(score, bins=20, range=(0, 1), color="#0072b2")
        below.set(xlabel="probability stated", ylabel="images")
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def stated(
    probabilities: np.ndarray, class_names: tuple[str, ...], positive_class: str | None
) -> np.ndarray:
    """The probability whose truth is asked, [n]: of the positive class, or with more classes of the one that was taken."""
    two = positive_class is not None and len(class_names) == 2
    return probabilities[:, class_names.index(positive_class)] if two else probabilities.max(axis=1)


def _event(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
    positive_class: str | None,
) -> tuple[np.ndarray, np.ndarray]:
    two = positive_class is not None and len(class_names) == 2
    event = (
        labels == class_names.index(positive_class)
        if two
        else labels == probabilities.argmax(axis=1)
    )
    return event, stated(probabilities, class_names, positive_class).astype(np.float64)


def _bins(score: np.ndarray) -> np.ndarray:
    """The bin of each image, [n] int from 0: about 20 images each, 2 to 15 bins, equal probabilities always together."""
    count = int(np.clip(len(score) // 20, 2, 15))
    edges = np.unique(np.quantile(score, np.linspace(0, 1, count + 1)[1:-1], method="inverted_cdf"))
    return np.unique(np.searchsorted(edges, score, "left"), return_inverse=True)[1]


def _debiased(residuals: np.ndarray, bins: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The debiased error of each row of residuals (event minus probability), [r, n] → [r], never below 0."""
    order = np.lexsort((member, bins))
    bins, member = bins[order], member[order]
    cells = np.flatnonzero(
        np.r_[True, (np.diff(bins) != 0) | (np.diff(member) != 0)]
    )  # One a group within a bin.
    bin_of_cell, sizes = bins[cells], np.diff(np.r_[cells, len(bins)])
    firsts = np.flatnonzero(np.r_[True, np.diff(bin_of_cell) != 0])
    groups, counts = np.bincount(bin_of_cell), np.bincount(bins)
    sums = np.add.reduceat(residuals[:, order], cells, axis=1)
    deviation = np.add.reduceat(sums, firsts, axis=1) / counts
    around = np.add.reduceat((sums - sizes * deviation[:, bin_of_cell]) ** 2, firsts, axis=1)
    error = np.sqrt(around * groups / np.maximum(groups - 1, 1)) / counts
    excess = _mean_of_absolute(deviation, error) - np.abs(deviation)
    return np.maximum((np.abs(deviation) - excess) @ counts / counts.sum(), 0.0)


def _mean_of_absolute(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """The mean of the absolute value of a normal variable (the folded normal distribution; Leone 1961)."""
    scale = np.maximum(deviation, 1e-12)
    return scale * np.sqrt(2 / np.pi) * np.exp(-0.5 * (mean / scale) ** 2) + mean * special.erf(
        mean / scale / np.sqrt(2)
    )


def _labels_if_calibrated(
    event: np.ndarray, score: np.ndarray, member: np.ndarray, seed: int
) -> np.ndarray:
    """Events drawn from the probabilities, [resamples, n] bool."""
    rng = np.random.Generator(np.random.Philox(key=seed + 1))
    share = np.bincount(member, event) / np.bincount(member)
    if np.isin(share, (0.0, 1.0)).all():
        return rng.random((_RESAMPLES, member.max() + 1))[:, member] < score
    return rng.random((_RESAMPLES, len(score))) < score


def _losses(labels: np.ndarray, logits: np.ndarray, temperature: float) -> np.ndarray:
    return -special.log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]


def _best_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    no_error = (logits.argmax(axis=1) == labels).all()
    found = optimize.minimize_scalar(
        lambda power: _losses(labels, logits, np.exp(power)).mean(),
        bounds=(0.0 if no_error else np.log(0.05), np.log(100.0)),
        method="bounded",
    )
    temperature = float(np.exp(found.x))
    return 1.0 if no_error and temperature < 1.001 else temperature
