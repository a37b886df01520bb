"""Decisions: the class or the findings called, and whether the model is unsure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.inference import decisions

FINDINGS = {
    "class_names": ["effusion", "nodule", "hernia"],
    "positive_class": None,
    "multi_label": True,
    "threshold": [0.5, 0.2, 0.5],
    "unsure": [[0.4, 0.6], [0.1, 0.3], None],
}
CLASSES = {"class_names": ["a", "b", "c"], "positive_class": None, "threshold": 0.5}


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3))
def test_findings_are_called_by_their_own_thresholds(probabilities):
    called = decisions.called(np.array(probabilities), FINDINGS)
    thresholds = FINDINGS["threshold"]
    assert called == [index for index in range(3) if probabilities[index] >= thresholds[index]]


@pytest.mark.parametrize(
    ("probabilities", "label", "unsure"),
    [
        ((0.9, 0.9, 0.9), "effusion|nodule|hernia", []),
        ((0.1, 0.0, 0.1), "no finding", []),
        ((0.55, 0.25, 0.0), "effusion|nodule", ["effusion", "nodule"]),
        ((0.1, 0.15, 0.5), "hernia", ["nodule"]),
    ],
)
def test_unsure_findings_are_named(probabilities, label, unsure):
    values = np.array(probabilities)
    assert decisions.label(decisions.called(values, FINDINGS), FINDINGS) == label
    reason = decisions.unsure_reason(values, FINDINGS)
    assert [name for name in FINDINGS["class_names"] if name in reason] == unsure


def test_the_most_probable_of_several_classes_is_called():
    assert decisions.called(np.array([0.2, 0.45, 0.35]), CLASSES) == [1]
    assert "no class" in decisions.unsure_reason(np.array([0.2, 0.45, 0.35]), CLASSES)
    assert decisions.unsure_reason(np.array([0.2, 0.6, 0.2]), CLASSES) == ""
