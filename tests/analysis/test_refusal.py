"""What is refused, and what is not: on phantoms with features that a network could have, and on real radiographs."""

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


def statistics_of(images: np.ndarray) -> np.ndarray:
    """Stands in for the network's features: [n, 16] float, mean and deviation of the picture in 8 strips."""
    strips = np.stack(
        np.array_split(images.reshape(len(images), *images.shape[1:3]).astype(float), 8, axis=1),
        axis=1,
    )
    return np.concatenate([strips.mean(axis=(2, 3)), strips.std(axis=(2, 3))], axis=1)


@functools.cache
def drawn(index: int) -> np.ndarray:
    return phantom.draw(0, index, phantom.label_of(0, index), SIDE).image


def phantoms(first: int, count: int) -> np.ndarray:
    return np.stack([drawn(index) for index in range(first, first + count)])[..., None]


def names(count: int) -> np.ndarray:
    return np.array([f"p{index}" for index in range(count)])


@pytest.fixture(scope="module")
def learnt() -> refusal.Refusal:
    images = phantoms(0, 120)
    return refusal.fit(images, statistics_of(images), names(120))


def foreign_pictures() -> np.ndarray:
    """Text, drawings, noise, a ramp and flat squares: [n, SIDE, SIDE] uint8."""
    rng = np.random.default_rng(0)
    page = Image.new("L", (SIDE, SIDE), 255)
    drawing = Image.new("L", (SIDE, SIDE), 40)
    for line in range(10):
        ImageDraw.Draw(page).text((4, 12 * line), "no radiograph at all", fill=0)
    ImageDraw.Draw(drawing).polygon([(10, 20), (100, 40), (60, 120)], fill=220)
    ImageDraw.Draw(drawing).ellipse([60, 5, 120, 50], fill=120)
    noise = rng.integers(0, 256, (SIDE, SIDE))
    ramp = np.tile(np.linspace(0, 255, SIDE), (SIDE, 1))
    flat = [np.full((SIDE, SIDE), level) for level in (0, 128, 255)]
    return np.stack([np.asarray(page), np.asarray(drawing), noise, ramp, *flat]).astype(np.uint8)


def test_held_out_phantoms_pass_and_foreign_pictures_do_not(learnt):
    held_out, foreign = phantoms(500, 60), foreign_pictures()
    assert np.mean(learnt.score(statistics_of(held_out), held_out) > 1.0) <= 0.10
    assert (learnt.score(statistics_of(foreign), foreign) > 1.0).all()


def test_altered_phantoms_are_refused_and_what_can_be_undone_is_named(learnt):
    rng, named = np.random.default_rng(1), []
    for image in phantoms(500, 20)[..., 0]:
        for kind, picture in zip(
            input_checks.ALTERATIONS, input_checks.altered(image, rng), strict=True
        ):
            square = radiograph.standardize(np.ascontiguousarray(picture), SIDE)
            verdict = learnt.verdict(statistics_of(square[None])[0], square)
            assert verdict.refused and verdict.score > 1.0 and "\n" not in verdict.reason
            if kind in ("cropped", "jumbled"):
                assert "it looks" not in verdict.reason
            else:
                named.append(f"it looks {kind};" in verdict.reason)
    assert np.mean(named) > 0.8


def test_a_radiograph_gets_no_reason(learnt):
    image = phantoms(500, 1)[0]
    verdict = learnt.verdict(statistics_of(image[None])[0], image)
    assert verdict == refusal.Verdict(False, verdict.score, "") and verdict.score <= 1.0


def test_what_only_the_network_sees_is_refused_with_its_own_reason(learnt):
    image = phantoms(500, 1)[0]
    verdict = learnt.verdict(50 * statistics_of(image[None])[0], image)
    assert verdict.refused and "exposure" in verdict.reason


