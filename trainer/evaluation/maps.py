"""Where a model looks: its maps over some images, measured against the lungs, the lesions, and maps of shuffled weights."""

from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis import explanation, figures
from trainer.analysis.predictions import Predictions
from trainer.data import lungs
from trainer.data.records import Records
from trainer.evaluation import description
from trainer.evaluation.saved_model import SavedModel

_MOST = 60  # Images looked into: enough for an interval, and a few seconds.
_SHOWN = 12
_SHUFFLED = 12


def look(
    model: SavedModel, part: Records, said: Predictions, folder: Path, title: str, seed: int = 0
) -> dict[str, Any]:
    """Measures maps of the class that was said, over images drawn at random, and draws some of them.

    Args:
      model: the saved model.
      part: the images.
      said: what the model said of them, in the same order.
      folder: where maps.png goes.
      title: of the figure.
      seed: of the draw.

    Returns:
      what evaluation.json holds: explanation (estimates), explanation_lines.
    """
    if not len(part):
        return {"explanation": {}, "explanation_lines": []}
    predicted = said.probabilities.argmax(axis=1)
    drawn = np.sort(np.random.Generator(np.random.Philox(key=seed)).permutation(len(part))[:_MOST])
    looked, classes = part.take(drawn), predicted[drawn]
    found = model.maps(looked.images, classes)
    known = looked.lung_masks is not None
    share = explanation.lung_share(
        found, looked.lung_masks if known else lungs.mask(looked.images), looked.groups
    )
    few = slice(0, _SHUFFLED)
    shuffled = model.shuffled(seed).maps(looked.images[few], classes[few])
    likeness = explanation.randomisation_similarity(found[few], shuffled, looked.groups[few])
    facts = {"lung_share": share, "randomisation_similarity": likeness}
    lines = [
        f"Mass of the map inside the lung fields ({'as drawn' if known else 'approximate'}), over "
        f"what their area would hold by chance, on {len(looked)} images drawn at random: {share}.",
        f"Rank correlation with maps of the same network with its weights shuffled: {likeness}. "
        + (
            "Near 1 a map would not show what was learnt."
            if likeness.value is None or likeness.value < explanation.SAME
            else "That is high: these maps hardly show what was learnt, so read nothing into them."
        ),
    ]
    if looked.lesion_masks is not None and model.facts["positive_class"] is not None:
        index = said.class_names.index(model.facts["positive_class"])
        rightly = (looked.labels == index) & (classes == index)
        facts["pointing_game"] = explanation.pointing_game(
            found[rightly], looked.lesion_masks[rightly], looked.groups[rightly]
        )
        lines.append(
            f"Pointing game, on images rightly called {said.class_names[index]}: the map's peak "
            f"lies in a lesion in {facts['pointing_game']['hits']} of them; by chance in "
            f"{facts['pointing_game']['chance']}."
        )
    _draw(model, part, said, predicted, folder / "maps.png", title)
    return {"explanation": description.plain(facts), "explanation_lines": lines}


def _draw(
    model: SavedModel,
    part: Records,
    said: Predictions,
    predicted: np.ndarray,
    path: Path,
    title: str,
) -> None:
    """Draws the worst mistakes first, then the surest right answers of each class in turn."""
    sure = said.probabilities[np.arange(len(part)), predicted]
    wrong = np.flatnonzero(predicted != said.labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][: _SHOWN // 2]
    right = np.flatnonzero(predicted == said.labels)
    place = np.zeros(len(part), np.int64)  # The how-manieth of its class an image is, by sureness.
    for label in np.unique(predicted):
        members = right[predicted[right] == label]
        place[members[np.argsort(-sure[members], kind="stable")]] = np.arange(len(members))
    right = right[np.lexsort((predicted[right], place[right]))][: _SHOWN - len(wrong)]
    shown = np.concatenate([wrong, right])
    names = said.class_names
    captions = [
        f"{figures.short_name(str(part.filenames[i]))}\n"
        f"true {names[said.labels[i]]}\n"
        f"said {names[predicted[i]]} {sure[i]:.0%}: evidence for it"
        for i in shown
    ]
    explanation.contact_sheet(
        part.images[shown],
        model.maps(part.images[shown], predicted[shown]),
        captions,
        path,
        f"Maps of evidence: {title}",
    )
