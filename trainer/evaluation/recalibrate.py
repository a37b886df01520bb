"""Temperature and threshold fitted to some labelled films of another hospital.

    result = recalibrate(scored, count=50)
    write_json(folder / "recalibrated.json", result)

The films fitted to are chosen by patient; the scores before and after are of the others.
"""

from typing import Any

from trainer.analysis import calibration, metrics, thresholds
from trainer.analysis.predictions import Predictions
from trainer.data import split
from trainer.errors import UserError
from trainer.evaluation.description import plain

_SHOWN = ("accuracy", "sensitivity", "specificity", "log_loss", "ece")


def recalibrate(scored: Predictions, count: int, seed: int = 0) -> dict[str, Any]:
    """Fits temperature and threshold to some films and scores the others.

    The threshold is Youden's, which weighs sensitivity and specificity equally, so it does not
    depend on the local share of the positive class.

    Args:
      scored: the model's predictions on the external set.
      count: number of films to fit to; about as many are taken, whole patients of each class.
      seed: of their choice.

    Returns:
      fitted_on (images), temperature (a list of those of findings), threshold (None with more than
      two classes), before and after (scores of the other films).

    Raises:
      UserError: more films are asked for than half of the set, or a class has too few patients.
    """
    most = len(scored) // 2
    if count > most:
        raise UserError(
            f"--calibrate_on={count}: the set has {len(scored)} images, and at least half of them "
            f"must remain to be scored; give at most {most}."
        )
    share = count / len(scored)
    rest, chosen = split.train_and_validation(scored.labels, scored.groups, share, seed)
    local = scored.take(chosen)
    others = scored.take(rest)
    temperatures = calibration.fit(local)
    divisor = calibration.divisor(temperatures, local.multi_label)
    threshold = None
    if scored.positive_index is not None:
        positive = calibration.rescale(local, divisor)
        options = thresholds.choose(
            positive.positive, positive.positive_probabilities, positive.groups, "local films"
        )
        threshold = options["youden"]["threshold"]
    after = calibration.rescale(others, divisor)
    return {
        "fitted_on": len(local),
        "temperature": plain(temperatures if local.multi_label else temperatures[0]),
        "threshold": threshold,
        "before": plain(metrics.scores(others, detailed=True)),
        "after": plain(metrics.scores(after, detailed=True, threshold=threshold or 0.5)),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Formats a result for the screen."""
    threshold = result["threshold"]
    fitted = result["temperature"]
    values = [each["value"] for each in (fitted if isinstance(fitted, list) else [fitted])]
    texts = [
        f"Fitted to {result['fitted_on']} of these images: temperature "
        + ", ".join(f"{value:.2f}" for value in values)
        + (f", threshold {threshold:.3f}." if threshold is not None else ".")
        + " On the others, before and after:"
    ]
    for name in _SHOWN:
        before = result["before"].get(name)
        after = result["after"].get(name)
        if before and after and before["value"] is not None and after["value"] is not None:
            texts.append(f"  {name:18s} {_text(before)}  →  {_text(after)}")
    return texts


def _text(estimate: dict[str, Any]) -> str:
    return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}]"
