"""Phantoms: drawn from a seed alone, with true masks, and with nothing outside the opacities that tells the classes apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from trainer.data import phantom


@settings(max_examples=15)
@given(
    st.integers(0, 2**31 - 1),
    st.integers(0, 10**7),
    st.integers(0, 1),
    st.sampled_from([64, 100, 250, 500]),
)
def test_any_seed_draws_the_same_image_twice_with_masks_that_fit(seed, index, label, side):
    first, second = (phantom.draw(seed, index, label, side) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.image.shape == first.lung_mask.shape == first.lesion_mask.shape == (side, side)
    assert (
        first.image.dtype == np.uint8 and first.lung_mask.dtype == first.lesion_mask.dtype == bool
    )
    assert 0.12 < first.lung_mask.mean() < 0.45
    assert first.lesion_mask.any() == bool(label)
    assert not (
        first.lesion_mask
        & ~ndimage.binary_dilation(first.lung_mask, iterations=max(1, side // 100))
    ).any()


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(0, 10**6), st.sampled_from([64, 250, 400]))
def test_the_same_patient_with_and_without_opacities_differs_in_the_lungs_only(seed, index, side):
    clear, ill = (phantom.draw(seed, index, label, side) for label in (0, 1))
    np.testing.assert_array_equal(clear.lung_mask, ill.lung_mask)
    gained = ill.image.astype(int) - clear.image
    # Resampling reaches two pixels of the drawing or of the image, in a square, and rings by a few per cent of what was added.
    from_lung, from_lesion = (
        ndimage.distance_transform_cdt(~mask, metric="chessboard")
        for mask in (ill.lung_mask, ill.lesion_mask)
    )
    assert not gained[from_lung > 2 + 0.02 * side].any()
    assert np.abs(gained[from_lung > 2 + 0.01 * side]).max() <= 2
    # Spared lung holds more air, if anything: only opacities brighten.
    assert gained[from_lesion > 0].max() <= 6 and gained[from_lesion > 2 + 0.01 * side].max() <= 2
    assert gained[ill.lesion_mask].mean() > 3 + gained[ill.lung_mask & (from_lesion > 0)].mean()


@pytest.mark.parametrize(
    "arguments", [(0, 0, 2, 64), (0, 0, 0, 63), (0, 0, 0, 1001), (-1, 0, 0, 64), (0, -1, 0, 64)]
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="side 64 to 1000"):
        phantom.draw(*arguments)


def test_the_largest_side_is_drawn():
    assert phantom.draw(0, 0, 1, 1000).image.shape == (1000, 1000)


def test_lungs_are_dark_and_differ_from_one_another():
    halves = []
    for index in range(12):
        found = phantom.draw(0, index, 0, 128)
        assert (
            found.image[found.lung_mask].mean() < found.image[40:100, 58:70].mean()
        )  # The spine and heart.
        halves.append(
            np.abs(found.lung_mask[:, :64].sum() - found.lung_mask[:, :63:-1].sum())
            / found.lung_mask.sum()
        )
    assert np.median(halves) > 0.01


def test_images_differ_from_one_another_and_at_other_sides_show_the_same_patient():
    assert len({phantom.draw(0, index, 0, 64).image.tobytes() for index in range(20)}) == 20
    large, small = (phantom.draw(3, 5, 1, side).lung_mask for side in (500, 250))
    assert (large[::2, ::2] == small).mean() > 0.98


def test_each_pair_holds_one_of_each_class():
    labels = np.array([phantom.label_of(7, index) for index in range(200)]).reshape(-1, 2)
    assert (labels.sum(axis=1) == 1).all() and 60 < labels.mean(axis=0)[0] * 200 < 140


def test_other_draws_from_the_global_generator_change_nothing():
    first = phantom.draw(1, 2, 1, 64).image
    np.random.seed(5)
    np.random.random(100)
    np.testing.assert_array_equal(phantom.draw(1, 2, 1, 64).image, first)


@pytest.fixture(scope="module")
def many() -> tuple[list[phantom.Phantom], np.ndarray]:
    drawn = [phantom.draw(0, index, phantom.label_of(0, index), 128) for index in range(240)]
    return drawn, np.array([found.label for found in drawn])


def area_of(values: np.ndarray, labels: np.ndarray) -> float:
    return roc_auc_score(labels, values)


def test_nothing_outside_the_lungs_tells_the_classes_apart(many):
    drawn, labels = many
    outside = np.array(
        [
            found.image[~ndimage.binary_dilation(found.lung_mask, iterations=4)].mean()
            for found in drawn
        ]
    )
    border = np.array(
        [
            np.concatenate([found.image[:8].ravel(), found.image[-8:].ravel()]).mean()
            for found in drawn
        ]
    )
    for values in (outside, border):
        assert (
            0.38 < area_of(values, labels) < 0.62
        )  # 240 images: chance stays within 0.5 +- 0.075 in 95 % of cases.


def test_mean_and_deviation_say_little(many):
    drawn, labels = many
    values = np.array([(found.image.mean(), found.image.std()) for found in drawn])
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    scores = cross_val_predict(LogisticRegression(), values, labels, cv=5, method="predict_proba")[
        :, 1
    ]
    assert (
        area_of(scores, labels) < 0.62
    )  # Chance, as far as 240 images show; a network reads over 0.95.


def test_the_opacities_can_be_seen(many):
    drawn, labels = many
    contrasts = []
    for found in (found for found in drawn if found.label):
        healthy = found.lung_mask & ~ndimage.binary_dilation(found.lesion_mask, iterations=4)
        contrasts.append(found.image[found.lesion_mask].mean() - found.image[healthy].mean())
    assert labels.sum() == 120 and np.median(contrasts) > 12
