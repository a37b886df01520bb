"""Coverage of the 95 % intervals on simulated predictions with known true scores.

    python -m tests.studies.coverage [--repeats=500]

Scores follow a binormal model with an effect that all images of a patient share. The grouped
design is like the test split of the real sample: 100 positive images of 36 patients, one of whom
has 22, and 119 negative images of one patient each.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import special, stats
from tqdm import trange

from tests.studies import parse_arguments
from trainer.analysis import comparison, intervals, metrics, thresholds, weighted
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions

# Images of each of the 36 positive patients.
UNEVEN = (22, 13, 5, 5, 4, 4, 4, 3, 3, 3, *(2,) * 8, *(1,) * 18)
TRUE_AUCS = (0.8, 0.95, 0.99)


@dataclasses.dataclass(frozen=True)
class Design:
    """Numbers of images of each patient, and their correlation.

    Attributes:
      positives: number of images of each patient of the positive class.
      negatives: the same for the other class.
      correlation: share of the scores' variance that patients make, in 0..1.
    """

    positives: tuple[int, ...]
    negatives: tuple[int, ...]
    correlation: float

    def labels(self) -> np.ndarray:
        """The labels, [n] int; positive images come first."""
        return np.repeat([1, 0], [sum(self.positives), sum(self.negatives)])

    def repeat(self, values: np.ndarray) -> np.ndarray:
        """Repeats values of patients for each of their images; [patients] → [n]."""
        return np.repeat(values, (*self.positives, *self.negatives))

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """Draws standard normal noise, correlated within patients; [n] float."""
        shared = self.repeat(rng.normal(size=len(self.positives) + len(self.negatives)))  # [n]
        single = rng.normal(size=len(shared))
        # The weights' squares add up to 1, so the variance stays 1.
        return np.sqrt(self.correlation) * shared + np.sqrt(1 - self.correlation) * single

    def predict(self, auc: float, noise: np.ndarray) -> Predictions:
        """Simulates the predictions of a classifier.

        Args:
          auc: true AUC; the probabilities are calibrated for balanced classes.
          noise: [n] float, standard normal.
        """
        # Between the means of two normal distributions of variance 1.
        distance = np.sqrt(2) * stats.norm.ppf(auc)
        labels = self.labels()
        score = labels * distance + noise
        positive = special.expit(distance * (score - distance / 2))  # Bayes' rule.
        patients = np.arange(len(self.positives) + len(self.negatives))
        return Predictions(
            filenames=np.arange(len(labels)).astype(str),
            groups=self.repeat(np.char.mod("p%03d", patients)),
            labels=labels,
            probabilities=np.stack([1 - positive, positive], axis=1),  # [n, 2]
            class_names=("negative", "positive"),
            positive_class="positive",
        )


DESIGNS = {
    "64 images, no groups": Design((1,) * 32, (1,) * 32, 0.0),
    "219 images, no groups": Design((1,) * 100, (1,) * 119, 0.0),
    "219 in 155 groups, 0.0": Design(UNEVEN, (1,) * 119, 0.0),
    "219 in 155 groups, 0.3": Design(UNEVEN, (1,) * 119, 0.3),
    "219 in 155 groups, 0.6": Design(UNEVEN, (1,) * 119, 0.6),
    "219 in 155 groups, 0.8": Design(UNEVEN, (1,) * 119, 0.8),
}


def true_scores(auc: float, share: float) -> dict[str, float]:
    """Computes the true value of each score at the threshold one half.

    Args:
      auc: true AUC of the classifier.
      share: of positive images, in 0..1.

    Returns:
      Score → value; log_loss, brier and pr_auc are estimates from 400,000 images.
    """
    distance = np.sqrt(2) * stats.norm.ppf(auc)
    rate = stats.norm.cdf(distance / 2)  # Sensitivity and specificity.
    rng = np.random.default_rng(0)
    labels = (rng.random(400_000) < share).astype(int)
    score = labels * distance + rng.normal(size=len(labels))
    positive = special.expit(distance * (score - distance / 2))
    # These three have no closed form.
    true_class = np.where(labels == 1, positive, 1 - positive)
    precisions = weighted.average_precisions(labels == 1, positive)
    # Bayes' rule; PPV and NPV depend on the share of positive images.
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
        "log_loss": -np.log(np.maximum(true_class, 1e-7)).mean(),
        "brier": ((labels - positive) ** 2).mean(),
        "pr_auc": float(precisions(np.ones((1, len(labels))))[0]),
        "ppv at 0.05": 0.05 * rate / (0.05 * rate + 0.95 * (1 - rate)),
    }


def estimate_scores(predictions: Predictions) -> dict[str, Estimate]:
    """Computes every score of `true_scores` with its interval."""
    by_prevalence = thresholds.predictive_values(
        predictions.positive, predictions.positive_probabilities, predictions.groups
    )
    scores = metrics.scores(predictions, detailed=True)
    return {**scores, "ppv at 0.05": by_prevalence["0.05"]["ppv"]}


def cover_scores(design: Design, auc: float, repeats: int, seed: int = 1) -> dict[str, float]:
    """Measures the coverage of the interval of every score; score → share in 0..1."""
    rng = np.random.default_rng(seed)
    draws = [estimate_scores(design.predict(auc, design.noise(rng))) for _ in _progress(repeats)]
    coverage = {}
    for name, truth in true_scores(auc, design.labels().mean()).items():
        # None where a draw has no such score, such as a PPV without positive calls.
        bounds = [(scores[name].low, scores[name].high) for scores in draws]
        coverage[name], _ = _coverage(bounds, truth)
    return coverage


def cover_auc(design: Design, auc: float, repeats: int, seed: int = 1) -> tuple[float, float]:
    """Measures (coverage, mean width) of `intervals.auc`."""
    rng = np.random.default_rng(seed)
    bounds = []
    for _ in _progress(repeats):
        simulated = design.predict(auc, design.noise(rng))
        estimate = intervals.auc(
            simulated.positive, simulated.positive_probabilities, simulated.groups
        )
        bounds.append((estimate.low, estimate.high))
    return _coverage(bounds, auc)


def cover_percentiles(
    design: Design, auc: float, repeats: int, seed: int = 1
) -> tuple[float, float]:
    """Measures (coverage, mean width) of the percentile bootstrap of groups."""
    rng = np.random.default_rng(seed)
    bounds = []
    for _ in _progress(repeats):
        simulated = design.predict(auc, design.noise(rng))
        statistic = weighted.aucs(simulated.positive, simulated.positive_probabilities)
        aucs = intervals.resample(statistic, simulated.groups)
        bounds.append(intervals.percentiles(aucs))
    return _coverage(bounds, auc)


def cover_difference(
    design: Design, aucs: tuple[float, float], repeats: int, seed: int = 1
) -> tuple[float, float]:
    """Measures (coverage, mean width) for the paired difference of two AUCs.

    Args:
      design: of the images.
      aucs: true AUC of either classifier; half of the variance of their noise is shared.
      repeats: number of draws.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    bounds = []
    for _ in _progress(repeats):
        shared = design.noise(rng)
        # Half of the variance is shared, half is each classifier's own.
        first, second = (
            design.predict(auc, np.sqrt(0.5) * (shared + design.noise(rng))) for auc in aucs
        )
        estimate = comparison.auc_difference(first, second)
        bounds.append((estimate.low, estimate.high))
    return _coverage(bounds, aucs[0] - aucs[1])


