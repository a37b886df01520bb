"""Refusal of foreign pictures, and not of radiographs: on phantoms and on real radiographs."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from trainer.analysis import input_checks, refusal
from trainer.data import phantom, radiograph

SIDE = 128


def strip_features(images: np.ndarray) -> np.ndarray:
    """Computes stand-ins for the network's features: [n, 16] float.

    They are mean and deviation of the picture in 8 strips.
    """
    squares = images.reshape(len(images), *images.shape[1:3]).astype(float)
    strips = np.stack(np.array_split(squares, 8, axis=1), axis=1)  # [n, 8, height, width]
    return np.concatenate([strips.mean(axis=(2, 3)), strips.std(axis=(2, 3))], axis=1)


@functools.cache
def phantom_image(index: int) -> np.ndarray:
    return phantom.draw(
        0,
        index,
        phantom.label_of(0, index),
        SIDE,
    ).image


def phantoms(first: int, count: int) -> np.ndarray:
    """Draws phantoms, [count, SIDE, SIDE, 1] uint8."""
    return np.stack([phantom_image(index) for index in range(first, first + count)])[..., None]


def patients(count: int) -> np.ndarray:
    return np.array([f"p{index}" for index in range(count)])


@pytest.fixture(scope="module")
def fitted() -> refusal.Refusal:
    images = phantoms(0, 120)
    return refusal.fit(images, strip_features(images), patients(120))


def foreign_pictures() -> np.ndarray:
    """Draws text, shapes, noise, a ramp and flat squares: [n, SIDE, SIDE] uint8."""
    page = Image.new("L", (SIDE, SIDE), 255)
    for line in range(10):
        ImageDraw.Draw(page).text((4, 12 * line), "no radiograph at all", fill=0)
    drawing = Image.new("L", (SIDE, SIDE), 40)
    ImageDraw.Draw(drawing).polygon([(10, 20), (100, 40), (60, 120)], fill=220)
    ImageDraw.Draw(drawing).ellipse([60, 5, 120, 50], fill=120)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE))
    ramp = np.tile(np.linspace(0, 255, SIDE), (SIDE, 1))
    flat = [np.full((SIDE, SIDE), level) for level in (0, 128, 255)]
    return np.stack([np.asarray(page), np.asarray(drawing), noise, ramp, *flat]).astype(np.uint8)


def test_held_out_phantoms_pass_and_foreign_pictures_do_not(fitted):
    held_out = phantoms(500, 60)
    foreign = foreign_pictures()
    assert np.mean(fitted.score(strip_features(held_out), held_out) > 1.0) <= 0.10
    assert (fitted.score(strip_features(foreign), foreign) > 1.0).all()


def test_altered_phantoms_are_refused_and_the_alteration_is_named(fitted):
    rng = np.random.default_rng(1)
    named = []
    for image in phantoms(500, 20)[..., 0]:
        pictures = input_checks.altered(image, rng)
        for alteration, picture in zip(input_checks.ALTERATIONS, pictures, strict=True):
            square = radiograph.standardize(np.ascontiguousarray(picture), SIDE)
            verdict = fitted.verdict(strip_features(square[None])[0], square)
            assert verdict.refused
            assert verdict.score > 1.0
            assert "\n" not in verdict.reason
            if alteration in ("cropped", "jumbled"):
                assert "it looks" not in verdict.reason  # It cannot be undone.
            else:
                named.append(f"it looks {alteration};" in verdict.reason)
    assert np.mean(named) > 0.8


def test_a_radiograph_gets_no_reason(fitted):
    image = phantoms(500, 1)[0]
    verdict = fitted.verdict(strip_features(image[None])[0], image)
    assert verdict == refusal.Verdict(False, verdict.score, "")
    assert verdict.score <= 1.0


def test_a_picture_that_only_the_network_finds_strange_has_its_own_reason(fitted):
    image = phantoms(500, 1)[0]
    # The picture is ordinary, its features are not.
    verdict = fitted.verdict(50 * strip_features(image[None])[0], image)
    assert verdict.refused
    assert "exposure" in verdict.reason


def test_blank_pictures_and_features_that_are_no_numbers_are_refused(fitted):
    image = phantoms(500, 1)[0]
    blank = np.full((SIDE, SIDE), 90, np.uint8)
    features = strip_features(image[None])[0]
    # NaN and infinity.
    no_numbers = np.stack([features * np.nan, features * np.inf])
    scores = fitted.score(no_numbers, np.stack([image, image]))
    assert "blank" in fitted.verdict(features, blank).reason
    assert scores.tolist() == [np.inf, np.inf]
    assert fitted.verdict(features * np.nan, image).reason


def test_a_saved_refusal_is_loaded_unchanged(fitted, tmp_path):
    fitted.save(tmp_path / "refusal.npz")
    loaded = refusal.Refusal.load(tmp_path / "refusal.npz")
    for field in dataclasses.fields(fitted):
        saved_value = getattr(fitted, field.name)
        loaded_value = getattr(loaded, field.name)
        np.testing.assert_array_equal(saved_value, loaded_value)
        assert type(saved_value) is type(loaded_value)
    pictures = foreign_pictures()
    features = strip_features(pictures)
    scores = fitted.score(features, pictures)
    np.testing.assert_array_equal(loaded.score(features, pictures), scores)


def test_a_fit_is_reproducible_and_scores_do_not_depend_on_the_order():
    images = phantoms(0, 60)
    features = strip_features(images)
    first, second, other = (
        refusal.fit(
            images,
            features,
            patients(60),
            seed,
        )
        for seed in (3, 3, 4)
    )
    for name, values in first.to_arrays().items():
        np.testing.assert_array_equal(values, second.to_arrays()[name])
    assert not np.array_equal(first.weights, other.weights)
    reverse = first.score(features[::-1], images[::-1])
    np.testing.assert_allclose(reverse, first.score(features, images)[::-1], rtol=1e-9)


@pytest.mark.parametrize(
    ("count", "groups"),
    [(0, 0), (1, 1), (2, 2), (10, 10), (49, 49), (60, 9)],
)
def test_few_radiographs_or_patients_refuse_nothing(
    count,
    groups,
    tmp_path,
):
    images = phantoms(0, count) if count else np.zeros((0, SIDE, SIDE, 1), np.uint8)
    names = patients(count) if groups == count else np.array(["p"] * count)
    never = refusal.fit(images, strip_features(images), names)
    pictures = foreign_pictures()
    features = strip_features(pictures)
    assert str(count) in never.why
    assert "too few" in never.why
    assert not never.score(features, pictures).any()
    assert never.verdict(features[0], pictures[0]) == refusal.Verdict(False, 0.0, "")
    never.save(tmp_path / "refusal.npz")
    assert refusal.Refusal.load(tmp_path / "refusal.npz").why == never.why


def test_equal_radiographs_and_constant_features_give_finite_scores():
    images = np.repeat(phantoms(0, 1), 60, axis=0)
    # No feature and no picture varies.
    constant = refusal.fit(images, np.zeros((60, 4)), patients(60))
    pictures = foreign_pictures()
    assert np.isfinite(constant.score(np.zeros((1, 4)), images[:1])).all()
    assert (constant.score(np.zeros((len(pictures), 4)), pictures) > 1.0).all()


def test_arrays_that_do_not_fit_are_rejected():
    images = phantoms(0, 4)
    features = strip_features(images)
    with pytest.raises(ValueError, match="one length"):
        refusal.fit(images, features[:3], patients(4))
    with pytest.raises(ValueError, match="finite"):
        refusal.fit(images, features * np.nan, patients(4))
    with pytest.raises(ValueError, match="uint8"):
        refusal.fit(images.astype(float), features, patients(4))


@given(st.integers(0, 119), st.floats(0.3, 1.0), st.integers(0, 60))
def test_edge_directions_ignore_exposure_and_turn_with_the_picture(
    seed,
    contrast,
    level,
):
    image = phantoms(seed, 1)[0, ..., 0]
    faint = np.rint(contrast * image * 0.75 + level).astype(np.uint8)
    plain, exposed, turned = input_checks.edge_directions([image, faint, np.rot90(image)])
    assert np.abs(plain - exposed).mean() < 0.02
    cells = plain.reshape(4, 4, 8)
    # A quarter turn to the left moves the cells and takes two of the eight directions off each edge
    # (y grows downwards).
    expected = np.roll(np.rot90(cells), -2, axis=2)
    np.testing.assert_allclose(turned.reshape(4, 4, 8), expected, atol=2e-3)


def test_edges_of_a_negative_point_the_other_way():
    image = phantoms(7, 1)[0, ..., 0]
    plain, negative = input_checks.edge_directions([image, 255 - image]).reshape(2, 16, 8)
    np.testing.assert_allclose(negative, np.roll(plain, 4, axis=1), atol=2e-3)


def test_restoring_inverts_the_alteration():
    image = phantoms(3, 1)[0, ..., 0]
    pictures = input_checks.altered(image, np.random.default_rng(0))
    altered = dict(zip(input_checks.ALTERATIONS, pictures, strict=True))
    for alteration in input_checks.restored(image):
        restored = input_checks.restored(altered[alteration])
        np.testing.assert_array_equal(restored[alteration], image)
    assert 0.08 < altered["cropped"].size / image.size <= 0.38
    jumbled = altered["jumbled"]
    assert jumbled.shape == image.shape
    np.testing.assert_array_equal(np.sort(jumbled, axis=None), np.sort(image, axis=None))


def test_real_radiographs_pass_and_inverted_or_turned_ones_do_not(sample_dir):
    folder = sample_dir / "covid_update"
    lines = (folder / "groups.csv").read_text(encoding="utf-8").splitlines()[1:]
    group_of = dict(line.split(",")[:2] for line in lines)

    def read(split: str, step: int) -> tuple[np.ndarray, np.ndarray]:
        files = sorted((folder / split).rglob("*"))
        paths = [path for path in files if path.suffix in radiograph.EXTENSIONS][::step]
        images = [radiograph.standardize(radiograph.read(path), 256) for path in paths]
        groups = [group_of[str(path.relative_to(folder))] for path in paths]
        return np.stack(images), np.array(groups)

    train, groups = read("Train", 2)
    test, _ = read("Test", 4)
    fitted_to_real = refusal.fit(train, strip_features(train), groups)
    assert np.mean(fitted_to_real.score(strip_features(test), test) > 1.0) <= 0.10
    for foreign in (255 - test, np.rot90(test, axes=(1, 2)), test[:, ::-1, ::-1]):
        scores = fitted_to_real.score(strip_features(foreign), foreign)
        assert np.mean(scores > 1.0) >= 0.90