def test_blank_pictures_and_features_that_are_no_numbers_are_refused(learnt):
    image, nothing = phantoms(500, 1)[0], np.full((SIDE, SIDE), 90, np.uint8)
    features = statistics_of(image[None])[0]
    assert "blank" in learnt.verdict(features, nothing).reason
    assert (
        learnt.score(
            np.stack([features * np.nan, features * np.inf]), np.stack([image, image])
        ).tolist()
        == [np.inf] * 2
    )
    assert learnt.verdict(features * np.nan, image).reason


def test_it_comes_back_from_its_file_as_it_was(learnt, tmp_path):
    learnt.save(tmp_path / "refusal.npz")
    back, pictures = refusal.Refusal.load(tmp_path / "refusal.npz"), foreign_pictures()
    for field in dataclasses.fields(learnt):
        np.testing.assert_array_equal(getattr(learnt, field.name), getattr(back, field.name))
        assert type(getattr(learnt, field.name)) is type(getattr(back, field.name))
    features = statistics_of(pictures)
    np.testing.assert_array_equal(learnt.score(features, pictures), back.score(features, pictures))


def test_one_seed_gives_one_result_and_the_order_of_images_in_a_call_none():
    images = phantoms(0, 60)
    first, second, other = (
        refusal.fit(images, statistics_of(images), names(60), seed) for seed in (3, 3, 4)
    )
    for name, values in first.to_arrays().items():
        np.testing.assert_array_equal(values, second.to_arrays()[name])
    assert not np.array_equal(first.weights, other.weights)
    scores = first.score(statistics_of(images), images)
    np.testing.assert_allclose(
        first.score(statistics_of(images[::-1]), images[::-1]), scores[::-1], rtol=1e-9
    )


@pytest.mark.parametrize("count, patients", [(0, 0), (1, 1), (2, 2), (10, 10), (49, 49), (60, 9)])
def test_few_radiographs_or_patients_refuse_nothing_and_say_why(count, patients, tmp_path):
    images = phantoms(0, count) if count else np.zeros((0, SIDE, SIDE, 1), np.uint8)
    found = refusal.fit(
        images,
        statistics_of(images),
        names(count) if patients == count else np.array(["p"] * count),
    )
    pictures = foreign_pictures()
    assert str(count) in found.why and "too few" in found.why
    assert not found.score(statistics_of(pictures), pictures).any()
    assert found.verdict(statistics_of(pictures)[0], pictures[0]) == refusal.Verdict(False, 0.0, "")
    found.save(tmp_path / "refusal.npz")
    assert refusal.Refusal.load(tmp_path / "refusal.npz").why == found.why


def test_equal_radiographs_and_dead_features_do_not_break_it():
    images = np.repeat(phantoms(0, 1), 60, axis=0)
    found = refusal.fit(images, np.zeros((60, 4)), names(60))
    pictures = foreign_pictures()
    assert np.isfinite(found.score(np.zeros((1, 4)), images[:1])).all()
    assert (found.score(np.zeros((len(pictures), 4)), pictures) > 1.0).all()


def test_arrays_that_do_not_fit_are_told():
    images = phantoms(0, 4)
    with pytest.raises(ValueError, match="one length"):
        refusal.fit(images, statistics_of(images)[:3], names(4))
    with pytest.raises(ValueError, match="finite"):
        refusal.fit(images, statistics_of(images) * np.nan, names(4))
    with pytest.raises(ValueError, match="uint8"):
        refusal.fit(images.astype(float), statistics_of(images), names(4))


@given(st.integers(0, 119), st.floats(0.3, 1.0), st.integers(0, 60))
def test_edge_directions_hardly_feel_exposure_and_turn_with_the_picture(seed, contrast, level):
    image = phantoms(seed, 1)[0, ..., 0]
    faint = np.rint(contrast * image * 0.75 + level).astype(np.uint8)
    plain, exposed, turned = input_checks.edge_directions([image, faint, np.rot90(image)])
    assert np.abs(plain - exposed).mean() < 0.02
    cells = plain.reshape(4, 4, 8)
    # A quarter turn to the left moves the cells and takes two of the eight directions off each edge (y grows downwards).
    np.testing.assert_allclose(
        turned.reshape(4, 4, 8), np.roll(np.rot90(cells), -2, axis=2), atol=2e-3
    )


