"""The validation cut: whole groups, every class's share, the same for one seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.training import split
from trainer.training.split import train_and_validation


def patients(rng: np.random.Generator, classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    labels, groups = [], []
    for label in range(classes):
        for patient in range(each):
            count = int(rng.integers(1, 6))
            labels += [label] * count
            groups += [f"{label}-{patient}"] * count
    order = rng.permutation(len(labels))
    return np.array(labels)[order], np.array(groups)[order]


@given(st.integers(0, 10_000), st.integers(2, 4), st.floats(0.05, 0.5))
def test_no_group_is_on_both_sides_and_classes_keep_their_share(seed, classes, fraction):
    labels, groups = patients(np.random.default_rng(seed), classes, 30)
    train, validation = train_and_validation(labels, groups, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert not set(groups[train]) & set(groups[validation])
    for label in range(classes):
        share = (labels[validation] == label).sum() / (labels == label).sum()
        assert abs(share - fraction) < 0.08
    again = train_and_validation(labels, groups, fraction, seed)[1]
    np.testing.assert_array_equal(again, validation)


def test_other_seeds_give_other_cuts():
    labels, groups = patients(np.random.default_rng(1), 2, 40)
    first, second = (train_and_validation(labels, groups, 0.15, seed)[1] for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_a_group_with_images_of_two_classes_stays_whole():
    labels = np.array([0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1])
    groups = np.array(["a", "a", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"])
    train, validation = train_and_validation(labels, groups, 0.3, 0)
    assert not set(groups[train]) & set(groups[validation])


def test_a_fraction_of_zero_holds_nothing_out():
    train, validation = train_and_validation(np.array([0, 1]), np.array(["a", "b"]), 0.0, 0)
    assert len(train) == 2 and len(validation) == 0


def test_a_class_of_one_patient_cannot_be_cut():
    with pytest.raises(UserError, match="--validation_fraction=0"):
        train_and_validation(np.array([0, 0, 1, 1]), np.array(["a", "b", "c", "c"]), 0.3, 0)


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 6))
def test_folds_hold_each_image_out_once_and_keep_groups_whole(seed, classes, folds):
    labels, groups = patients(np.random.default_rng(seed), classes, 12)
    fold = split.fold_of(labels, groups, folds, seed)
    assert set(fold) == set(range(folds))
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1
    for number in range(folds):
        assert set(labels[fold == number]) == set(range(classes))
    np.testing.assert_array_equal(split.fold_of(labels, groups, folds, seed), fold)


def test_members_of_a_cross_validation_hold_their_fold_out_and_the_last_model_nothing():
    labels, groups = patients(np.random.default_rng(0), 2, 12)
    held_out = [
        split.parts(labels, groups, TrainConfig(folds=3, fold=fold))[1] for fold in range(3)
    ]
    assert sorted(np.concatenate(held_out)) == list(range(len(labels)))
    train, nothing = split.parts(labels, groups, TrainConfig(folds=3))
    assert len(train) == len(labels) and not len(nothing)


def test_more_folds_than_patients_are_refused_in_one_line():
    with pytest.raises(UserError, match="--folds"):
        split.fold_of(np.array([0, 0, 1, 1, 1]), np.array(["a", "b", "c", "c", "d"]), 3, 0)
