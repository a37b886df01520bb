"""Phantoms: drawn from a seed alone, with true masks, and with nothing outside the opacities that tells the classes apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from trainer import phantom


@settings(max_examples=15)
@given(st.integers(0, 2**31 - 1), st.integers(0, 10**7), st.integers(0, 1), st.sampled_from([64, 100, 250, 500]))
def test_any_seed_draws_the_same_image_twice_with_masks_that_fit(seed, index, label, side):
    first, second = (phantom.draw(seed, index, label, side) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.image.shape == first.lung_mask.shape == first.lesion_mask.shape == (side, side)
    assert first.image.dtype == np.uint8 and first.lung_mask.dtype == first.lesion_mask.dtype == bool
    assert 0.12 < first.lung_mask.mean() < 0.45
    assert first.lesion_mask.any() == bool(label)
    assert not (first.lesion_mask & ~ndimage.binary_dilation(first.lung_mask, iterations=max(1, side // 100))).any()


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(0, 10**6))
def test_the_same_patient_with_and_without_opacities_differs_only_there(seed, index):
    clear, ill = (phantom.draw(seed, index, label, 250) for label in (0, 1))
    np.testing.assert_array_equal(clear.lung_mask, ill.lung_mask)
    changed = clear.image != ill.image
    assert not (changed & ~ndimage.binary_dilation(ill.lung_mask, iterations=6)).any()
    inside = ill.image[ill.lesion_mask].astype(int) - clear.image[ill.lesion_mask]
    assert inside.mean() > 3 and inside.min() >= -1


def test_images_differ_from_one_another_and_at_other_sides_show_the_same_patient():
    assert len({phantom.draw(0, index, 0, 64).image.tobytes() for index in range(20)}) == 20
    large, small = (phantom.draw(3, 5, 1, side).lung_mask for side in (500, 250))
    assert (large[::2, ::2] == small).mean() > 0.98


def test_each_pair_holds_one_of_each_class():
    labels = np.array([phantom.label_of(7, index) for index in range(200)]).reshape(-1, 2)
    assert (labels.sum(axis=1) == 1).all() and 60 < labels.mean(axis=0)[0] * 200 < 140


@pytest.fixture(scope="module")
def many() -> tuple[list[phantom.Phantom], np.ndarray]:
    drawn = [phantom.draw(0, index, phantom.label_of(0, index), 128) for index in range(240)]
    return drawn, np.array([found.label for found in drawn])


def area_of(values: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(labels, values)


def test_nothing_outside_the_lungs_tells_the_classes_apart(many):
    drawn, labels = many
    outside = np.array([found.image[~ndimage.binary_dilation(found.lung_mask, iterations=4)].mean() for found in drawn])
    border = np.array([np.concatenate([found.image[:8].ravel(), found.image[-8:].ravel()]).mean() for found in drawn])
    for values in (outside, border):
        assert 0.38 < area_of(values, labels) < 0.62  # 240 images: chance stays within 0.5 +- 0.075 in 95 % of cases.


def test_the_opacities_can_be_seen(many):
    drawn, labels = many
    contrasts = []
    for found in (found for found in drawn if found.label):
        healthy = found.lung_mask & ~ndimage.binary_dilation(found.lesion_mask, iterations=4)
        contrasts.append(found.image[found.lesion_mask].mean() - found.image[healthy].mean())
    assert labels.sum() == 120 and np.median(contrasts) > 12
