"""Tests of sites: counts by class, the warning where each class has its own, scores at each."""

import dataclasses

import numpy as np

from trainer.data.records import Records
from trainer.evaluation import sites
from trainer.workdir import Workdir, write_json

CLASSES = ("covid", "non_covid")


def make_records(labels: list[int], columns: dict[str, list[str]]) -> Records:
    count = len(labels)
    names = np.array([f"{number}.png" for number in range(count)])
    return Records(
        images=np.zeros((count, 4, 4, 1), np.uint8),
        labels=np.array(labels, np.int32),
        groups=names,
        filenames=names,
        header={},
        columns={name: np.array(values) for name, values in columns.items()},
    )


def test_images_are_counted_by_site_and_class_over_all_splits():
    train = make_records([0, 0, 1], {"source": ["A", "A", "B"]})
    test = make_records([0, 1], {"source": ["A", "A"]})
    table = sites.count_by_class({"train": train, "test": test}, CLASSES)
    assert table == {
        "column": "source",
        "rows": [
            {"site": "A", "images": 4, "classes": {"covid": 3, "non_covid": 1}},
            {"site": "B", "images": 1, "classes": {"covid": 0, "non_covid": 1}},
        ],
        "confounded": [],
    }
    assert not any("CONFOUNDED" in line for line in sites.lines(table))


def test_a_finding_that_equals_its_sites_is_named():
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, -1]], np.int8)
    records = dataclasses.replace(
        make_records([0, 0, 0, 0], {"site": ["A", "A", "B", "B"]}), labels=labels
    )
    table = sites.count_by_class({"train": records}, ("effusion", "nodule", "hernia"))
    assert table is not None
    # Nodules are at both sites, with and without; hernias at B alone, beside an unknown one.
    assert table["confounded"] == ["effusion and its absence"]
    (line,) = [line for line in sites.lines(table) if "CONFOUNDED" in line]
    assert "effusion and its absence" in line


def test_a_class_that_equals_its_site_is_named_with_remedies():
    train = make_records([0, 1, 1], {"site": ["A", "B", "B"], "source": ["x", "x", "x"]})
    table = sites.count_by_class({"train": train}, CLASSES)
    assert table is not None
    # `site` is preferred to `source`.
    assert table["column"] == "site"
    last = sites.lines(table)[-1]
    assert last.startswith("CONFOUNDED: no site has images of two classes")
    assert "trainer.evaluate" in last


def test_a_set_that_names_no_sites_has_no_table():
    train = make_records([0, 1], {"view": ["AP", "PA"]})
    assert sites.count_by_class({"train": train}, CLASSES) is None
    assert sites.lines(None) == []


def test_scores_of_all_evaluations_stand_beside_each_other(tmp_path):
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 10, "groups": 7}
    for name in ("external_hospital", "test", "validation"):
        folder = tmp_path / "evaluation" / name
        folder.mkdir(parents=True)
        scores = {"accuracy": estimate, "roc_auc": estimate}
        write_json(folder / "evaluation.json", {"scores": scores})
    rows = sites.scores(Workdir(tmp_path))
    assert [row["site"] for row in rows] == ["its own test split", "hospital"]
    assert rows[1]["groups"] == 7
