"""Packages synthetic radiographs, drawn here and now: the embedded default, and a test bench with known truth.

tfds build datasets/phantom
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from trainer.data import phantom, radiograph, shortcuts

_FIRST_TEST_INDEX = 1_000_000  # Far off, so that more training images never change the test images.
_DRAWERS = 2
_AHEAD = 8


@dataclasses.dataclass
class PhantomConfig(tfds.core.BuilderConfig):
    """How many images of each split are drawn, from which seed, at which side (64 to 1000 pixels), and what is planted."""

    train_examples: int = 256
    test_examples: int = 64
    seed: int = 0
    side: int = 500
    shortcut: str = "none"


def config_of(
    train_examples: int, test_examples: int, shortcut: str = "none", side: int = 500
) -> PhantomConfig:
    """The configuration with these numbers, this shortcut (`planted.SHORTCUTS`) and side; a built-in one where they fit."""
    for known in Builder.BUILDER_CONFIGS:
        if (train_examples, test_examples, shortcut, side) == (
            known.train_examples,
            known.test_examples,
            known.shortcut,
            known.side,
        ):
            return known
    name = f"gray{side}_{train_examples}_{test_examples}" + (
        "" if shortcut == "none" else f"_{shortcut}"
    )
    return PhantomConfig(
        name=name,
        train_examples=train_examples,
        test_examples=test_examples,
        side=side,
        shortcut=shortcut,
        description="Other numbers or sides of images.",
    )


class Builder(tfds.core.GeneratorBasedBuilder):
    """Synthetic frontal chest radiographs with lung and lesion masks."""

    pkg_dir_path = epath.Path(
        __file__
    ).parent  # Also where the module was loaded by its path, outside a package.
    VERSION = tfds.core.Version(
        f"{phantom.GENERATOR_VERSION}.0.0"
    )  # Another drawing is another set.
    RELEASE_NOTES = {
        "2.0.0": "Initial release.",
        "3.0.0": "Spared lung holds more air where there are opacities: mean and deviation tell next to nothing.",
    }
    BUILDER_CONFIGS = [PhantomConfig(name="gray500", description="256 to train, 64 to test.")] + [
        PhantomConfig(
            name=f"gray500_{shortcut}",
            shortcut=shortcut,
            description=f"The same with a shortcut planted: {shortcut}.",
        )
        for shortcut in shortcuts.SHORTCUTS
        if shortcut != "none"
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        recipe = " ".join(
            map(
                str,
                (
                    "phantom",
                    phantom.GENERATOR_VERSION,
                    config.train_examples,
                    config.test_examples,
                    config.seed,
                    config.side,
                )
                + (() if config.shortcut == "none" else (config.shortcut,)),
            )
        )
        square = tfds.features.Image(
            shape=(config.side, config.side, 1), dtype=np.uint8, encoding_format="png"
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": square,
                    "lung_mask": square,
                    "lesion_mask": square,
                    "label": tfds.features.ClassLabel(names=list(phantom.CLASSES)),
                    "filename": tfds.features.Text(),
                    "sha256": tfds.features.Text(),
                    "format": tfds.features.Text(),
                    "width": np.int32,
                    "height": np.int32,
                    "channels": np.int32,
                    "bit_depth": np.int32,
                    "byte_size": np.int64,
                    "group": tfds.features.Text(),
                    "columns": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(
                source_fingerprint=hashlib.sha256(recipe.encode()).hexdigest(),
                synthetic=True,
                positive_class="opacities",
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
        config = self.builder_config
        with concurrent.futures.ThreadPoolExecutor(_DRAWERS) as drawers:
            waiting: collections.deque = collections.deque()
            for number in range(count + _AHEAD):
                if number < count:
                    waiting.append(
                        drawers.submit(
                            _example, config, first + number, f"{split}/synthetic_{number:06d}"
                        )
                    )
                if number >= _AHEAD and waiting:
                    example = waiting.popleft().result()
                    yield example["filename"], example


def _example(config: PhantomConfig, index: int, filename: str) -> dict[str, Any]:
    drawn = phantom.draw(config.seed, index, phantom.label_of(config.seed, index), config.side)
    image = shortcuts.plant(drawn.image, drawn.label, config.shortcut)
    return {
        "image": _png(image),
        "lung_mask": _png(drawn.lung_mask),
        "lesion_mask": _png(drawn.lesion_mask),
        "label": phantom.CLASSES[drawn.label],
        "filename": filename,
        "group": filename,
        "columns": "{}",
        "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "format": "PNG",
        **shortcuts.header_of(drawn.label, config.shortcut, config.side),
    }


def _png(pixels: np.ndarray) -> io.BytesIO:
    return io.BytesIO(
        radiograph.encode(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels)
    )
