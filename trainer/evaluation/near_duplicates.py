"""The near-duplicates of a prepared set: looked for once, kept beside it, and counted as one patient wherever groups matter."""

import contextlib
import csv
import dataclasses
import itertools
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from trainer.analysis import duplicates
from trainer.data import records
from trainer.data.prepared import Prepared

_FILE = "near_duplicates.csv"
_MOST = 20_000  # Larger sets are searched by trainer.audit only: a training run should not wait for an hour.


@dataclasses.dataclass(frozen=True)
class Copy:
    """Two images that show the same film.

    Attributes:
      first, second: filenames, as the data set names them.
      inliers: how many local features agree.
      mirrored: whether one is the mirror image of the other.
    """

    first: str
    second: str
    inliers: int
    mirrored: bool


@dataclasses.dataclass(frozen=True)
class Copies:
    """What is known of a set's near-duplicates.

    Attributes:
      pairs: those found.
      searched: whether they were looked for.
      remark: one line for the screen.
    """

    pairs: tuple[Copy, ...]
    searched: bool
    remark: str

    def join(self, filenames: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Joins groups ([n] str, of `filenames`) that hold copies of one another, also by way of images of other splits."""
        place = {name: index for index, name in enumerate(filenames)}
        chains = ([place[name] for name in cluster if name in place] for cluster in self.clusters())
        return duplicates.join_groups(
            groups,
            [
                duplicates.Pair(first, second, 0, False)
                for chain in chains
                for first, second in itertools.pairwise(sorted(chain))
            ],
        )

    def outside(self, ours: np.ndarray) -> np.ndarray:
        """Which of `ours` ([n] str filenames) are copies of an image that is not among them: [n] bool."""
        others = {name for pair in self.pairs for name in (pair.first, pair.second)} - set(ours)
        return self.across(ours, np.array(sorted(others), str))

    def joined(self, part: records.Records) -> records.Records:
        """The records in groups that hold their copies."""
        return dataclasses.replace(part, groups=self.join(part.filenames, part.groups))

    def clusters(self) -> list[list[str]]:
        """The filenames that copy one another directly or by way of others, each cluster sorted."""
        names = sorted({name for pair in self.pairs for name in (pair.first, pair.second)})
        place = {name: index for index, name in enumerate(names)}
        edges = [
            [place[pair.first] for pair in self.pairs],
            [place[pair.second] for pair in self.pairs],
        ]
        graph = sparse.coo_matrix((np.ones(len(self.pairs)), edges), shape=(len(names), len(names)))
        _, cluster = csgraph.connected_components(graph, directed=False)
        return [
            [names[index] for index in np.flatnonzero(cluster == number)]
            for number in np.unique(cluster)
        ]

    def across(self, ours: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Which of `ours` ([n] str filenames) are copies of one of `others`: [n] bool."""
        mine, theirs = set(ours), set(others)
        found = {pair.first for pair in self.pairs if pair.first in mine and pair.second in theirs}
        found |= {
            pair.second for pair in self.pairs if pair.second in mine and pair.first in theirs
        }
        return np.isin(ours, sorted(found)) if found else np.zeros(len(ours), bool)


def of_prepared(data: Prepared, wanted: bool = True, thorough: bool = False) -> Copies:
    """The copies within a prepared set, over all its splits; looked up where they were found before.

    Args:
      data: the set.
      wanted: False leaves the search out.
      thorough: searches synthetic and very large sets too.
    """
    place = Path(str(data.builder.data_path)) / _FILE
    total = sum(data.fingerprint["images"].values())
    if not wanted:
        return Copies((), False, "near-duplicates were not looked for (--nogroup_copies)")
    if place.exists():
        return _described(_read(place))
    if data.synthetic and not thorough:
        return Copies(
            (),
            False,
            "near-duplicates were not looked for: each synthetic image is drawn by itself",
        )
    if total > _MOST and not thorough:
        return Copies(
            (),
            False,
            f"near-duplicates were not looked for among {total} images; trainer.audit does so, "
            "once",
        )
    found = search(
        [
            records.read(data.builder, split, masks=False)
            for split in sorted(data.fingerprint["images"])
        ]
    )
    with contextlib.suppress(
        OSError
    ):  # A data_dir of others, not to be written to: the next run looks again.
        _write(place, found.pairs)
    return found


def search(parts: list[records.Records]) -> Copies:
    """Looks for copies within and across splits, by pixels alone."""
    names = np.concatenate([part.filenames for part in parts])
    images = itertools.chain.from_iterable(part.images for part in parts)
    widths, heights = (
        np.concatenate([part.header[name] for part in parts]) for name in ("width", "height")
    )
    return _described(
        [
            Copy(str(names[pair.first]), str(names[pair.second]), pair.inliers, pair.mirrored)
            for pair in duplicates.find(images, widths, heights)
        ]
    )


def _described(found: list[Copy]) -> Copies:
    return Copies(
        tuple(found),
        True,
        f"{len(found)} pairs of near-duplicates; each cluster counts as one group",
    )


def _write(place: Path, found: tuple[Copy, ...]) -> None:
    part = place.with_suffix(".part")
    with open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "inliers", "mirrored"])
        writer.writerows(
            [pair.first, pair.second, pair.inliers, int(pair.mirrored)] for pair in found
        )
    part.replace(place)


def _read(place: Path) -> list[Copy]:
    with open(place, newline="", encoding="utf-8") as file:
        return [
            Copy(row["first"], row["second"], int(row["inliers"]), row["mirrored"] == "1")
            for row in csv.DictReader(file)
        ]
