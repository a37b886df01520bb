"""Calibration of predictions whose miscalibration is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sklearn_metrics

from tests.analysis.builders import make_predictions, single_groups
from trainer.analysis import calibration, diagrams

SEEDS = st.integers(0, 10_000)


def simulated(
    seed: int,
    n: int,
    temperature: float = 1.0,
    classes: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulates labels [n] and log probabilities [n, classes].

    The labels are sampled from the logits at `temperature`.
    """
    rng = np.random.default_rng(seed)
    # Sharp, as a network's.
    logits = 3 * rng.normal(size=(n, classes))
    truth = special.softmax(logits / temperature, axis=1)
    labels = (rng.random(n)[:, None] > np.cumsum(truth, axis=1)).sum(axis=1)
    return labels, special.log_softmax(logits, axis=1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
def test_the_true_temperature_is_fitted(temperature, classes):
    labels, logs = simulated(
        1,
        3000,
        temperature,
        classes,
    )
    fitted = calibration.fit_temperature(labels, logs, single_groups(3000))
    assert fitted.kept
    assert fitted.value == pytest.approx(temperature, rel=0.15)
    assert fitted.gain.low > 0


def test_predictions_without_an_error_are_never_sharpened():
    logits = np.random.default_rng(0).normal(size=(80, 3))
    fitted = calibration.fit_temperature(logits.argmax(axis=1), logits, single_groups(80))
    assert fitted.value >= 1.0
    assert fitted.kept or fitted.value == 1.0


@given(SEEDS, st.integers(2, 60), st.integers(1, 20))
def test_a_temperature_is_applied_only_with_a_held_out_gain(
    seed,
    n,
    groups,
):
    labels, logs = simulated(seed, n)
    fitted = calibration.fit_temperature(labels, logs, (np.arange(n) % groups).astype(str))
    assert fitted.kept == (fitted.value != 1.0)
    # It is applied with a gain, or there is a reason why not.
    if fitted.kept:
        assert fitted.gain.value > 0
    else:
        assert fitted.why


@given(SEEDS, st.floats(0.3, 5.0))
def test_a_temperature_divides_the_logits_and_preserves_the_order(seed, temperature):
    _, logs = simulated(seed, 30, classes=3)
    rescaled = calibration.apply_temperature(np.exp(logs), temperature)
    assert rescaled == pytest.approx(special.softmax(logs / temperature, axis=1), abs=1e-6)
    assert (rescaled.argmax(axis=1) == logs.argmax(axis=1)).all()


def test_a_probability_of_zero_gives_finite_numbers():
    assert np.isfinite(calibration.apply_temperature(np.array([[0.0, 1.0]]), 2.0)).all()
    # Certain, and wrong for the first image.
    logs = np.array([[-np.inf, 0.0]] * 3)
    fitted = calibration.fit_temperature(np.array([0, 1, 1]), logs, single_groups(3))
    assert np.isfinite(fitted.value)


@pytest.mark.parametrize(
    ("temperature", "lowest", "highest"),
    [(1.0, 0.85, 1.01), (0.3, -0.01, 0.1)],
    ids=["calibrated", "too sharp"],
)
def test_the_error_lies_in_its_band_only_for_calibrated_probabilities(
    temperature,
    lowest,
    highest,
):
    inside = []
    for seed in range(30):
        labels, logs = simulated(seed, 300)
        probabilities = calibration.apply_temperature(np.exp(logs), temperature)
        errors = calibration.errors(make_predictions(labels, probabilities))
        inside.append(errors["ece"].value <= errors["ece_if_calibrated"].high)
    assert lowest < np.mean(inside) < highest


def test_debiasing_removes_some_of_the_error_that_chance_makes():
    plain = []
    debiased = []
    for seed in range(20):
        labels, logs = simulated(seed, 219)
        score = np.exp(logs[:, 1])
        bins = np.searchsorted(np.quantile(score, np.linspace(0, 1, 11)[1:-1]), score)
        # The plain error: absolute differences in ten bins of equal numbers.
        residuals = labels - score
        plain.append(sum(abs(residuals[bins == number].sum()) for number in range(10)) / 219)
        errors = calibration.errors(make_predictions(labels, np.exp(logs)))
        debiased.append(errors["ece"].value)
    assert np.mean(debiased) < 0.75 * np.mean(plain)


def test_the_error_of_a_constant_probability_is_its_distance():
    labels = np.arange(200) % 2
    predictions = make_predictions(labels, np.tile([0.1, 0.9], (200, 1)))
    error = calibration.errors(predictions)["ece"]
    # Far from zero nothing is taken off.
    assert error.value == pytest.approx(0.4, abs=1e-6)
    assert error.low < 0.4 < error.high


def test_the_mean_of_an_absolute_normal_is_that_of_samples():
    samples = np.abs(np.random.default_rng(0).normal(0.3, 0.5, 400_000))
    mean = calibration._mean_of_absolute(np.array(0.3), np.array(0.5))
    assert mean == pytest.approx(samples.mean(), abs=2e-3)


def test_groups_widen_the_band():
    labels, logs = simulated(3, 300)
    order = np.argsort(labels, kind="stable")
    labels = labels[order]
    probabilities = np.exp(logs[order])
    # Six images of one class each.
    groups = np.array([f"{label}-{index // 6}" for index, label in enumerate(labels)])
    together = calibration.errors(make_predictions(labels, probabilities, groups))
    alone = calibration.errors(make_predictions(labels, probabilities))
    assert together["ece_if_calibrated"].high > alone["ece_if_calibrated"].high


@given(SEEDS, st.integers(20, 200), st.integers(2, 3))
def test_the_reliability_bins_hold_every_image_once(
    seed,
    n,
    classes,
):
    labels, logs = simulated(seed, n, classes=classes)
    bins = calibration.reliability(make_predictions(labels, np.exp(logs)))
    assert sum(row["n"] for row in bins) == n
    assert all(row["share"].low <= row["share"].value <= row["share"].high for row in bins)
    assert all(before["high"] < after["low"] for before, after in itertools.pairwise(bins))
    if classes == 2:
        events = sum(row["share"].value * row["n"] for row in bins)
        mass = sum(row["mean"] * row["n"] for row in bins)
        assert events == pytest.approx(labels.sum())
        assert mass == pytest.approx(np.exp(logs)[:, 1].sum())


def test_a_fitted_temperature_lowers_the_log_loss():
    labels, logs = simulated(5, 800, 3.0)
    fitted = calibration.fit_temperature(labels, logs, single_groups(800))
    before = sklearn_metrics.log_loss(labels, np.exp(logs))
    rescaled = calibration.apply_temperature(np.exp(logs), fitted.value)
    after = sklearn_metrics.log_loss(labels, rescaled)
    assert before - after == pytest.approx(fitted.gain.value, abs=0.01)


def test_the_reliability_diagram_is_drawn(tmp_path):
    labels, logs = simulated(0, 100)
    predictions = make_predictions(labels, np.exp(logs))
    curve = (calibration.event_probability(predictions), calibration.reliability(predictions))
    path = tmp_path / "figures" / "reliability.png"
    diagrams.reliability({"before": curve, "after": curve}, path, "test")
    assert path.read_bytes().startswith(b"\x89PNG")
