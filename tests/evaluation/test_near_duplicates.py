"""Copies: clusters over all splits, groups joined by them, and test images that stand in train."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.near_duplicates import Copies, Copy


def copies(*pairs: tuple[str, str]) -> Copies:
    return Copies(tuple(Copy(first, second, 100, False) for first, second in pairs), True, "")


def test_images_that_copy_one_of_another_split_are_one_group_too():
    found = copies(("test/a", "train/x"), ("test/b", "train/x"))
    groups = found.join(np.array(["test/a", "test/b", "test/c"]), np.array(["p1", "p2", "p3"]))
    assert groups[0] == groups[1] != groups[2]


def test_which_test_images_copy_a_training_image():
    found = copies(("test/a", "train/x"), ("test/b", "test/c"))
    across = found.across(
        np.array(["test/a", "test/b", "test/c"]), np.array(["train/x", "train/y"])
    )
    assert across.tolist() == [True, False, False]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_joined_groups_are_the_components_of_groups_and_pairs(edges):
    names, groups = (
        np.array([f"f{i}" for i in range(10)]),
        np.array([f"p{i // 2}" for i in range(10)]),
    )
    found = copies(*((f"f{a}", f"f{b}") for a, b in edges if a != b)).join(names, groups)
    reached = {index: {index} for index in range(10)}
    for _ in range(10):
        for a, b in [*edges, *((2 * i, 2 * i + 1) for i in range(5))]:
            both = reached[a] | reached[b]
            for index in both:
                reached[index] = reached[index] | both
    for a in range(10):
        for b in range(10):
            assert (found[a] == found[b]) == (b in reached[a])


def test_without_pairs_groups_stay_as_they_are():
    groups = np.array(["b", "a", "b"])
    assert copies().join(np.array(["x", "y", "z"]), groups).tolist() == ["b", "a", "b"]
    assert not copies().across(np.array(["x"]), np.array(["y"])).any()
