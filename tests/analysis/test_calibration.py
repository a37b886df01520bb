"""Calibration on predictions whose miscalibration is known, and against resampling."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sk

from trainer.analysis import calibration

NAMES = ("non_covid", "covid")
SEEDS = st.integers(0, 10_000)


def drawn(
    seed: int, n: int, temperature: float = 1.0, classes: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, log-probabilities and groups; the truth is what the logits say at `temperature`."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(n, classes))
    truth = special.softmax(logits / temperature, axis=1)
    labels = (rng.random(n)[:, None] > np.cumsum(truth, axis=1)).sum(axis=1)
    return labels, special.log_softmax(logits, axis=1), np.arange(n).astype(str)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
def test_the_temperature_is_found_and_kept(temperature, classes):
    found = calibration.fit_temperature(*drawn(1, 3000, temperature, classes))
    assert found.kept and found.value == pytest.approx(temperature, rel=0.15)
    assert found.gain.low > 0


def test_predictions_without_an_error_are_never_sharpened():
    logits = np.random.default_rng(0).normal(size=(80, 3))
    found = calibration.fit_temperature(logits.argmax(axis=1), logits, np.arange(80).astype(str))
    assert found.value >= 1.0 and (found.kept or found.value == 1.0)


@given(SEEDS, st.integers(2, 60), st.integers(1, 20))
def test_a_temperature_is_kept_only_where_it_helps_groups_it_was_not_fitted_to(seed, n, groups):
    labels, logs, _ = drawn(seed, n)
    found = calibration.fit_temperature(labels, logs, (np.arange(n) % groups).astype(str))
    assert found.kept == (found.value != 1.0)
    assert not found.kept or found.gain.value > 0
    assert found.kept or found.why


@given(SEEDS, st.floats(0.3, 5.0))
def test_another_temperature_divides_the_logits_and_keeps_the_ranking(seed, temperature):
    _, logs, _ = drawn(seed, 30, classes=3)
    changed = calibration.apply(np.exp(logs), temperature)
    assert changed == pytest.approx(special.softmax(logs / temperature, axis=1), abs=1e-6)
    assert (changed.argmax(axis=1) == logs.argmax(axis=1)).all()


def test_a_probability_of_zero_stays_a_number():
    assert np.isfinite(calibration.apply(np.array([[0.0, 1.0]]), 2.0)).all()
    found = calibration.fit_temperature(
        np.array([0, 1, 1]), np.array([[-np.inf, 0.0]] * 3), np.array(["a", "b", "c"])
    )
    assert np.isfinite(found.value)


def test_the_error_of_right_probabilities_lies_in_its_band_and_of_wrong_ones_above():
    inside, above = [], []
    for seed in range(30):
        labels, logs, groups = drawn(seed, 300)
        for found, temperature in ((inside, 1.0), (above, 0.3)):
            errors = calibration.errors(
                labels, calibration.apply(np.exp(logs), temperature), groups, NAMES, "covid"
            )
            found.append(errors["ece"].value <= errors["ece_if_calibrated"].high)
    assert np.mean(inside) > 0.85
    assert np.mean(above) < 0.1


def test_debiasing_takes_part_of_the_error_off_that_chance_makes():
    plain, debiased = [], []
    for seed in range(20):
        labels, logs, groups = drawn(seed, 219)
        score = np.exp(logs[:, 1])
        bins = np.searchsorted(np.quantile(score, np.linspace(0, 1, 11)[1:-1]), score)
        plain.append(sum(abs((labels - score)[bins == number].sum()) for number in range(10)) / 219)
        debiased.append(
            calibration.errors(labels, np.exp(logs), groups, NAMES, "covid")["ece"].value
        )
    assert np.mean(debiased) < 0.75 * np.mean(plain)


def test_the_error_of_certain_and_wrong_probabilities_is_their_distance():
    labels, probabilities = np.arange(200) % 2, np.tile([0.1, 0.9], (200, 1))
    found = calibration.errors(labels, probabilities, np.arange(200).astype(str), NAMES, "covid")[
        "ece"
    ]
    assert (
        found.value == pytest.approx(0.4, abs=1e-6) and found.low < 0.4 < found.high
    )  # Far from zero nothing is taken off.


def test_the_mean_of_an_absolute_normal_is_that_of_draws():
    draws = np.random.default_rng(0).normal(0.3, 0.5, 400_000)
    assert calibration._mean_of_absolute(np.array(0.3), np.array(0.5)) == pytest.approx(
        np.abs(draws).mean(), abs=2e-3
    )


def test_groups_widen_the_band():
    labels, logs, _ = drawn(3, 300)
    order = np.argsort(labels, kind="stable")
    labels, probabilities = labels[order], np.exp(logs[order])
    together = np.array([f"{label}-{i // 6}" for i, label in enumerate(labels)])
    alone = calibration.errors(labels, probabilities, np.arange(300).astype(str), NAMES, "covid")[
        "ece_if_calibrated"
    ]
    assert (
        calibration.errors(labels, probabilities, together, NAMES, "covid")[
            "ece_if_calibrated"
        ].high
        > alone.high
    )


@given(SEEDS, st.integers(20, 200), st.integers(2, 3))
def test_the_diagram_holds_every_image_once_and_agrees_with_scikit_learn(seed, n, classes):
    labels, logs, groups = drawn(seed, n, classes=classes)
    names, positive = (NAMES, "covid") if classes == 2 else (("a", "b", "c"), None)
    bins = calibration.reliability(labels, np.exp(logs), groups, names, positive)
    assert sum(each["n"] for each in bins) == n
    assert all(each["share"].low <= each["share"].value <= each["share"].high for each in bins)
    assert all(before["high"] < after["low"] for before, after in itertools.pairwise(bins))
    if classes == 2:
        assert sum(each["share"].value * each["n"] for each in bins) == pytest.approx(labels.sum())
        assert sum(each["mean"] * each["n"] for each in bins) == pytest.approx(
            np.exp(logs)[:, 1].sum()
        )


def test_a_kept_temperature_lowers_the_log_loss():
    labels, logs, groups = drawn(5, 800, 3.0)
    found = calibration.fit_temperature(labels, logs, groups)
    after = sk.log_loss(labels, calibration.apply(np.exp(logs), found.value))
    assert sk.log_loss(labels, np.exp(logs)) - after == pytest.approx(found.gain.value, abs=0.01)


def test_the_diagram_is_drawn(tmp_path):
    labels, logs, groups = drawn(0, 100)
    bins = calibration.reliability(labels, np.exp(logs), groups, NAMES, "covid")
    calibration.draw_reliability(
        {"before": (np.exp(logs[:, 1]), bins), "after": (np.exp(logs[:, 1]), bins)},
        tmp_path / "figures" / "reliability.png",
        "test",
    )
    assert (tmp_path / "figures" / "reliability.png").read_bytes().startswith(b"\x89PNG")
