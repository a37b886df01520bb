"""Measures how often the 95 % intervals hold the truth, on drawn predictions whose truth is known.

python -m tests.studies.coverage [--repeats=500]

Scores are drawn from a binormal model with an effect that all images of a patient share. The grouped design is like the real
sample's test split: 100 positive images of 36 patients, one of whom has 22, and 119 negative ones of a patient each.
"""

import argparse
import dataclasses

import numpy as np
from scipy import special, stats
from tqdm import tqdm

from trainer.analysis import comparison, intervals, metrics, thresholds

NAMES = ("negative", "positive")
UNEVEN = (22, 13, 5, 5, 4, 4, 4, 3, 3, 3, *(2,) * 8, *(1,) * 18)


@dataclasses.dataclass(frozen=True)
class Design:
    """How many images each patient of either class has, and the share of the scores' variance that patients make."""

    positives: tuple[int, ...]
    negatives: tuple[int, ...]
    correlation: float

    def labels(self) -> np.ndarray:
        return np.repeat([1, 0], [sum(self.positives), sum(self.negatives)])

    def groups(self) -> np.ndarray:
        sizes = (*self.positives, *self.negatives)
        return np.repeat([f"p{number:03d}" for number in range(len(sizes))], sizes)

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """Standard normal, correlated within patients; [n]."""
        sizes = (*self.positives, *self.negatives)
        shared = np.repeat(rng.normal(size=len(sizes)), sizes)
        return np.sqrt(self.correlation) * shared + np.sqrt(1 - self.correlation) * rng.normal(
            size=sum(sizes)
        )


DESIGNS = {
    "64 images, no groups": Design((1,) * 32, (1,) * 32, 0.0),
    "219 images, no groups": Design((1,) * 100, (1,) * 119, 0.0),
    "219 in 155 groups, 0.0": Design(UNEVEN, (1,) * 119, 0.0),
    "219 in 155 groups, 0.3": Design(UNEVEN, (1,) * 119, 0.3),
    "219 in 155 groups, 0.6": Design(UNEVEN, (1,) * 119, 0.6),
    "219 in 155 groups, 0.8": Design(UNEVEN, (1,) * 119, 0.8),
}


def draw(
    design: Design, auc: float, rng: np.random.Generator, noise: np.ndarray | None = None
) -> np.ndarray:
    """Calibrated probabilities [n, 2] of a classifier whose true area is `auc` (at balanced classes)."""
    distance = np.sqrt(2) * stats.norm.ppf(auc)
    score = design.labels() * distance + (design.noise(rng) if noise is None else noise)
    positive = special.expit(distance * (score - distance / 2))
    return np.stack([1 - positive, positive], axis=1)


def truths(auc: float, share: float) -> dict[str, float]:
    """The true values of the scores at an area, where `share` of the images are positive and one half is the threshold."""
    distance = np.sqrt(2) * stats.norm.ppf(auc)
    rate = stats.norm.cdf(distance / 2)
    large = np.random.default_rng(0)
    labels = (large.random(400_000) < share).astype(int)
    positive = special.expit(
        distance * (labels * distance + large.normal(size=len(labels)) - distance / 2)
    )
    own = np.where(labels == 1, positive, 1 - positive)
    ppv = share * rate / (share * rate + (1 - share) * (1 - rate))
    npv = (1 - share) * rate / (share * (1 - rate) + (1 - share) * rate)
    return {
        "accuracy": rate,
        "balanced_accuracy": rate,
        "sensitivity": rate,
        "specificity": rate,
        "roc_auc": auc,
        "ppv": ppv,
        "npv": npv,
        "f1": 2 * ppv * rate / (ppv + rate),
        "mcc": np.sqrt((2 * rate - 1) * (ppv + npv - 1)),
        "log_loss": -np.log(np.maximum(own, 1e-7)).mean(),
        "brier": ((labels - positive) ** 2).mean(),
        "pr_auc": float(
            metrics.weighted_precisions(labels == 1, positive)(np.ones((1, len(labels))))[0]
        ),
        "ppv at 0.05": 0.05 * rate / (0.05 * rate + 0.95 * (1 - rate)),
    }


