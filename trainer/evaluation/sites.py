"""Sites: the hospital or source of each image, and the score at each.

    table = count_by_class(splits, class_names)    # None where the set names no sites
    texts = lines(table)

Where each class has a site of its own, a network can learn the site instead of the disease
(Maguolo & Nanni 2021, doi:10.1016/j.inffus.2021.04.008).
"""

from typing import Any

import numpy as np

from trainer.data import columns
from trainer.data.records import Records
from trainer.workdir import Workdir, read_json

_REMEDIES = (
    "add images of the other classes from the same sites",
    "look at the lungs alone: train with --flagfile=flags/robust.flags",
    "score the model on other hospitals: python -m trainer.evaluate --workdir=RUN --manual_dir=A,B",
)


def count_by_class(
    splits: dict[str, Records], class_names: tuple[str, ...]
) -> dict[str, Any] | None:
    """Counts the images of each site and class, over all splits.

    Args:
      splits: split name → records.
      class_names: in label order.

    Returns:
      column: the column that names the sites; rows: site, images, classes (name → images), largest
      first; confounded: what a network can tell by the site alone, because no site has images of
      two classes, or images with and without a finding. None without such a column.
    """
    names = set.intersection(*(set(records.columns) for records in splits.values()))
    column = next(iter(columns.called_like_sites(sorted(names))), None)
    if column is None:
        return None
    sites = np.concatenate([records.columns[column] for records in splits.values()])
    members = {
        name: np.concatenate([records.of_class(label) for records in splits.values()])
        for label, name in enumerate(class_names)
    }  # [n] bool each
    multi_label = any(records.labels.ndim == 2 for records in splits.values())
    rows: list[dict[str, Any]] = []
    for site in np.unique(sites):
        of_site = sites == site
        counts = {name: int(member[of_site].sum()) for name, member in members.items()}
        rows.append({"site": str(site), "images": int(of_site.sum()), "classes": counts})
    rows.sort(key=lambda row: -row["images"])
    if multi_label:
        confounded = [
            f"{name} and its absence"
            for name in class_names
            if all(row["classes"][name] in (0, row["images"]) for row in rows)
        ]
    elif all(np.count_nonzero(list(row["classes"].values())) < 2 for row in rows):
        confounded = ["two classes"]
    else:
        confounded = []
    return {"column": column, "rows": rows, "confounded": confounded}


def lines(table: dict[str, Any] | None) -> list[str]:
    """Formats the counts for the screen and the report; if confounded, with remedies in order."""
    if table is None:
        return []
    texts = []
    for row in table["rows"]:
        counts = ", ".join(f"{count} {name}" for name, count in row["classes"].items())
        texts.append(f"{table['column']} {row['site'] or '(not named)'}: {counts}")
    if table["confounded"]:
        remedies = "; ".join(f"({number}) {text}" for number, text in enumerate(_REMEDIES, start=1))
        texts.append(
            f"CONFOUNDED: no {table['column']} has images of {', '.join(table['confounded'])}, so "
            f"a network can tell them apart by the {table['column']} alone. Remedies: {remedies}."
        )
    return texts


def scores(workdir: Workdir) -> list[dict[str, Any]]:
    """Collects the scores of a run at each site, its own test first.

    Returns:
      site, n, groups, accuracy, roc_auc and source_probe (class → AUC) of each evaluation in
      WORKDIR/evaluation but validation.
    """
    rows = []
    for path in sorted((workdir.path / "evaluation").glob("*/evaluation.json")):
        name = path.parent.name
        measured = read_json(path).get("scores", {})
        if name == "validation" or "accuracy" not in measured:
            continue
        accuracy = measured["accuracy"]
        row = {
            "site": "its own test split" if name == "test" else name.removeprefix("external_"),
            "own": name == "test",
            "n": accuracy["n"],
            "groups": accuracy["groups"],
            "accuracy": accuracy,
            "roc_auc": measured.get("roc_auc"),
            "source_probe": read_json(path).get("source_probe", {}),
        }
        rows.append(row)
    return sorted(rows, key=lambda row: not row["own"])
