"""Near-duplicate pairs of a data set, and the groups they merge.

    near_duplicates = NearDuplicates(pairs, searched=True, message="3 pairs of near-duplicates")
    groups = near_duplicates.merge_groups(filenames, groups)

`duplicate_search.find_pairs` finds the pairs.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

# Records or Examples: a frozen dataclass with the fields filenames and groups.
Split = TypeVar("Split", bound=Any)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images that show the same film.

    Attributes:
      first, second: filenames, as the data set names them.
      inliers: number of local features that agree on one similarity transform.
      mirrored: whether one image is the mirror image of the other.
    """

    first: str
    second: str
    inliers: int
    mirrored: bool


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates of a data set.

    Attributes:
      pairs: the pairs, over all splits.
      searched: whether a search was made; if not, `pairs` is empty.
      message: one line for the screen.
    """

    pairs: tuple[Pair, ...]
    searched: bool
    message: str

    def merge_groups(self, filenames: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Merges groups that hold copies of one another.

        Copies count also where they are linked by an image of another split.

        Args:
          filenames: [n] str, without repetition.
          groups: [n] str.

        Returns:
          [n] str; merged groups have the name of the alphabetically first of them.
        """
        firsts = [pair.first for pair in self.pairs]
        seconds = [pair.second for pair in self.pairs]
        images, image_nodes = np.unique(
            np.concatenate([filenames, np.array(firsts + seconds, str)]), return_inverse=True
        )
        names, group_of_image = np.unique(groups, return_inverse=True)
        # Graph: one node an image, one a group; edges join copies, and an image to its group.
        split_nodes, first_nodes, second_nodes = np.split(
            image_nodes,
            [len(filenames), len(filenames) + len(firsts)],
        )
        rows = np.concatenate([first_nodes, split_nodes])
        columns = np.concatenate([second_nodes, len(images) + group_of_image])
        size = len(images) + len(names)
        graph = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
        _, components = csgraph.connected_components(graph, directed=False)
        # `names` is sorted, so the first group of a component is its alphabetically first.
        _, first_group, component_of_group = np.unique(
            components[len(images) :], return_index=True, return_inverse=True
        )
        return names[first_group[component_of_group]][group_of_image]

    def merge_records(self, split: Split) -> Split:
        """Replaces the groups of a split (Records or Examples) by merged groups."""
        return dataclasses.replace(
            split,
            groups=self.merge_groups(split.filenames, split.groups),
        )

    def across(self, filenames: np.ndarray, others: Iterable[str]) -> np.ndarray:
        """Marks the images of one split that copy an image of another.

        Args:
          filenames: [n] str.
          others: filenames of the other split.

        Returns:
          [n] bool.
        """
        sources = set(others)
        copies = {pair.first for pair in self.pairs if pair.second in sources}
        copies |= {pair.second for pair in self.pairs if pair.first in sources}
        return np.array([name in copies for name in filenames], bool)

    def copied_from_elsewhere(self, filenames: np.ndarray) -> np.ndarray:
        """Marks the images that copy an image outside `filenames` ([n] str): [n] bool."""
        names = {name for pair in self.pairs for name in (pair.first, pair.second)}
        return self.across(filenames, names - set(filenames))
