"""Near-duplicates of a set: groups merged by them, and test images that copy a training image."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.analysis.duplicates import NearDuplicates, Pair


def near_duplicates(*pairs: tuple[str, str]) -> NearDuplicates:
    """Builds near-duplicates from pairs of filenames."""
    copies = tuple(
        Pair(
            first,
            second,
            100,
            False,
        )
        for first, second in pairs
    )
    return NearDuplicates(copies, True, "")


def test_copies_of_one_image_of_another_split_are_one_group():
    duplicates = near_duplicates(("test/a", "train/x"), ("test/b", "train/x"))
    filenames = np.array(["test/a", "test/b", "test/c"])
    groups = duplicates.merge_groups(filenames, np.array(["p1", "p2", "p3"]))
    assert groups.tolist() == ["p1", "p1", "p3"]


def test_test_images_that_copy_a_training_image_are_marked():
    duplicates = near_duplicates(("test/a", "train/x"), ("test/b", "test/c"))
    filenames = np.array(["test/a", "test/b", "test/c"])
    across = duplicates.across(filenames, np.array(["train/x", "train/y"]))
    assert across.tolist() == [True, False, False]
    assert duplicates.copied_from_elsewhere(filenames).tolist() == [True, False, False]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_merged_groups_are_the_components_of_groups_and_pairs(edges):
    filenames = np.array([f"f{index}" for index in range(10)])
    groups = np.array([f"p{index // 2}" for index in range(10)])
    pairs = [(f"f{first}", f"f{second}") for first, second in edges if first != second]
    merged = near_duplicates(*pairs).merge_groups(filenames, groups)
    # Reachability by repeated union, written out.
    same_group = [(2 * index, 2 * index + 1) for index in range(5)]
    reached = {index: {index} for index in range(10)}
    for _ in range(10):
        for first, second in [*edges, *same_group]:
            union = reached[first] | reached[second]
            for index in union:
                reached[index] = reached[index] | union
    # One group if and only if one is reached from the other.
    for first in range(10):
        for second in range(10):
            assert (merged[first] == merged[second]) == (second in reached[first])


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=10), st.data())
def test_merged_groups_have_the_name_of_the_first(groups, data):
    indices = st.integers(0, len(groups) - 1)
    edges = data.draw(st.lists(st.tuples(indices, indices), max_size=6))
    filenames = np.array([f"f{index}" for index in range(len(groups))])
    pairs = [(f"f{first}", f"f{second}") for first, second in edges]
    merged = near_duplicates(*pairs).merge_groups(filenames, np.array(groups))
    for first, second in edges:
        assert merged[first] == merged[second]
    for index, group in enumerate(groups):
        assert merged[index] <= group
        assert merged[index] in groups
        # Images of one group stay together.
        members = [other for other, name in enumerate(groups) if name == group]
        assert {merged[member] for member in members} == {merged[index]}
    if not pairs:
        assert list(merged) == groups


def test_without_pairs_groups_are_unchanged():
    nothing = near_duplicates()
    filenames = np.array(["x", "y", "z"])
    groups = np.array(["b", "a", "b"])
    assert nothing.merge_groups(filenames, groups).tolist() == ["b", "a", "b"]
    assert not nothing.across(filenames, np.array(["other"])).any()
