"""The predictions of a finished run on test, for what its answers mean elsewhere.

tested = read_predictions(workdir / "predictions" / "test.csv", positive_class)
values = predictive_values(tested, threshold=0.5, prevalence=0.05)    # {"ppv": …, "npv": …}
"""

from trainer.analysis import thresholds
from trainer.analysis.intervals import Estimate as Estimate
from trainer.analysis.predictions import Predictions as Predictions
from trainer.analysis.predictions import read as read_predictions  # noqa: F401  for the demo


def predictive_values(
    tested: Predictions, threshold: float, prevalence: float
) -> dict[str, Estimate]:
    """Estimates PPV and NPV at a prevalence, with intervals over groups.

    Args:
      tested: of two classes, one of them positive.
      threshold: of the positive class.
      prevalence: share of the positive class, strictly between 0 and 1.
    """
    (values,) = thresholds.predictive_values(
        tested.positive,
        tested.positive_probabilities,
        tested.groups,
        threshold,
        (prevalence,),
    ).values()
    return values
