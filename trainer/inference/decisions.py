"""From probabilities to an answer: the classes or findings called, and whether that is unsure.

called(np.array([0.2, 0.8]), facts)           # [1]
unsure_reason(np.array([0.2, 0.8]), facts)    # "" where the model is sure
"""

from typing import Any

import numpy as np

NO_FINDING = "no finding"


def called(probabilities: np.ndarray, facts: dict[str, Any]) -> list[int]:
    """Selects the class called, or the findings, by their thresholds.

    Args:
      probabilities: [classes] float.
      facts: model.json.

    Returns:
      Indices in label order: one class, or any number of findings.
    """
    if is_multi_label(facts):
        return np.flatnonzero(probabilities >= np.array(facts["threshold"])).tolist()
    index = int(probabilities.argmax())
    positive = facts["positive_class"]
    names = facts["class_names"]
    if positive is not None and len(names) == 2:
        # The threshold was chosen for this class.
        index = names.index(positive)
        index = index if probabilities[index] >= facts["threshold"] else 1 - index
    return [index]


def label(indices: list[int], facts: dict[str, Any]) -> str:
    """Joins the names of what is called with |, as the NIH's tables do."""
    return "|".join(facts["class_names"][index] for index in indices) or NO_FINDING


def unsure_reason(probabilities: np.ndarray, facts: dict[str, Any]) -> str:
    """Describes the reason that the model is unsure; empty where it is sure.

    Args:
      probabilities: [classes] float.
      facts: model.json.
    """
    names = facts["class_names"]
    if is_multi_label(facts):
        # Every finding with a band of its own.
        bands = zip(names, probabilities, facts["unsure"], strict=True)
        unsure = [
            f"{name} ({band[0]:.2f} to {band[1]:.2f})"
            for name, probability, band in bands
            if band is not None and band[0] <= probability < band[1]
        ]
        if not unsure:
            return ""
        return (
            f"of {', '.join(unsure)} the probability lies where held-out radiographs were often "
            "called wrongly"
        )
    if facts.get("unsure") is None:
        # NaN is not at least one half.
        sure = probabilities.max() >= 0.5
        return "" if sure else "no class is more probable than all others together"
    low, high = facts["unsure"]
    if not low <= probabilities[names.index(facts["positive_class"])] < high:
        return ""
    return (
        f"the probability lies between {low:.2f} and {high:.2f}, where held-out radiographs were "
        "often called wrongly"
    )


def is_multi_label(facts: dict[str, Any]) -> bool:
    """Tells whether an image may have several findings."""
    return bool(facts.get("multi_label"))
