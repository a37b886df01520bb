"""Tests of temperature and threshold fitted to local films."""

import numpy as np
import pytest
from scipy import special

from trainer.analysis.predictions import Predictions
from trainer.errors import UserError
from trainer.evaluation import recalibrate


def shifted_predictions(count: int = 400, seed: int = 0) -> Predictions:
    """Predictions of a model that is too confident and leans to the positive class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 2, count // 2), 2).astype(np.int32)  # One class a patient.
    logit = rng.normal(np.where(labels, 1.0, -1.0), 1.0)
    positive = special.expit(6.0 * logit + 5.0)
    names = np.array([f"{number:04d}" for number in range(count)])
    groups = np.array([f"patient {number // 2}" for number in range(count)])
    probabilities = np.stack([1 - positive, positive], axis=1)
    return Predictions(names, groups, labels, probabilities, ("non_covid", "covid"), "covid")


def test_local_films_lower_the_loss_of_the_others():
    scored = shifted_predictions()
    result = recalibrate.recalibrate(scored, count=120)
    assert result["fitted_on"] == pytest.approx(120, abs=6)
    assert result["before"]["accuracy"]["n"] == 400 - result["fitted_on"]
    assert result["temperature"]["value"] > 1.5
    assert result["after"]["log_loss"]["value"] < result["before"]["log_loss"]["value"]
    # The model leans to one class: a local threshold balances them.
    before, after = (
        abs(result[when]["sensitivity"]["value"] - result[when]["specificity"]["value"])
        for when in ("before", "after")
    )
    assert after < before
    # A monotone change keeps the order.
    assert result["after"]["roc_auc"] == result["before"]["roc_auc"]
    assert any("threshold" in line for line in recalibrate.lines(result))


def test_patients_are_not_split_between_fit_and_score():
    scored = shifted_predictions()
    result = recalibrate.recalibrate(scored, count=100, seed=3)
    # Whole patients of two films each.
    assert result["fitted_on"] % 2 == 0
    assert result == recalibrate.recalibrate(scored, count=100, seed=3)


def test_more_films_than_half_are_refused_in_one_line():
    with pytest.raises(UserError, match="give at most 200") as caught:
        recalibrate.recalibrate(shifted_predictions(), count=201)
    assert "\n" not in str(caught.value)