def test_edges_of_a_negative_point_the_other_way():
    image = phantoms(7, 1)[0, ..., 0]
    plain, negative = (
        input_checks.edge_directions([picture])[0].reshape(16, 8)
        for picture in (image, 255 - image)
    )
    np.testing.assert_allclose(negative, np.roll(plain, 4, axis=1), atol=2e-3)


def test_what_is_restored_was_altered():
    image = phantoms(3, 1)[0, ..., 0]
    made = dict(
        zip(
            input_checks.ALTERATIONS,
            input_checks.altered(image, np.random.default_rng(0)),
            strict=True,
        )
    )
    for kind in input_checks.restored(image):
        np.testing.assert_array_equal(input_checks.restored(made[kind])[kind], image)
    share = made["cropped"].size / image.size
    assert 0.08 < share <= 0.38 and made["jumbled"].shape == image.shape
    np.testing.assert_array_equal(np.sort(made["jumbled"], axis=None), np.sort(image, axis=None))


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_the_risk_coverage_curve_agrees_with_counting(seed, n):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.integers(0, 8, n) / 8, rng.random(n) < 0.7
    coverage, risk, area = refusal.risk_coverage(confidence, correct, names(n))
    levels = np.unique(confidence)[::-1]
    np.testing.assert_allclose(coverage, [np.mean(confidence >= level) for level in levels])
    np.testing.assert_allclose(risk, [np.mean(~correct[confidence >= level]) for level in levels])
    each = [np.mean(~correct[confidence >= value]) for value in confidence]
    assert area.value == pytest.approx(np.mean(each)) and area.low <= area.high and area.n == n
    assert coverage[-1] == 1.0 and risk[-1] == pytest.approx(np.mean(~correct))


def test_the_best_order_has_the_published_area():
    # Geifman 2019 (arXiv:1805.08206), section 3: for an error rate r the least area is about r + (1 - r) ln(1 - r).
    n, errors = 2_000, 400
    correct = np.arange(n) < n - errors
    _, _, area = refusal.risk_coverage(-np.arange(n, dtype=float), correct, np.arange(n) // 100)
    assert area.value == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=2e-3)


def test_the_curve_is_drawn_and_no_image_gives_no_number(tmp_path):
    area = refusal.risk_coverage_figure(
        np.array([0.9, 0.8, 0.6]),
        np.array([True, True, False]),
        names(3),
        tmp_path / "curve.png",
        "three images",
    )
    assert Image.open(tmp_path / "curve.png").size[0] > 300 and area.value == pytest.approx(1 / 9)
    assert refusal.risk_coverage(np.empty(0), np.empty(0, bool), np.empty(0, str))[2].value is None


def test_real_radiographs_pass_and_inverted_or_turned_ones_do_not(sample_dir):
    folder = sample_dir / "covid_update"
    groups = dict(
        line.split(",")[:2] for line in (folder / "groups.csv").read_text().splitlines()[1:]
    )
    sets = []
    for split, step in (("Train", 2), ("Test", 4)):
        paths = sorted(
            path for path in (folder / split).rglob("*") if path.suffix in radiograph.EXTENSIONS
        )[::step]
        images = np.stack([radiograph.standardize(radiograph.read(path), 256) for path in paths])
        sets.append((images, np.array([groups[str(path.relative_to(folder))] for path in paths])))
    (train, patients), (test, _) = sets
    found = refusal.fit(train, statistics_of(train), patients)
    assert np.mean(found.score(statistics_of(test), test) > 1.0) <= 0.10
    for foreign in (255 - test, np.rot90(test, axes=(1, 2)), test[:, ::-1, ::-1]):
        assert np.mean(found.score(statistics_of(foreign), foreign) > 1.0) >= 0.90
