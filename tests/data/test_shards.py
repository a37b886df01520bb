"""Tests of shards: complete, ordered by names alone, and the same records by Beam."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import KILL_AFTER_READS, run_command, write_set
from tests.data.sets import open_set
from trainer.data import shards
from trainer.data.image_folder import Entry

COUNTS = {
    ("Train", "covid"): 9,
    ("Train", "non_covid"): 8,
    ("Test", "covid"): 2,
    ("Test", "non_covid"): 2,
}
BEAM = "--beam_pipeline_options=runner=DirectRunner"


def make_entries(count: int) -> list[Entry]:
    return [Entry(f"Train/covid/{number}.png", Path(), "covid", "", {}) for number in range(count)]


@given(st.integers(1, 60), st.one_of(st.none(), st.integers(1, 70)), st.integers(1, 20))
def test_every_file_is_in_one_shard_of_similar_size(count, shard_count, length):
    entries = make_entries(count)
    split = shards.split_into_shards(entries, shard_count, length)
    filenames = [entry.filename for shard in split for entry in shard]
    assert sorted(filenames) == sorted(entry.filename for entry in entries)
    sizes = [len(shard) for shard in split]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    if shard_count:
        assert len(split) == min(shard_count, count)
    else:
        assert max(sizes) <= length


def test_order_depends_on_names_alone_and_mixes_the_files():
    entries = make_entries(50)
    split = shards.split_into_shards(entries)
    assert split == shards.split_into_shards(entries[::-1])
    numbers = [int(Path(entry.filename).stem) for entry in split[0]]
    # Classes lie in separate folders, so name order would not mix them.
    assert abs(np.corrcoef(numbers, range(50))[0, 1]) < 0.4


def read_in_order(data_dir: Path, folder: Path) -> list[dict]:
    """Returns the examples of both splits, in the order of their records."""
    builder = open_set(data_dir, manual_dir=folder, prepared_side=64).builder
    # 17 and 4 files in three shards.
    assert builder.info.splits["train"].shard_lengths == [5, 6, 6]
    assert builder.info.splits["test"].shard_lengths == [1, 1, 2]
    rows = []
    for split in ("train", "test"):
        rows += builder.as_dataset(split, shuffle_files=False).as_numpy_iterator()
    return rows


@pytest.mark.slow
def test_beam_writes_the_same_records_as_a_plain_build(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    command = [
        "-m",
        "tensorflow_datasets.scripts.cli.main",
        "build",
        "datasets/covid_xray",
        "--config=gray64",
        f"--manual_dir={folder}",
        "--num_shards=3",
        "--file_format=tfrecord",
    ]
    # Both through the command, as a user would.
    for name, options in (("plain", []), ("beam", [BEAM])):
        process = run_command(*command, f"--data_dir={tmp_path / name}", *options)
        assert process.returncode == 0, process.stderr[-3000:]
    plain = read_in_order(tmp_path / "plain", folder)
    beam = read_in_order(tmp_path / "beam", folder)
    assert len({row["filename"] for row in plain}) == len(plain) == len(beam) == 21
    for plain_row, beam_row in zip(plain, beam, strict=True):
        assert plain_row.keys() == beam_row.keys()
        for name, value in plain_row.items():
            np.testing.assert_array_equal(beam_row[name], value)


@pytest.mark.slow
def test_killed_beam_build_leaves_no_partial_set_and_the_next_one_succeeds(tmp_path):
    folder = write_set(tmp_path / "set", COUNTS)
    data_dir = tmp_path / "data"
    code = f"""
import sys
from tensorflow_datasets.scripts.cli import main
{KILL_AFTER_READS}
sys.argv = [
    "tfds", "build", "datasets/covid_xray", "--config=gray64", "--manual_dir={folder}",
    "--num_shards=3", "--data_dir={data_dir}", "{BEAM}", "--file_format=tfrecord",
]
main.launch_cli()
"""
    # Killed after 15 of 21 files.
    assert run_command("-c", code, READS="15").returncode == -9
    assert not (data_dir / "covid_xray" / "gray64" / "1.0.0").exists()
    process = run_command("-c", code, READS="1000")
    assert process.returncode == 0, process.stderr[-3000:]
    assert len(read_in_order(data_dir, folder)) == 21
