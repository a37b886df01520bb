"""Evidence maps of a model, measured against lungs, lesions and shuffled weights.

content = measure_maps(model, records, predictions, folder, title)
"""

from pathlib import Path
from typing import Any

import numpy as np

from trainer.analysis import explanation, figures
from trainer.analysis.intervals import Estimate
from trainer.analysis.predictions import Predictions
from trainer.data import lungs
from trainer.data.records import Records
from trainer.evaluation.description import plain
from trainer.evaluation.saved_model import SavedModel

_MAX_MEASURED = 60  # Enough for an interval, in a few seconds.
_MAX_DRAWN = 12  # Two rows of a figure.
_MAX_SHUFFLED = 12  # Each needs a map of a second network.


def measure_maps(
    model: SavedModel,
    records: Records,
    predictions: Predictions,
    folder: Path,
    title: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures maps of the predicted class, or of opacities, on a random sample.

    Of several findings an image, the map of the most probable one is measured, and each finding on
    images rightly called so.

    Args:
      model: the saved model.
      records: the images.
      predictions: of these images, in the same order.
      folder: for maps.png.
      title: of the figure.
      seed: of the sample and of the shuffled weights.

    Returns:
      Entries of evaluation.json: explanation (estimates) and explanation_lines.
    """
    if not len(records):
        return {"explanation": {}, "explanation_lines": []}
    rng = np.random.Generator(np.random.Philox(key=seed))
    chosen = np.sort(rng.permutation(len(records))[:_MAX_MEASURED])
    sample = records.take(chosen)
    # The predicted class, or the most probable finding.
    classes = model.mapped_classes(predictions.probabilities[chosen].argmax(axis=1))
    maps = model.maps(sample.images, classes)  # [n, side, side]
    share, source = _lung_share(maps, sample)
    # Maps that survive shuffled weights do not show what was learnt (Adebayo 2018).
    few = slice(0, _MAX_SHUFFLED)
    shuffled = model.with_shuffled_weights(seed).maps(sample.images[few], classes[few])
    similarity = explanation.randomisation_similarity(maps[few], shuffled, sample.groups[few])
    facts: dict[str, Any] = {"lung_share": share, "randomisation_similarity": similarity}
    lines = [
        (
            f"Mass of the map inside the lung fields ({source}), over what their area would hold "
            f"by chance, on {len(sample)} images drawn at random: {share}."
        ),
        _similarity_line(similarity),
    ]
    positive = predictions.positive_index
    if sample.lesion_masks is not None and positive is not None:
        # Only there does a lesion explain the answer.
        hits = (sample.labels == positive) & (predictions.predicted[chosen] == positive)  # [n] bool
        game = explanation.pointing_game(maps[hits], sample.lesion_masks[hits], sample.groups[hits])
        facts["pointing_game"] = game
        lines.append(_game_line(str(predictions.positive_class), game))
    if predictions.multi_label:
        facts["findings"] = _measure_findings(model, records, predictions, rng)
        for name, row in facts["findings"].items():
            lines.append(
                f"{name}, on {row['images']} images rightly called so: mass of its map inside the "
                f"lung fields over chance {row['lung_share']}."
            )
            if "pointing_game" in row:
                lines.append(_game_line(name, row["pointing_game"]))
    _draw(model, records, predictions, folder / "maps.png", title)
    return {"explanation": plain(facts), "explanation_lines": lines}


def _measure_findings(
    model: SavedModel, records: Records, predictions: Predictions, rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """Measures the map of each finding on a sample of the images rightly called so."""
    rows = {}
    for index, name in enumerate(predictions.class_names):
        called = predictions.probabilities[:, index] >= model.facts["threshold"][index]
        right = np.flatnonzero(called & (predictions.labels[:, index] == 1))
        if not len(right):
            continue
        sample = records.take(np.sort(rng.permutation(right)[:_MAX_MEASURED]))
        maps = model.maps(sample.images, np.full(len(sample), index))
        row = {"images": len(sample), "lung_share": _lung_share(maps, sample)[0]}
        if sample.lesion_masks is not None:
            masks = sample.lesion_masks[..., index]  # [n, side, side]
            row["pointing_game"] = explanation.pointing_game(maps, masks, sample.groups)
        rows[name] = row
    return rows


def _game_line(name: str, game: dict[str, Estimate]) -> str:
    return (
        f"Pointing game, on images rightly called {name}: the map's peak lies in a lesion in "
        f"{game['hits']} of them; by chance in {game['chance']}."
    )


def _similarity_line(similarity: Estimate) -> str:
    verdict = "Near 1 a map would not show what was learnt."
    if similarity.value is not None and similarity.value >= explanation.SAME:
        verdict = "That is high: these maps hardly show what was learnt, so read nothing into them."
    return (
        "Rank correlation with maps of the same network with its weights shuffled: "
        f"{similarity}. {verdict}"
    )


def _lung_share(maps: np.ndarray, sample: Records) -> tuple[Estimate, str]:
    """Measures the mass of maps in the lungs; names the source of the lung masks."""
    # Phantoms know their lungs.
    if sample.lung_masks is not None:
        return explanation.lung_share(maps, sample.lung_masks, sample.groups), "as drawn"
    masks = lungs.mask(sample.images)  # [n, side, side] bool
    return explanation.lung_share(maps, masks, sample.groups), "predicted"


def _draw(
    model: SavedModel, records: Records, predictions: Predictions, path: Path, title: str
) -> None:
    """Draws the most confident mistakes, then correct images of each class or finding."""
    # At most half of the figure, so that correct images have room.
    wrong = figures.mistakes(predictions)[: _MAX_DRAWN // 2]
    drawn = [*wrong, *_correct_in_turns(predictions)[: _MAX_DRAWN - len(wrong)]]
    chosen = np.array([index for index, _ in drawn], np.int64)
    labels = np.array([label for _, label in drawn], np.int64)
    opacity_map = model.facts.get("opacity_map")
    content = "opacities" if opacity_map else "evidence for it"
    captions = [
        f"{figures.verdict_caption(predictions, index, label)}: {content}" for index, label in drawn
    ]
    figures.contact_sheet(
        records.images[chosen],
        captions,
        path,
        f"Maps of evidence: {title}",
        columns=6,
        maps=model.maps(records.images[chosen], model.mapped_classes(labels)),
        full=opacity_map["full"] if opacity_map else 0.0,
    )


def _correct_in_turns(predictions: Predictions) -> list[tuple[int, int]]:
    """Lists correct images of each class, the most confident first; the classes take turns.

    Returns:
      (image, class) pairs; of findings (image, finding that is there and was called).
    """
    predicted = predictions.predicted
    ranked = []
    for label in range(len(predictions.class_names)):
        if predictions.multi_label:
            right = (predicted[:, label] == 1) & (predictions.labels[:, label] == 1)
        else:
            right = predictions.correct & (predicted == label)
        members = np.flatnonzero(right)
        order = np.argsort(-predictions.probabilities[members, label], kind="stable")
        ranked += [(rank, label, index) for rank, index in enumerate(members[order].tolist())]
    return [(index, label) for _, label, index in sorted(ranked)]
