"""Tests of the validation split and the folds: whole groups, every class's share, one seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.data import split
from trainer.data.split import train_and_validation
from trainer.errors import UserError


def make_patients(seed: int, classes: int, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of patients with one to five images each."""
    rng = np.random.default_rng(seed)
    labels = []
    groups = []
    for label in range(classes):
        for patient in range(per_class):
            count = int(rng.integers(1, 6))  # images of the patient
            labels += [label] * count
            groups += [f"{label}-{patient}"] * count
    order = rng.permutation(len(labels))
    return np.array(labels)[order], np.array(groups)[order]


@given(st.integers(0, 10_000), st.integers(2, 4), st.floats(0.05, 0.5))
def test_no_group_is_on_both_sides_and_classes_keep_their_share(seed, classes, fraction):
    labels, groups = make_patients(seed, classes, 30)
    train, validation = train_and_validation(labels, groups, fraction, seed)
    # Every image is on exactly one side.
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert not set(groups[train]) & set(groups[validation])
    for label in range(classes):
        # The share of images, although whole patients move.
        share = (labels[validation] == label).sum() / (labels == label).sum()
        assert abs(share - fraction) < 0.08
    _, again = train_and_validation(labels, groups, fraction, seed)
    np.testing.assert_array_equal(again, validation)


def test_other_seeds_give_other_splits():
    labels, groups = make_patients(1, 2, 40)
    _, first = train_and_validation(labels, groups, 0.15, 1)
    _, second = train_and_validation(labels, groups, 0.15, 2)
    assert not np.array_equal(first, second)


def test_group_with_images_of_two_classes_stays_whole():
    labels = np.array([0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1])  # patient a has both classes
    groups = np.array(["a", "a", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"])
    train, validation = train_and_validation(labels, groups, 0.3, 0)
    assert not set(groups[train]) & set(groups[validation])


def test_fraction_of_zero_holds_nothing_out():
    train, validation = train_and_validation(np.array([0, 1]), np.array(["a", "b"]), 0.0, 0)
    assert len(train) == 2
    assert len(validation) == 0


def test_class_of_one_patient_cannot_be_split():
    labels = np.array([0, 0, 1, 1])
    groups = np.array(["a", "b", "c", "c"])
    with pytest.raises(UserError, match="--validation_fraction=0"):
        train_and_validation(labels, groups, 0.3, 0)


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 6))
def test_folds_hold_each_image_out_once_and_groups_stay_whole(seed, classes, folds):
    labels, groups = make_patients(seed, classes, 12)
    fold = split.assign_folds(labels, groups, folds, seed)
    assert set(fold) == set(range(folds))
    # No patient is in two folds.
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1
    # Each fold has all classes.
    for number in range(folds):
        assert set(labels[fold == number]) == set(range(classes))
    np.testing.assert_array_equal(split.assign_folds(labels, groups, folds, seed), fold)


def test_members_hold_their_fold_out_and_the_last_model_nothing():
    labels, groups = make_patients(0, 2, 12)
    configs = [TrainConfig(folds=3, fold=fold) for fold in range(3)]
    held_out = [split.split_train(labels, groups, config)[1] for config in configs]
    # Together the members hold every image out once.
    assert sorted(np.concatenate(held_out)) == list(range(len(labels)))
    train, nothing = split.split_train(labels, groups, TrainConfig(folds=3))
    assert len(train) == len(labels)
    assert len(nothing) == 0


def test_more_folds_than_patients_are_refused():
    labels = np.array([0, 0, 1, 1, 1])
    groups = np.array(["a", "b", "c", "c", "d"])
    with pytest.raises(UserError, match="--folds"):
        split.assign_folds(labels, groups, 3, 0)
