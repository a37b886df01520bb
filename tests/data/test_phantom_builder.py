"""The builder of the phantom set: sizes from a config object, test images that stay, headers that tell nothing."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from trainer.data import phantom, prepared

FOLDER = Path(__file__).parents[2] / "datasets" / "phantom"


def rows_of(folder: Path, **sizes) -> dict[str, list[dict]]:
    module = prepared.load_builder_module("phantom")
    name = "_".join(str(value) for value in sizes.values())
    builder = module.Builder(
        data_dir=str(folder), config=module.PhantomConfig(name=f"tiny_{name}", **sizes)
    )
    builder.download_and_prepare(file_format="tfrecord")
    assert (
        builder.info.metadata["synthetic"]
        and builder.info.metadata["positive_class"] == "opacities"
    )
    found = {
        split: list(builder.as_dataset(split).as_numpy_iterator()) for split in ("train", "test")
    }
    return found | {"fingerprint": builder.info.metadata["source_fingerprint"]}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict[str, list[dict]]:
    return rows_of(tmp_path_factory.mktemp("phantoms"), train_examples=4, test_examples=2)


def test_examples_are_what_is_drawn_with_masks_of_0_and_255(small):
    assert [len(small[split]) for split in ("train", "test")] == [4, 2]
    for split, first in (("train", 0), ("test", 1_000_000)):
        for row in small[split]:
            index = first + int(row["filename"].decode().rsplit("_", 1)[1])
            drawn = phantom.draw(0, index, phantom.label_of(0, index))
            np.testing.assert_array_equal(row["image"][..., 0], drawn.image)
            np.testing.assert_array_equal(row["lung_mask"][..., 0], drawn.lung_mask * np.uint8(255))
            np.testing.assert_array_equal(
                row["lesion_mask"][..., 0], drawn.lesion_mask * np.uint8(255)
            )
            assert (
                row["label"] == drawn.label
                and row["sha256"].decode() == hashlib.sha256(drawn.image.tobytes()).hexdigest()
            )


def test_headers_are_the_same_for_all_and_each_phantom_is_its_own_group(small):
    rows = small["train"] + small["test"]
    headers = {
        tuple(
            row[key] for key in ("width", "height", "channels", "bit_depth", "byte_size", "format")
        )
        for row in rows
    }
    assert headers == {(500, 500, 1, 8, 250_000, b"PNG")}
    assert all(row["group"] == row["filename"] and json.loads(row["columns"]) == {} for row in rows)
    assert len({row["sha256"] for row in rows}) == len(rows)
    assert all(b"synthetic" in row["filename"] for row in rows)


def test_more_training_images_leave_the_test_images_alone(small, tmp_path):
    larger = rows_of(tmp_path, train_examples=6, test_examples=2)
    assert {row["sha256"] for row in larger["test"]} == {row["sha256"] for row in small["test"]}
    assert {row["sha256"] for row in larger["train"]} > {row["sha256"] for row in small["train"]}
    assert larger["fingerprint"] != small["fingerprint"]


def test_another_seed_and_side_make_another_set(small, tmp_path):
    other = rows_of(tmp_path, train_examples=4, test_examples=2, seed=1, side=64)
    assert (
        other["train"][0]["image"].shape == (64, 64, 1)
        and other["fingerprint"] != small["fingerprint"]
    )


def test_the_readme_says_synthetic_and_the_release_notes_know_the_version():
    assert "synthetic" in (FOLDER / "README.md").read_text("utf-8").lower()
    builder = prepared.load_builder_module("phantom").Builder
    assert str(builder.VERSION) in builder.RELEASE_NOTES
