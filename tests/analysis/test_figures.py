"""Figures: contact sheets are drawn with captions, maps and pairs."""

import numpy as np
import pytest
from PIL import Image

from tests.analysis.builders import make_predictions, single_groups
from trainer.analysis import diagrams, figures
from trainer.analysis.duplicates import Pair


@pytest.fixture
def images() -> np.ndarray:
    """Four images of noise, [4, 60, 60, 1]."""
    return np.random.default_rng(0).integers(0, 256, (4, 60, 60, 1)).astype(np.uint8)


def test_a_contact_sheet_is_drawn_with_and_without_maps(images, tmp_path):
    captions = ["a", "b", "c", "d"]
    maps = np.zeros((4, 60, 60))  # The last map stays empty.
    maps[:3, 20:40] = 1.0
    figures.contact_sheet(
        images,
        captions,
        tmp_path / "plain.png",
        "images",
    )
    figures.contact_sheet(
        images,
        captions,
        tmp_path / "maps.png",
        "maps",
        6,
        maps,
    )
    plain = Image.open(tmp_path / "plain.png")
    with_maps = Image.open(tmp_path / "maps.png").convert("RGB")
    assert plain.width > 300
    assert with_maps.width > plain.width  # Its panels are larger.
    red, _, blue = np.asarray(with_maps).astype(int).transpose(2, 0, 1)
    assert (abs(red - blue) > 50).any()  # The images are grey, the maps are not.


def test_near_duplicates_are_drawn_as_pairs(images, tmp_path):
    pairs = (
        Pair(
            "f0",
            "f1",
            99,
            False,
        ),
        Pair(
            "f2",
            "f3",
            60,
            True,
        ),
    )
    filenames = np.array(["f0", "f1", "f2", "f3"])
    path = tmp_path / "sheet.png"
    figures.near_duplicates(
        images,
        filenames,
        pairs,
        path,
        "2 pairs",
    )
    sheet = Image.open(path)
    assert sheet.width > 300
    assert sheet.height > sheet.width  # Two rows of two.


def test_worst_mistakes_are_drawn_also_where_there_is_none(images, tmp_path):
    labels = np.array([0, 1, 0, 1])
    right = np.eye(2)[labels]
    for name, probabilities in (("none", right), ("all", 1 - right)):
        predictions = make_predictions(labels, probabilities)
        path = tmp_path / f"{name}.png"
        figures.worst_mistakes(
            images,
            predictions,
            path,
            "mistakes",
        )
        assert Image.open(path).width > 300
    caption = figures.verdict_caption(make_predictions(labels, 1 - right), 1, 0)
    assert caption == "0001.png\ntrue covid\npredicted non_covid 100%"


def test_the_risk_coverage_curve_is_drawn(tmp_path):
    confidence = np.array([0.9, 0.8, 0.6])
    correct = np.array([True, True, False])
    path = tmp_path / "curve.png"
    diagrams.risk_coverage(
        confidence,
        correct,
        single_groups(3),
        path,
        "three images",
    )
    assert Image.open(path).width > 300


def test_a_long_name_is_shortened_in_the_middle():
    assert figures.short_name("folder/short.png") == "short.png"
    assert figures.short_name("folder/" + "a" * 20 + "b" * 20) == "a" * 12 + "…" + "b" * 11
