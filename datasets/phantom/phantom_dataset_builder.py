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
      view: whole or lungs.
    """

    train_examples: int = 256
    test_examples: int = 64
    seed: int = 0
    side: int = 500
    shortcut: str = "none"
    view: str = views.WHOLE


def builder_config(config: TrainConfig, *_: object) -> PhantomConfig:
    """Returns the builder's configuration for a run; a built-in one where it fits."""
    kind = "lungs" if config.view == views.LUNGS else "gray"
    name = f"{kind}{config.prepared_side}"
    numbers = (config.phantom_train, config.phantom_test, config.prepared_side)
    if numbers != (PhantomConfig.train_examples, PhantomConfig.test_examples, PhantomConfig.side):
        name = f"{name}_{config.phantom_train}_{config.phantom_test}"
    if config.phantom_shortcut != "none":
        name = f"{name}_{config.phantom_shortcut}"
    return Builder.builder_configs.get(name) or PhantomConfig(
        name=name,
        train_examples=config.phantom_train,
        test_examples=config.phantom_test,
        side=config.prepared_side,
        shortcut=config.phantom_shortcut,
        view=config.view or views.WHOLE,
        description="Other numbers or sides of images.",
    )


def describe(config: TrainConfig) -> str:
    """Returns one sentence on the set of a run."""
    shortcut = config.phantom_shortcut
    planted = "" if shortcut == "none" else f", with a shortcut planted: {shortcut}"
    return f"SYNTHETIC radiographs, as asked{planted}."


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
                {**pictures, **shards.describe_file(phantom.CLASSES)}
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(
                source_fingerprint=_fingerprint(config),
                synthetic=True,
                positive_class="opacities",
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
    recipe = f"phantom {phantom.GENERATOR_VERSION} {numbers}{shortcut}"
    return hashlib.sha256(recipe.encode()).hexdigest()


def _draw_example(config: PhantomConfig, split: str, first: int, number: int) -> dict[str, Any]:
    index = first + number
    label = phantom.label_of(config.seed, index)
    example = phantom.draw(config.seed, index, label, config.side)
    image = shortcuts.plant(example.image, label, config.shortcut)  # [side, side]
    filename = f"{split}/synthetic_{number:06d}"
    pictures, square = shards.encode_pictures(image, config.side, config.view)
    masks = {"lung_mask": example.lung_mask, "lesion_mask": example.lesion_mask}
    for name, mask in masks.items():
        cut = radiograph.standardize(mask * np.uint8(255), config.side, square.box)
        pictures[name] = io.BytesIO(radiograph.encode(cut))
    return {
        **pictures,
        "label": phantom.CLASSES[label],
        "filename": filename,
        "group": filename,  # Each image is a patient of its own.
        "columns": "{}",
        "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "format": "PNG",
        **shortcuts.header_of(label, config.shortcut, config.side),
    }
