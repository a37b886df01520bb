"""A site held out as the test split, without its patients anywhere else.

held_out = held_out_site.hold_out("B", splits, groups, columns)
held_out.splits    # ["train", "test", "validation"]
held_out.left_out  # masks of images that are in no split, each with its reason
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.data import columns as columns_lib
from trainer.errors import UserError

_SHOWN = 20  # Names in a message.


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The splits of a set that is tested on one site.

    Attributes:
      splits: [n] test at the site; elsewhere as given, else train.
      source: of the splits, in words.
      left_out: ([n] bool, reason) of images that must not be in any split.
    """

    splits: list[str | None]
    source: str
    left_out: list[tuple[np.ndarray, str]]


def hold_out(
    name: str,
    splits: Sequence[str | None],
    groups: Sequence[str],
    columns: Mapping[str, Sequence[str]],
) -> HeldOut:
    """Makes all images of a site the test split.

    A patient with images there is neither trained nor validated on, wherever the other images are.

    Args:
      name: of the site.
      splits: [n] as the set gives them.
      groups: [n] str, the patients.
      columns: name → [n] str, columns of the tables.

    Raises:
      UserError: no column names sites, none has this site, or nothing is left to train on.
    """
    sites = _sites(name, columns)  # [n]
    given = np.array([split or "" for split in splits], object)
    patients = np.array(groups)
    at_site = sites == name.casefold()
    elsewhere = ~at_site & (sites != "")
    shared = elsewhere & np.isin(patients, patients[at_site])
    given_test = elsewhere & (given == "test")
    if not any(splits):
        given[:] = "train"
    if not (elsewhere & ~shared & (given == "train")).any():
        raise UserError(
            f"--hold_out_site={name} leaves no image to train on; the other sites have no patient "
            "of their own outside validation and test."
        )
    given[at_site] = "test"
    left_out = [
        (~at_site & ~elsewhere, "name no site and were left out"),
        (shared, f"are of patients with images at {name} too and were left out"),
        (given_test, f"are of a given test split at other sites than {name} and were left out"),
    ]
    values: list[str | None] = [split or None for split in given.tolist()]
    return HeldOut(values, f"site {name} held out as test", left_out)


def _sites(name: str, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Returns the site of each image, in lower case.

    From the first column that has the site to hold out.
    """
    candidates = columns_lib.called_like_sites(columns)
    if not candidates:
        there = ", ".join(list(columns)[:_SHOWN]) or "none"
        names = " or ".join(columns_lib.SITES)
        raise UserError(
            f"--hold_out_site={name} needs a column called {names}; beside files, labels, patients "
            f"and splits there are {there}."
        )
    for column in candidates:
        sites = np.array([cell.casefold() for cell in columns[column]])
        if (sites == name.casefold()).any():
            return sites
    there = ", ".join(sorted({cell for cell in columns[candidates[0]] if cell})[:_SHOWN])
    raise UserError(f"--hold_out_site={name}: the sites in column {candidates[0]} are {there}.")
