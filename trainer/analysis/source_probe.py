"""Source probe: whether a network's features show the hospital that an image comes from.

    aucs = source_probe.probe(own, other, class_names)    # {"covid": AUC, "non_covid": AUC}

A linear classifier is trained to tell two hospitals apart from the features (Alain & Bengio 2017,
arXiv:1610.01644), within one class, so that the disease is no help. An AUC near 1 means that the
network could score by the hospital; 0.5 that its features do not show it.
"""

import dataclasses

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer.analysis import metrics
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions

_FOLDS = 5
_SITES = ("own", "other")


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of the images of one hospital.

    Attributes:
      values: [n, channels] float.
      labels: [n] int, or [n, findings] int with 1 where there is one.
      groups: [n] str, the patients.
    """

    values: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def of_class(self, label: int) -> "Features":
        """Selects the images of one class or finding."""
        chosen = self.labels == label if self.labels.ndim == 1 else self.labels[:, label] == 1
        return Features(self.values[chosen], self.labels[chosen], self.groups[chosen])


def probe(own: Features, other: Features, class_names: tuple[str, ...]) -> dict[str, Estimate]:
    """Measures how well two hospitals are told apart, by five-fold cross-validation by patient.

    Args:
      own: of the hospital that the model was trained on.
      other: of another one.
      class_names: in label order.

    Returns:
      Class → ROC AUC; without the classes of which a hospital has fewer than five patients.
    """
    aucs = {}
    for label, name in enumerate(class_names):
        sites = [own.of_class(label), other.of_class(label)]
        if min(len(np.unique(site.groups)) for site in sites) >= _FOLDS:
            aucs[name] = _tell_apart(*sites)
    return aucs


def _tell_apart(own: Features, other: Features) -> Estimate:
    values = np.concatenate([own.values, other.values])
    # One patient may have a number in both hospitals.
    groups = np.concatenate([np.char.add("own ", own.groups), np.char.add("other ", other.groups)])
    sites = np.repeat([0, 1], [len(own.values), len(other.values)])
    probabilities = np.zeros((len(sites), 2))
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    for fitted, held_out in splitter.split(values, sites, groups):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        score = classifier.fit(values[fitted], sites[fitted]).decision_function(values[held_out])
        # Ranks: the intercepts of the folds differ, and would push the joint AUC below chance.
        probabilities[held_out, 1] = (stats.rankdata(score) - 0.5) / len(score)
    probabilities[:, 0] = 1.0 - probabilities[:, 1]
    names = np.arange(len(sites)).astype(str)
    labels = sites.astype(np.int32)
    predictions = Predictions(names, groups, labels, probabilities, _SITES, _SITES[1])
    return metrics.roc_auc(predictions)
