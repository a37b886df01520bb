"""The ledger of test scorings: kept under concurrency, by content, and never at the price of the scores."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.analysis.intervals import Estimate
from trainer.evaluation import ledger


def images(seed: int = 0, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 8, 8, 1), np.uint8), rng.integers(0, 2, n)


def line(number: int = 0) -> dict:
    return ledger.entry(
        "evaluate",
        f"runs/{number}",
        "ab" * 32,
        "test",
        219,
        Estimate(0.9, 0.85, 0.94, 219, 125),
        Estimate(None, None, None, 219, 125, "one class only"),
    )


@given(st.integers(0, 1000), st.randoms())
def test_the_fingerprint_knows_the_content_and_not_the_order(seed, random):
    pixels, labels = images(seed)
    order = list(range(len(labels)))
    random.shuffle(order)
    known = ledger.fingerprint(pixels, labels)
    assert len(known) == 64 and known == ledger.fingerprint(
        pixels[order], labels[order].astype(np.int32)
    )
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    assert known != ledger.fingerprint(changed, labels)
    assert known != ledger.fingerprint(pixels, np.r_[1 - labels[0], labels[1:]])
    assert known != ledger.fingerprint(pixels[1:], labels[1:])
    assert known != ledger.fingerprint(
        np.concatenate([pixels, pixels[:1]]), np.r_[labels, labels[0]]
    )
    assert known != ledger.fingerprint(pixels.reshape(-1, 4, 16, 1), labels)


def test_scorings_are_counted_per_split_over_all_workdirs(tmp_path):
    one, other = (ledger.fingerprint(*images(seed)) for seed in (0, 1))
    assert ledger.count(tmp_path, one) == 0
    assert [ledger.append(tmp_path, one, line(number)) for number in range(3)] == [""] * 3
    assert (ledger.count(tmp_path, one), ledger.count(tmp_path, other)) == (3, 0)
    found = ledger.read(tmp_path, one)
    assert [each["workdir"] for each in found] == ["runs/0", "runs/1", "runs/2"]
    assert found[0]["time"].endswith("+00:00") and found[0]["images"] == 219
    assert found[0]["accuracy"]["low"] == 0.85 and found[0]["roc_auc"]["value"] is None


def _append_many(data_dir: Path, fingerprint: str, worker: int) -> None:
    for number in range(40):
        ledger.append(data_dir, fingerprint, line(1000 * worker + number) | {"padding": "x" * 5000})


def test_no_scoring_is_lost_where_several_processes_write(tmp_path):
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    workers = [
        context.Process(target=_append_many, args=(tmp_path, "f" * 64, worker))
        for worker in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = ledger.read(tmp_path, "f" * 64)
    assert sorted(each["workdir"] for each in found) == sorted(
        f"runs/{1000 * w + k}" for w in range(4) for k in range(40)
    )


def test_a_line_cut_off_in_writing_costs_only_itself(tmp_path):
    ledger.append(tmp_path, "a" * 64, line(1))
    with open(ledger.path(tmp_path, "a" * 64), "a") as file:
        file.write('{"time": "2024-')
    assert ledger.append(tmp_path, "a" * 64, line(2)) == ""
    assert [each["workdir"] for each in ledger.read(tmp_path, "a" * 64)] == ["runs/1", "runs/2"]


def test_a_place_that_cannot_be_written_is_a_warning_of_one_line(tmp_path):
    (tmp_path / "ledger").write_text("a file where the folder should be")
    warning = ledger.append(tmp_path, "a" * 64, line())
    assert warning.startswith("warning") and "\n" not in warning and "--data_dir" in warning
    assert ledger.count(tmp_path, "a" * 64) == 0


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_a_folder_that_is_read_only_is_a_warning(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert ledger.append(tmp_path, "a" * 64, line()).startswith("warning")
    finally:
        tmp_path.chmod(0o700)


def test_lines_are_json_a_person_can_read(tmp_path):
    ledger.append(tmp_path, "a" * 64, line())
    (text,) = ledger.path(tmp_path, "a" * 64).read_text().splitlines()
    assert set(json.loads(text)) == {
        "time",
        "command",
        "workdir",
        "weights_sha256",
        "split",
        "images",
        "accuracy",
        "roc_auc",
    }
