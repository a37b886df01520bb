"""Tests of phantoms: reproducible, with true masks, and separable by the opacities only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from trainer.data import phantom

# With 240 images, chance stays within 0.5 +- 0.075 in 95 % of cases.
CHANCE = 0.62


@settings(max_examples=15)
@given(
    st.integers(0, 2**31 - 1),
    st.integers(0, 10**7),
    st.integers(0, 1),
    st.sampled_from([64, 100, 250, 500]),
)
def test_any_seed_draws_the_same_image_twice_with_fitting_masks(seed, index, label, side):
    first = phantom.draw(seed, index, label, side)
    second = phantom.draw(seed, index, label, side)
    assert first.image.tobytes() == second.image.tobytes()
    shapes = {first.image.shape, first.lung_mask.shape, first.lesion_mask.shape}
    assert shapes == {(side, side)}
    assert first.image.dtype == np.uint8
    assert first.lung_mask.dtype == first.lesion_mask.dtype == bool
    assert 0.12 < first.lung_mask.mean() < 0.45
    assert first.lesion_mask.any() == bool(label)
    # Masks are resampled separately, so edges may differ.
    near_lungs = ndimage.binary_dilation(first.lung_mask, iterations=max(1, side // 100))
    assert not (first.lesion_mask & ~near_lungs).any()


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(0, 10**6), st.sampled_from([64, 250, 400]))
def test_opacities_change_a_patient_within_the_lungs_only(seed, index, side):
    clear = phantom.draw(seed, index, 0, side)
    ill = phantom.draw(seed, index, 1, side)
    np.testing.assert_array_equal(clear.lung_mask, ill.lung_mask)
    gain = ill.image.astype(int) - clear.image
    # Resampling extends two pixels of the drawing or of the image, in a square, and rings by a few
    # per cent of the change.
    from_lung = ndimage.distance_transform_cdt(~ill.lung_mask, metric="chessboard")
    from_lesion = ndimage.distance_transform_cdt(~ill.lesion_mask, metric="chessboard")
    assert not gain[from_lung > 2 + 0.02 * side].any()
    assert np.abs(gain[from_lung > 2 + 0.01 * side]).max() <= 2
    # Spared lung holds more air, if anything: only opacities brighten.
    assert gain[from_lesion > 0].max() <= 6
    assert gain[from_lesion > 2 + 0.01 * side].max() <= 2
    spared = ill.lung_mask & (from_lesion > 0)
    assert gain[ill.lesion_mask].mean() > 3 + gain[spared].mean()


@pytest.mark.parametrize(
    "arguments", [(0, 0, 2, 64), (0, 0, 0, 63), (0, 0, 0, 1001), (-1, 0, 0, 64), (0, -1, 0, 64)]
)
def test_arguments_out_of_range_are_rejected(arguments):
    with pytest.raises(ValueError, match="side 64 to 1000"):
        phantom.draw(*arguments)


def test_largest_side_is_drawn():
    assert phantom.draw(0, 0, 1, 1000).image.shape == (1000, 1000)


def test_lungs_are_dark_and_asymmetric():
    asymmetries = []
    for index in range(12):
        example = phantom.draw(0, index, 0, 128)
        lungs = example.lung_mask
        spine_and_heart = example.image[40:100, 58:70]
        assert example.image[lungs].mean() < spine_and_heart.mean()
        difference = np.abs(lungs[:, :64].sum() - lungs[:, :63:-1].sum())
        asymmetries.append(difference / lungs.sum())
    assert np.median(asymmetries) > 0.01


def test_images_differ_and_show_the_same_patient_at_other_sides():
    images = {phantom.draw(0, index, 0, 64).image.tobytes() for index in range(20)}
    assert len(images) == 20
    # The same anatomy at two sides.
    large = phantom.draw(3, 5, 1, 500).lung_mask
    small = phantom.draw(3, 5, 1, 250).lung_mask
    assert (large[::2, ::2] == small).mean() > 0.98


def test_each_pair_has_one_of_each_class():
    labels = np.array([phantom.label_of(7, index) for index in range(200)]).reshape(-1, 2)
    assert (labels.sum(axis=1) == 1).all()
    assert 60 < labels.mean(axis=0)[0] * 200 < 140


def test_global_generator_has_no_influence():
    first = phantom.draw(1, 2, 1, 64).image
    np.random.seed(5)
    np.random.random(100)
    np.testing.assert_array_equal(phantom.draw(1, 2, 1, 64).image, first)


@pytest.fixture(scope="module")
def phantoms() -> list[phantom.Phantom]:
    return [phantom.draw(0, index, phantom.label_of(0, index), 128) for index in range(240)]


@pytest.fixture(scope="module")
def labels(phantoms) -> np.ndarray:
    return np.array([example.label for example in phantoms])


def test_nothing_outside_the_lungs_separates_the_classes(phantoms, labels):
    outside = []
    border = []
    for example in phantoms:
        near_lungs = ndimage.binary_dilation(example.lung_mask, iterations=4)
        outside.append(example.image[~near_lungs].mean())
        edges = [example.image[:8].ravel(), example.image[-8:].ravel()]
        border.append(np.concatenate(edges).mean())
    for values in (outside, border):
        assert 1 - CHANCE < roc_auc_score(labels, values) < CHANCE


def test_mean_and_deviation_hardly_separate_the_classes(phantoms, labels):
    values = np.array([(example.image.mean(), example.image.std()) for example in phantoms])
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    probabilities = cross_val_predict(
        LogisticRegression(), values, labels, cv=5, method="predict_proba"
    )
    # A network achieves an AUC over 0.95.
    assert roc_auc_score(labels, probabilities[:, 1]) < CHANCE


def test_opacities_are_visible(phantoms, labels):
    contrasts = []
    for example in phantoms:
        if example.label:
            near_lesions = ndimage.binary_dilation(example.lesion_mask, iterations=4)
            healthy = example.lung_mask & ~near_lesions
            contrast = example.image[example.lesion_mask].mean() - example.image[healthy].mean()
            contrasts.append(contrast)
    assert labels.sum() == 120
    assert np.median(contrasts) > 12
