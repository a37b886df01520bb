"""Shards: every file in one of them, in an order that names decide; here and by Beam the same records; nothing half made."""

import concurrent.futures
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import run_command, write_set
from trainer.data import image_folder, prepared, shards

COUNTS = {
    ("Train", "covid"): 9,
    ("Train", "non_covid"): 8,
    ("Test", "covid"): 2,
    ("Test", "non_covid"): 2,
}


def entries(count: int) -> list[image_folder.Entry]:
    return [
        image_folder.Entry(f"Train/covid/{number}.png", Path(), "covid", "", {})
        for number in range(count)
    ]


@given(st.integers(1, 60), st.one_of(st.none(), st.integers(1, 70)), st.integers(1, 20))
def test_every_file_is_in_one_shard_and_shards_are_of_about_one_size(count, wanted, length):
    parts = shards.parts_of(entries(count), wanted, length)
    assert sorted(entry.filename for part in parts for entry in part) == sorted(
        entry.filename for entry in entries(count)
    )
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    assert len(parts) == min(wanted, count) if wanted else max(sizes) <= length


def test_the_order_follows_from_the_names_alone_and_mixes_the_classes():
    found = entries(50)
    assert shards.parts_of(found) == shards.parts_of(found[::-1])
    places = [int(Path(entry.filename).stem) for entry in shards.parts_of(found)[0]]
    assert abs(np.corrcoef(places, range(50))[0, 1]) < 0.4


def test_the_order_of_reading_ahead_is_the_order_of_the_files():
    def encode(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return -number

    with concurrent.futures.ThreadPoolExecutor(3) as readers:
        for count in (0, 1, shards._AHEAD, 3 * shards._AHEAD + 1):
            assert list(shards.in_order(readers, encode, range(count))) == [
                (n, -n) for n in range(count)
            ]


def rows_of(data_dir: Path, folder: Path) -> list[dict]:
    """The examples of both splits, in the order of their records."""
    found = prepared.open_dataset(
        "covid_xray", data_dir=str(data_dir), manual_dir=str(folder), config_name="gray64"
    ).builder
    assert found.info.splits["train"].shard_lengths == [5, 6, 6] and found.info.splits[
        "test"
    ].shard_lengths == [1, 1, 2]
    return [
        row
        for split in ("train", "test")
        for row in found.as_dataset(split, shuffle_files=False).as_numpy_iterator()
    ]


@pytest.mark.slow
def test_beam_writes_the_same_records_as_a_build_without_it(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    command = (
        "-m",
        "tensorflow_datasets.scripts.cli.main",
        "build",
        "datasets/covid_xray",
        "--config=gray64",
        f"--manual_dir={folder}",
        "--num_shards=3",
        "--file_format=tfrecord",
    )
    for name, more in (("plain", ()), ("beam", ("--beam_pipeline_options=runner=DirectRunner",))):
        done = run_command(*command, f"--data_dir={tmp_path / name}", *more)
        assert done.returncode == 0, done.stderr[-3000:]
    plain, beam = (rows_of(tmp_path / name, folder) for name in ("plain", "beam"))
    assert len({row["filename"] for row in plain}) == len(plain) == len(beam) == 21
    for one, other in zip(plain, beam, strict=True):
        assert one.keys() == other.keys() and all(
            np.array_equal(one[name], other[name]) for name in one
        )


@pytest.mark.slow
def test_a_beam_build_that_is_killed_leaves_no_half_made_set_and_the_next_one_succeeds(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    code = f"""
import os, signal, sys
from tensorflow_datasets.scripts.cli import main
from absl import app
from trainer import radiograph
reads, read = [], radiograph.read
def killing(*arguments, **options):
    reads.append(1)
    if len(reads) > int(os.environ["READS"]): os.kill(os.getpid(), signal.SIGKILL)
    return read(*arguments, **options)
radiograph.read = killing
sys.argv = ["tfds", "build", "datasets/covid_xray", "--config=gray64", "--manual_dir={folder}", "--num_shards=3",
            "--data_dir={tmp_path / "data"}", "--beam_pipeline_options=runner=DirectRunner", "--file_format=tfrecord"]
main.launch_cli()
"""
    assert run_command("-c", code, READS="15").returncode == -9
    assert not (tmp_path / "data" / "covid_xray" / "gray64" / "1.0.0").exists()
    done = run_command("-c", code, READS="1000")
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(rows_of(tmp_path / "data", folder)) == 21
