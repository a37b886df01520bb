"""Images, files and trainings of this project that the stages measure.

with fixtures.open_images(data_dir=None, manual_dir=None, quick=True) as images:
    training = fixtures.Training(TrainConfig())
    batches = training.batches(images.train)
    training.run_step(next(batches))
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tests.benchmark.rows import elapsed
from trainer.config import TrainConfig
from trainer.data import image_folder, prepared
from trainer.training import distribution, input_pipeline, models
from trainer.training.steps import create_train_state

ROOT = Path(__file__).resolve().parents[2]  # Of the checkout.
# The reference recipe's.
SIDE = 500  # Pixels.
BATCH = 16
# Files that ImageDataGenerator and Pillow can read; DICOM is not among them.
_RASTER = (".png", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """One data set in the forms that the stages need.

    Attributes:
      data: the prepared set.
      train: its training split at 500 pixels, in memory.
      folder: the same images as files in Train/CLASS/ and Test/CLASS/. They are links to the
        user's files where there are any; DICOM files are left out.
      files: files of Train, by the filenames of the prepared set.
    """

    data: prepared.PreparedDataset
    train: input_pipeline.Examples
    folder: Path
    files: dict[str, Path]

    def link(self, filenames: Sequence[str], target: Path) -> Path:
        """Links training files as TARGET/CLASS/FILE.

        Args:
          filenames: as the prepared set has them; those without a file are left out.
          target: a folder.

        Returns:
          `target`.
        """
        for filename in filenames:
            if filename in self.files:  # Else it is a DICOM file.
                file = self.files[filename]
                _link_file(file, target / file.relative_to(self.folder / "Train"))
        return target


@contextlib.contextmanager
def open_images(data_dir: str | None, manual_dir: str | None, quick: bool) -> Iterator[ImageSet]:
    """Prepares the data set if needed and lays out its files.

    Args:
      data_dir: the folder of prepared sets, as for trainer.main.
      manual_dir: a folder or zip of radiographs; None for synthetic ones.
      quick: whether to draw fewer synthetic images.

    Yields:
      The images. Their files are in a temporary folder.

    Raises:
      UserError: there is no such data, or it cannot be prepared.
    """
    config = TrainConfig(
        dataset="covid_xray" if manual_dir else "phantom",
        data_dir=data_dir,
        manual_dir=manual_dir,
        phantom_train=96 if quick else 256,
        phantom_test=16 if quick else 64,
    )
    data = prepared.open_from_config(config)
    train = input_pipeline.load(data.builder, "train", SIDE)
    with tempfile.TemporaryDirectory(prefix="benchmark_") as name:
        folder = Path(name)
        if manual_dir:
            files = _link_source(folder, manual_dir, data)
        else:
            test = input_pipeline.load(data.builder, "test", SIDE)
            _write_examples(folder / "Test", test)
            files = _write_examples(folder / "Train", train)
        yield ImageSet(data, train, folder, files)


def noise_examples(count: int, side: int) -> input_pipeline.Examples:
    """Generates images of noise, for measurements that do not depend on pixels.

    Args:
      count: number of images.
      side: in pixels.
    """
    rng = np.random.default_rng(0)
    names = np.array([str(index) for index in range(count)])
    return input_pipeline.Examples(
        images=rng.integers(0, 256, (count, side, side, 1), np.uint8),
        labels=np.arange(count, dtype=np.int32) % 2,
        groups=names,
        filenames=names,
    )


def input_batches(examples: input_pipeline.Examples, batch: int) -> tf.data.Dataset:
    """Returns this project's training batches, with two prepared ahead.

    Args:
      examples: in memory.
      batch: images in each.
    """
    config = models.resolve(TrainConfig(batch_size=batch))  # With the default augmentation.
    return input_pipeline.training_batches(examples, config).prefetch(2)


class Training:
    """A network, its optimizer and its step, as the training command builds them.

    Attributes:
      config: with no field left open.
      state: model, optimizer and step.

    Args:
      config: settings of the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = models.resolve(config)
        self._strategy = distribution.make_strategy(self.config)
        tf.config.experimental.enable_op_determinism()  # As the loop does.
        self.state = create_train_state(
            self.config,
            self._strategy,
            classes=2,
            # Any long run: the schedule does not change the speed.
            steps=10_000,
            steps_per_epoch=100.0,
            labels=np.array([0, 1]),  # Balanced classes.
        )

    def batches(self, examples: input_pipeline.Examples) -> distribution.Prefetcher:
        """Returns an iterator of distributed batches, as the training loop has it."""
        batches = input_pipeline.training_batches(examples, self.config)
        workers = distribution.Workers.of(self._strategy)
        return distribution.distribute(workers, batches, self.config.batch_size)

    def run_step(self, batch: Any) -> dict[str, float]:
        """Runs one step and reads its metrics, which waits for its end."""
        metrics = self.state.train_step(batch)
        # As the loop does it: float() waits for the device.
        return {name: float(value) for name, value in metrics.items()}


def project_step(steps: int, **settings: Any) -> Callable[[], float]:
    """Prepares the measurement of this project's training step.

    Args:
      steps: steps of one measurement, all on one batch in memory.
      **settings: fields of TrainConfig.

    Returns:
      A function that returns the seconds of one step.
    """
    training = Training(TrainConfig(**settings))
    side = training.state.model.input_shape[1]
    examples = noise_examples(training.config.batch_size, side)
    batch = next(training.batches(examples))  # Its input is not part of the measurement.

    def run_steps() -> None:
        for _ in range(steps):
            training.run_step(batch)

    run_steps()  # Traces.
    return lambda: elapsed(run_steps) / steps


def _link_source(folder: Path, manual_dir: str, data: prepared.PreparedDataset) -> dict[str, Path]:
    """Links the user's raster files below `folder` and returns those of Train."""
    module = prepared.load_builder_module("covid_xray")
    # The same files, under the same names, as the builder finds.
    source: image_folder.ImageFolder = module.find_source(
        Path(manual_dir).expanduser().resolve(), data.data_dir / "downloads"
    )
    files = {}
    for entries in source.splits.values():
        for entry in entries:
            if Path(entry.path).suffix.lower() in _RASTER:
                files[entry.filename] = folder / entry.filename
                _link_file(Path(entry.path), files[entry.filename])
    return {name: path for name, path in files.items() if folder / "Train" in path.parents}


def _link_file(file: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(file.resolve())


def _write_examples(folder: Path, examples: input_pipeline.Examples) -> dict[str, Path]:
    """Writes synthetic images as PNG files, one folder a class."""
    # Named as in covid_xray, because the build stage prepares these files as that set.
    classes = prepared.load_builder_module("covid_xray").CLASSES
    files = {}
    for image, label, filename in zip(
        np.asarray(examples.images), examples.labels, examples.filenames, strict=True
    ):
        path = folder / classes[label] / f"{Path(filename).stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)  # [side, side]
        files[str(filename)] = path
    return files