def cover_wilson(n: int = 60, seed: int = 1) -> float:
    """Measures the coverage of Wilson's interval, averaged over shares in 0.02..0.98."""
    rng = np.random.default_rng(seed)
    covered = []
    for share in rng.uniform(0.02, 0.98, 500):
        # 40 samples of each share.
        bounds = [intervals.wilson(hits, n) for hits in rng.binomial(n, share, 40)]
        covered.append(_coverage(bounds, share)[0])
    return float(np.mean(covered))


def print_auc_table(repeats: int) -> None:
    """Prints coverage and width of both AUC intervals for each design."""
    print("AUC: coverage (mean width)")
    print(f"{'design, correlation':26}{'true AUC':>10}{'score interval':>16}{'percentiles':>16}")
    for name, design in DESIGNS.items():
        for auc in TRUE_AUCS:
            coverage, width = cover_auc(design, auc, 2 * repeats)  # No resampling: fast.
            row = f"{name:26}{auc:>10}{coverage:>8.3f} ({width:.3f})"
            # Fewer repeats: the bootstrap is slow and serves only as a comparison.
            coverage, width = cover_percentiles(design, auc, repeats // 2)
            print(f"{row}{coverage:>8.3f} ({width:.3f})", flush=True)


def print_scores_table(title: str, design: Design, repeats: int) -> None:
    """Prints the coverage of every score and of two differences of AUCs."""
    print(f"\nall scores, 219 images, {title}: coverage at true AUC 0.8, 0.95, 0.99")
    columns = [cover_scores(design, auc, repeats) for auc in TRUE_AUCS]
    for name in columns[0]:
        cells = [f"{column[name]:>8.3f}" for column in columns]
        print(f"{name:26}{''.join(cells)}", flush=True)
    for aucs in ((0.95, 0.9), (0.99, 0.95)):
        coverage, _ = cover_difference(design, aucs, repeats)
        print(f"AUC {aucs[0]} less AUC {aucs[1]:<6}{coverage:>8.3f}", flush=True)


def main() -> None:
    """Prints the tables."""
    repeats = parse_arguments(__doc__, repeats=500).repeats
    print(f"Wilson, n = 60, averaged over p: {cover_wilson():.3f}\n")
    print_auc_table(repeats)
    # Scores come from resamples, so they take as long as the bootstrap.
    print_scores_table("no groups", DESIGNS["219 images, no groups"], repeats // 2)
    print_scores_table("155 groups, 0.6", DESIGNS["219 in 155 groups, 0.6"], repeats // 2)


def _progress(repeats: int) -> Iterable[int]:
    # disable=None: no bar where stderr is no terminal.
    return trange(repeats, leave=False, delay=2, disable=None)


def _coverage(
    bounds: Sequence[tuple[float | None, float | None]], truth: float
) -> tuple[float, float]:
    """Share of intervals that hold the truth, and their mean width."""
    low, high = np.array(bounds, float).T  # [repeats] each; NaN where a draw has no score.
    covered = (low <= truth) & (truth <= high)
    return float(np.mean(covered[~np.isnan(low)])), float(np.nanmean(high - low))


if __name__ == "__main__":
    main()
