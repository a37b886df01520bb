"""Synthetic radiographs: the default set without real data, and a test bench with known truth.

tfds build datasets/phantom
"""

import dataclasses
import functools
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from trainer.config import TrainConfig
from trainer.data import parallel, phantom, radiograph, shards, shortcuts, views

_FIRST_TEST_INDEX = 1_000_000  # Far away: more training images never change the test images.


@dataclasses.dataclass
class PhantomConfig(tfds.core.BuilderConfig):
    """The size and content of a synthetic set.

    Attributes:
      train_examples: number of training images.
      test_examples: number of test images.
      seed: the seed of all images.
      side: side length of the images, in pixels, 64 to 1000.
      shortcut: the planted shortcut, of `shortcuts.SHORTCUTS`.
      findings: number of findings, from the front of `phantom.FINDINGS`, of which an image may have
        several; 0 for the two classes of `phantom.CLASSES`.
      view: whole or lungs.
    """

    train_examples: int = 256
    test_examples: int = 64
    seed: int = 0
    side: int = 500
    shortcut: str = "none"
    findings: int = 0
    view: str = views.WHOLE

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, or the findings, in label order."""
        return tuple(phantom.FINDINGS)[: self.findings] or phantom.CLASSES


def builder_config(config: TrainConfig, *_: object) -> PhantomConfig:
    """Returns the builder's configuration for a run; a built-in one where it fits."""
    kind = "lungs" if config.view == views.LUNGS else "gray"
    name = f"{kind}{config.prepared_side}"
    numbers = (config.phantom_train, config.phantom_test, config.prepared_side)
    if numbers != (PhantomConfig.train_examples, PhantomConfig.test_examples, PhantomConfig.side):
        name = f"{name}_{config.phantom_train}_{config.phantom_test}"
    if config.phantom_findings:
        name = f"{name}_findings{config.phantom_findings}"
    if config.phantom_shortcut != "none":
        name = f"{name}_{config.phantom_shortcut}"
    return Builder.builder_configs.get(name) or PhantomConfig(
        name=name,
        train_examples=config.phantom_train,
        test_examples=config.phantom_test,
        side=config.prepared_side,
        shortcut=config.phantom_shortcut,
        findings=config.phantom_findings,
        view=config.view or views.WHOLE,
        description="Other numbers, sides or findings of images.",
    )


def describe(config: TrainConfig) -> str:
    """Returns one sentence on the set of a run."""
    shortcut = config.phantom_shortcut
    finding = f" for {shortcuts.FINDING}" if config.phantom_findings else ""
    planted = "" if shortcut == "none" else f", with a shortcut planted{finding}: {shortcut}"
    several = f" with {config.phantom_findings} findings" if config.phantom_findings else ""
    return f"SYNTHETIC radiographs{several}, as asked{planted}."


class Builder(tfds.core.GeneratorBasedBuilder):
    """Synthetic frontal chest radiographs with lung and lesion masks."""

    # Explicit: TFDS cannot derive it from a module that was loaded by its path.
    pkg_dir_path = epath.Path(__file__).parent
    # Another drawing is another version.
    VERSION = tfds.core.Version(f"{phantom.GENERATOR_VERSION}.0.0")
    RELEASE_NOTES = {
        "2.0.0": "Initial release.",
        "3.0.0": "Spared lung holds more air where there are opacities: mean and deviation tell "
        "next to nothing.",
    }
    BUILDER_CONFIGS = [
        PhantomConfig(name="gray500", description="256 to train, 64 to test."),
        PhantomConfig(name="lungs500", view=views.LUNGS, description="The same, lungs alone."),
        *(
            PhantomConfig(
                name=f"gray500_{shortcut}",
                shortcut=shortcut,
                description=f"The same with a shortcut planted: {shortcut}.",
            )
            for shortcut in shortcuts.SHORTCUTS
            if shortcut != "none"
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        masks = dict.fromkeys(("lung_mask", "lesion_mask"), shards.grey_square(config.side))
        pictures = shards.pictures(config.side, config.view) | masks
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    **pictures,
                    **shards.describe_file(config.class_names, several=config.findings > 0),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(
                source_fingerprint=_fingerprint(config),
                synthetic=True,
                positive_class=None if config.findings else "opacities",
                multi_label=config.findings > 0,
                view=views.describe(config.view),
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # Nothing is downloaded.
        config = self.builder_config
        return {
            "train": self._generate_examples("train", 0, config.train_examples),
            "test": self._generate_examples("test", _FIRST_TEST_INDEX, config.test_examples),
        }

    def _generate_examples(
        self, split: str, first: int, count: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        draw = functools.partial(_draw_example, self.builder_config, split, first)
        for _, example in parallel.map_in_order(draw, range(count)):
            yield example["filename"], example


def _fingerprint(config: PhantomConfig) -> str:
    numbers = f"{config.train_examples} {config.test_examples} {config.seed} {config.side}"
    shortcut = "" if config.shortcut == "none" else f" {config.shortcut}"
    findings = f" findings {config.findings}" if config.findings else ""
    recipe = f"phantom {phantom.GENERATOR_VERSION} {numbers}{findings}{shortcut}"
    return hashlib.sha256(recipe.encode()).hexdigest()


def _draw_example(config: PhantomConfig, split: str, first: int, number: int) -> dict[str, Any]:
    index = first + number
    draw = _draw_several if config.findings else _draw_single
    example, planted, labels = draw(config, index)
    image = shortcuts.plant(example.image, planted, config.shortcut)  # [side, side]
    filename = f"{split}/synthetic_{number:06d}"
    pictures, square = shards.encode_pictures(image, config.side, config.view)
    masks = {"lung_mask": _cut(example.lung_mask, square)}
    if isinstance(example, phantom.Phantom):
        masks["lesion_mask"] = _cut(example.lesion_mask, square)
    else:
        masks["lesion_mask"] = np.zeros((config.side, config.side), np.uint8)
        for bit, mask in enumerate(example.finding_masks):
            # Each is cut by itself: resampling would mix bits.
            masks["lesion_mask"] |= (_cut(mask, square) > 127) * np.uint8(1 << bit)
    for name, mask in masks.items():
        pictures[name] = io.BytesIO(radiograph.encode(mask))
    return {
        **pictures,
        **labels,
        "filename": filename,
        "group": filename,  # Each image is a patient of its own.
        "columns": "{}",
        "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "format": "PNG",
        **shortcuts.header_of(planted, config.shortcut, config.side),
    }


def _draw_single(config: PhantomConfig, index: int) -> tuple[phantom.Phantom, int, dict[str, Any]]:
    # The phantom, the label that a shortcut gives away, and the features of labels.
    label = phantom.label_of(config.seed, index)
    return phantom.draw(config.seed, index, label, config.side), label, {"label": label}


def _draw_several(
    config: PhantomConfig, index: int
) -> tuple[phantom.FindingsPhantom, int, dict[str, Any]]:
    # As `_draw_single`.
    present = phantom.findings_of(config.seed, index, config.findings)
    example = phantom.draw_findings(config.seed, index, present, config.side)
    labels = {"label": -1, "findings": example.present.astype(np.int8)}
    return example, int(present[config.class_names.index(shortcuts.FINDING)]), labels


def _cut(mask: np.ndarray, square: views.Square) -> np.ndarray:
    # From [side, side] bool to 0..255 uint8, within the box of the square.
    return radiograph.standardize(mask * np.uint8(255), len(mask), square.box)
