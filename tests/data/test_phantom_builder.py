"""Tests of the phantom builder: sizes, stable test images, and headers without information."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.config import TrainConfig
from trainer.data import phantom, prepared, radiograph, records, shortcuts, views

FOLDER = Path(__file__).parents[2] / "datasets" / "phantom"
FIRST_TEST_INDEX = 1_000_000


def build(folder: Path, **content: Any) -> dict[str, Any]:
    """Builds a tiny set; returns its rows, fingerprint and builder."""
    module = prepared.load_builder_module("phantom")
    # TFDS needs a new name for each content.
    name = "_".join(str(value) for value in content.values())
    config = module.PhantomConfig(name=f"tiny_{name}", **content)
    builder = module.Builder(data_dir=str(folder), config=config)
    builder.download_and_prepare(file_format="tfrecord")
    metadata = builder.info.metadata
    assert metadata["synthetic"]
    several = config.findings > 0
    assert metadata["multi_label"] == several
    assert metadata["positive_class"] == (None if several else "opacities")
    assert tuple(builder.info.features["label"].names) == config.class_names
    rows = {
        split: list(builder.as_dataset(split).as_numpy_iterator()) for split in ("train", "test")
    }
    fingerprint = metadata["source_fingerprint"]
    return {**rows, "fingerprint": fingerprint, "builder": builder}


def checksums(rows: list[dict]) -> set[bytes]:
    return {row["sha256"] for row in rows}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict[str, Any]:
    """A set of four training and two test images."""
    return build(tmp_path_factory.mktemp("phantoms"), train_examples=4, test_examples=2)


@pytest.mark.parametrize(
    ("split", "first", "count"), [("train", 0, 4), ("test", FIRST_TEST_INDEX, 2)]
)
def test_examples_are_phantoms_with_masks_of_0_and_255(small, split, first, count):
    assert len(small[split]) == count
    for row in small[split]:
        # The number in the filename counts within the split.
        index = first + int(row["filename"].decode().rsplit("_", 1)[1])
        example = phantom.draw(0, index, phantom.label_of(0, index))
        np.testing.assert_array_equal(row["image"][..., 0], example.image)
        lung_mask = example.lung_mask * np.uint8(255)
        np.testing.assert_array_equal(row["lung_mask"][..., 0], lung_mask)
        lesion_mask = example.lesion_mask * np.uint8(255)
        np.testing.assert_array_equal(row["lesion_mask"][..., 0], lesion_mask)
        assert row["label"] == example.label
        assert row["sha256"].decode() == hashlib.sha256(example.image.tobytes()).hexdigest()


def test_headers_are_equal_and_each_phantom_is_its_own_group(small):
    rows = small["train"] + small["test"]
    names = ("width", "height", "channels", "bit_depth", "byte_size", "format")
    headers = {tuple(row[name] for name in names) for row in rows}
    # A header that differed by class would be a shortcut.
    assert headers == {(500, 500, 1, 8, 250_000, b"PNG")}
    assert len(checksums(rows)) == len(rows)
    for row in rows:
        assert row["group"] == row["filename"]
        assert b"synthetic" in row["filename"]
        assert json.loads(row["columns"]) == {}


@pytest.mark.parametrize("view", ["whole", "lungs"])
def test_findings_are_labels_and_bits_of_the_mask(tmp_path, view):
    size = {"train_examples": 4, "test_examples": 2, "side": 128}
    several = build(tmp_path, **size, findings=3, shortcut="marker", view=view)
    for number in range(4):
        filename = f"train/synthetic_{number:06d}".encode()
        row = next(row for row in several["train"] if row["filename"] == filename)
        present = phantom.findings_of(0, number, 3)
        example = phantom.draw_findings(0, number, present, 128)
        assert row["label"] == -1
        assert row["findings"].tolist() == list(present)
        planted = shortcuts.plant(example.image, int(present[1]), "marker")
        assert tuple(phantom.FINDINGS)[1] == shortcuts.FINDING
        assert row["sha256"].decode() == hashlib.sha256(planted.tobytes()).hexdigest()
        square = views.make_square(planted, 128, view)
        for bit, mask in enumerate(example.finding_masks):
            cut = radiograph.standardize(mask * np.uint8(255), 128, square.box) > 127
            np.testing.assert_array_equal(row["lesion_mask"][..., 0] >> bit & 1, cut)
    test = records.read(several["builder"], "test")
    assert test.labels.shape == (2, 3)
    assert test.lesion_masks.shape == (2, 128, 128, 3)


def test_more_training_images_leave_the_test_images_unchanged(small, tmp_path):
    larger = build(tmp_path, train_examples=6, test_examples=2)
    # Scores stay comparable while the training set grows.
    assert checksums(larger["test"]) == checksums(small["test"])
    assert checksums(larger["train"]) > checksums(small["train"])
    assert larger["fingerprint"] != small["fingerprint"]


def test_another_seed_and_side_make_another_set(small, tmp_path):
    other = build(tmp_path, train_examples=4, test_examples=2, seed=1, side=64)
    assert other["train"][0]["image"].shape == (64, 64, 1)
    assert other["fingerprint"] != small["fingerprint"]


def test_fingerprints_are_those_of_earlier_versions():
    module = prepared.load_builder_module("phantom")
    # Generator version, images, seed and side.
    recipe = "phantom 3 256 64 0 500"
    plain, *others = module.Builder.BUILDER_CONFIGS
    assert module._fingerprint(plain) == hashlib.sha256(recipe.encode()).hexdigest()
    marker = next(config for config in others if config.shortcut == "marker")
    assert module._fingerprint(marker) == hashlib.sha256(f"{recipe} marker".encode()).hexdigest()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "gray500"),
        ({"phantom_shortcut": "border"}, "gray500_border"),
        ({"phantom_train": 8, "phantom_test": 4}, "gray500_8_4"),
        ({"prepared_side": 64, "phantom_shortcut": "marker"}, "gray64_256_64_marker"),
        ({"phantom_findings": 3}, "gray500_findings3"),
        ({"phantom_findings": 2, "phantom_shortcut": "marker"}, "gray500_findings2_marker"),
    ],
)
def test_configuration_of_a_run_is_named_by_its_content(settings, name):
    module = prepared.load_builder_module("phantom")
    assert module.builder_config(TrainConfig(dataset="phantom", **settings)).name == name


def test_any_number_of_findings_but_one_can_be_set():
    setting = TrainConfig.__dataclass_fields__["phantom_findings"]
    assert setting.metadata["choices"] == (0, *range(2, len(phantom.FINDINGS) + 1))
    for name in phantom.FINDINGS:
        assert name in setting.metadata["help"]


def test_readme_says_synthetic_and_release_notes_have_the_version():
    assert "synthetic" in (FOLDER / "README.md").read_text("utf-8").lower()
    builder = prepared.load_builder_module("phantom").Builder
    assert str(builder.VERSION) in builder.RELEASE_NOTES
