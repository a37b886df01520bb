"""The ledger of test scorings: identity by content, several writers, damaged files."""

import json
import multiprocessing
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.analysis.intervals import Estimate
from trainer.evaluation import ledger

SPLIT = "a" * 64


def random_split(seed: int = 0, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Draws (images [n, 8, 8, 1] uint8, labels [n] int)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 8, 8, 1), np.uint8)  # [n, side, side, 1]
    return images, rng.integers(0, 2, n)


def entry(number: int = 0) -> dict[str, Any]:
    """Builds a line of the workdir runs/NUMBER."""
    return ledger.entry(
        "evaluate",
        f"runs/{number}",
        "ab" * 32,
        "test",
        219,
        Estimate(0.9, 0.85, 0.94, 219, 125),
        # A score that could not be computed.
        Estimate(None, None, None, 219, 125, "one class only"),
    )


def workdirs(data_dir: Path, fingerprint: str) -> list[str]:
    """Reads the workdir of every line."""
    return [line["workdir"] for line in ledger.read(data_dir, fingerprint)]


@given(st.integers(0, 1000), st.randoms())
def test_fingerprint_depends_on_the_content_and_not_on_the_order(
    seed: int, shuffler: random.Random
) -> None:
    images, labels = random_split(seed)
    order = list(range(len(labels)))
    shuffler.shuffle(order)
    fingerprint = ledger.fingerprint(images, labels)
    assert len(fingerprint) == 64
    # Nor on the type of the labels.
    assert fingerprint == ledger.fingerprint(images[order], labels[order].astype(np.int32))
    # Any change of the content is another split.
    one_bit = images.copy()
    one_bit[0, 0, 0] ^= 1
    one_label = np.r_[1 - labels[0], labels[1:]]
    twice = np.concatenate([images, images[:1]])
    for other_images, other_labels in (
        (one_bit, labels),
        (images, one_label),
        (images[1:], labels[1:]),
        (twice, np.r_[labels, labels[0]]),
        (images.reshape(-1, 4, 16, 1), labels),
    ):
        assert fingerprint != ledger.fingerprint(other_images, other_labels)


def test_scorings_are_counted_by_split_over_all_workdirs(tmp_path: Path) -> None:
    one, other = (ledger.fingerprint(*random_split(seed)) for seed in (0, 1))
    assert ledger.count(tmp_path, one) == 0
    assert [ledger.append(tmp_path, one, entry(number)) for number in range(3)] == [""] * 3
    assert (ledger.count(tmp_path, one), ledger.count(tmp_path, other)) == (3, 0)
    assert workdirs(tmp_path, one) == ["runs/0", "runs/1", "runs/2"]
    line = ledger.read(tmp_path, one)[0]
    assert line["time"].endswith("+00:00")
    assert line["images"] == 219
    assert line["accuracy"]["low"] == 0.85
    assert line["roc_auc"]["value"] is None


def _append_many(data_dir: Path, worker: int) -> None:
    for number in range(40):
        # Lines longer than a page, which the system may write in pieces.
        padded = entry(1000 * worker + number) | {"padding": "x" * 5000}
        ledger.append(data_dir, SPLIT, padded)


def test_no_scoring_is_lost_with_several_writers(tmp_path: Path) -> None:
    # Processes, not threads: the lock is one between processes.
    workers = [
        multiprocessing.Process(target=_append_many, args=(tmp_path, index)) for index in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = [f"runs/{1000 * worker + number}" for worker in range(4) for number in range(40)]
    assert sorted(workdirs(tmp_path, SPLIT)) == sorted(expected)


def test_a_truncated_line_does_not_damage_the_next(tmp_path: Path) -> None:
    ledger.append(tmp_path, SPLIT, entry(1))
    with open(ledger.path(tmp_path, SPLIT), "a", encoding="utf-8") as file:
        file.write('{"time": "2024-')  # A writer killed before the end of its line.
    # It begins a line of its own.
    assert ledger.append(tmp_path, SPLIT, entry(2)) == ""
    assert workdirs(tmp_path, SPLIT) == ["runs/1", "runs/2"]


def test_an_unwritable_path_gives_a_warning_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file where the folder should be", encoding="utf-8")
    # No exception: scores are not lost for want of a count.
    warning = ledger.append(tmp_path, SPLIT, entry())
    assert warning.startswith("warning")
    assert "\n" not in warning
    assert "--data_dir" in warning
    assert ledger.count(tmp_path, SPLIT) == 0


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_a_read_only_folder_gives_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert ledger.append(tmp_path, SPLIT, entry()).startswith("warning")
    finally:
        tmp_path.chmod(0o700)  # Or pytest could not remove it.


def test_a_line_is_a_json_object_of_readable_fields(tmp_path: Path) -> None:
    ledger.append(tmp_path, SPLIT, entry())
    (line,) = ledger.path(tmp_path, SPLIT).read_text(encoding="utf-8").splitlines()
    assert set(json.loads(line)) == {
        "time",
        "command",
        "workdir",
        "weights_sha256",
        "split",
        "images",
        "accuracy",
        "roc_auc",
    }