def cover_scores(
    design: Design, auc: float, repeats: int, seed: int = 1
) -> dict[str, tuple[float, float]]:
    """For each score how often its interval holds the truth, and the interval's mean width."""
    rng, found = np.random.default_rng(seed), {}
    labels, groups = design.labels(), design.groups()
    true = truths(auc, labels.mean())
    for _ in tqdm(range(repeats), leave=False, delay=2, disable=None):
        probabilities = draw(design, auc, rng)
        scores = metrics.all_scores(labels, probabilities, groups, NAMES, "positive")
        scores["ppv at 0.05"] = thresholds.predictive_values(
            labels == 1, probabilities[:, 1], groups
        )["0.05"]["ppv"]
        for name, value in true.items():
            if (score := scores[name]).value is not None:
                found.setdefault(name, []).append(
                    (score.low <= value <= score.high, score.high - score.low)
                )
    return {name: tuple(np.mean(rows, axis=0)) for name, rows in found.items()}


def cover_area(design: Design, auc: float, repeats: int, seed: int = 1) -> tuple[float, float]:
    """How often `intervals.area` holds the truth, and its mean width."""
    rng, labels, groups = np.random.default_rng(seed), design.labels() == 1, design.groups()
    areas = [intervals.area(labels, draw(design, auc, rng)[:, 1], groups) for _ in range(repeats)]
    return (
        float(np.mean([area.low <= auc <= area.high for area in areas])),
        float(np.mean([area.high - area.low for area in areas])),
    )


def cover_percentiles(
    design: Design, auc: float, repeats: int, seed: int = 1
) -> tuple[float, float]:
    """The same for the percentile bootstrap of groups, for comparison."""
    rng, labels, groups = np.random.default_rng(seed), design.labels() == 1, design.groups()
    rows = []
    for _ in tqdm(range(repeats), leave=False, delay=2, disable=None):
        areas = metrics.weighted_areas(labels, draw(design, auc, rng)[:, 1])
        low, high = intervals.percentiles(
            intervals.resample(lambda weights, areas=areas: {"": areas(weights)}, groups)[""]
        )
        rows.append((low <= auc <= high, high - low))
    return tuple(np.mean(rows, axis=0))


def cover_difference(
    design: Design, areas: tuple[float, float], repeats: int, seed: int = 1
) -> tuple[float, float]:
    """How often the paired difference of two areas is held; half the noise of the two classifiers is shared."""
    rng, labels, groups, rows = np.random.default_rng(seed), design.labels(), design.groups(), []
    for _ in tqdm(range(repeats), leave=False, delay=2, disable=None):
        shared = design.noise(rng)
        first, second = (
            draw(design, auc, rng, np.sqrt(0.5) * (shared + design.noise(rng))) for auc in areas
        )
        found = comparison.auc_difference(first, second, labels, groups, NAMES, "positive")
        rows.append((found.low <= areas[0] - areas[1] <= found.high, found.high - found.low))
    return tuple(np.mean(rows, axis=0))


def cover_wilson(n: int = 60, seed: int = 1) -> float:
    """How often Wilson's interval holds the share, averaged over shares between 0.02 and 0.98."""
    rng = np.random.default_rng(seed)
    covered = []
    for share in rng.uniform(0.02, 0.98, 500):
        covered += [
            low <= share <= high
            for low, high in (intervals.wilson(hits, n) for hits in rng.binomial(n, share, 40))
        ]
    return float(np.mean(covered))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=500)
    repeats = arguments.parse_args().repeats
    print(
        f"Wilson, n = 60, averaged over p: {cover_wilson():.3f}\n"
        "\n"
        "area under the ROC curve: coverage (mean width)"
    )
    print(f"{'design, correlation':26}{'true area':>10}{'ours':>16}{'percentiles':>16}")
    for name, design in DESIGNS.items():
        for auc in (0.8, 0.95, 0.99):
            ours, plain = (
                cover_area(design, auc, 2 * repeats),
                cover_percentiles(design, auc, repeats // 2),
            )
            print(
                f"{name:26}{auc:>10}{ours[0]:>8.3f} ({ours[1]:.3f}){plain[0]:>8.3f} "
                f"({plain[1]:.3f})",
                flush=True,
            )
    for title, chosen in (
        ("no groups", "219 images, no groups"),
        ("155 groups, 0.6", "219 in 155 groups, 0.6"),
    ):
        print(f"\nall scores, 219 images, {title}: coverage at true area 0.8, 0.95, 0.99")
        found = [cover_scores(DESIGNS[chosen], auc, repeats // 2) for auc in (0.8, 0.95, 0.99)]
        for score in found[0]:
            print(f"{score:26}" + "".join(f"{each[score][0]:>8.3f}" for each in found), flush=True)
        for areas in ((0.95, 0.9), (0.99, 0.95)):
            held, _ = cover_difference(DESIGNS[chosen], areas, repeats // 2)
            print(f"area {areas[0]} less area {areas[1]:<6}{held:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
