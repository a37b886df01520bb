"""What is measured on: the user's radiographs or phantoms, prepared, and the same images as files."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data import image_folder, prepared
from trainer.training import input_pipeline

SIDE, BATCH = 500, 16
_RASTER = (".png", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class Material:
    """One set in the forms that the stages need.

    Attributes:
      data: the prepared set.
      train: its training split at 500 pixels, in memory.
      folder: Train/CLASS/ and Test/CLASS/ with the same images as files (links where they are the user's; DICOM left out).
      files: those of Train, by the names the prepared set gives them.
    """

    data: prepared.Prepared
    train: input_pipeline.Examples
    folder: Path
    files: dict[str, Path]

    def link(self, names: Sequence[str], into: Path) -> Path:
        """Links the training files of these names as into/CLASS/FILE; returns `into`. Names without a file are left out."""
        for name in names:
            if name in self.files:
                target = into / self.files[name].relative_to(self.folder / "Train")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(self.files[name].resolve())
        return into


@contextlib.contextmanager
def opened(data_dir: str | None, manual_dir: str | None, quick: bool) -> Iterator[Material]:
    """Prepares the set where needed and lays the files out in a temporary folder.

    Raises:
      UserError: no such data, or it cannot be prepared.
    """
    name = "covid_xray" if manual_dir else "phantom"
    data = prepared.open_dataset(
        name,
        data_dir=data_dir,
        manual_dir=manual_dir,
        phantom_train=96 if quick else 256,
        phantom_test=16 if quick else 64,
    )
    train = input_pipeline.load(data.builder, "train", SIDE)
    with tempfile.TemporaryDirectory(prefix="benchmark_") as place:
        folder = Path(place)
        files = (
            _link(folder, manual_dir, data)
            if manual_dir
            else _write(folder, train, "Train")
            | _write(folder, input_pipeline.load(data.builder, "test", SIDE), "Test")
        )
        yield Material(
            data,
            train,
            folder,
            {name: path for name, path in files.items() if (folder / "Train") in path.parents},
        )


def _link(folder: Path, manual_dir: str, data: prepared.Prepared) -> dict[str, Path]:
    module = prepared.load_builder_module("covid_xray")
    found: image_folder.ImageFolder = module.find_source(
        Path(manual_dir).expanduser().resolve(), data.data_dir / "downloads"
    )
    files = {}
    for entry in (entry for entries in found.splits.values() for entry in entries):
        if Path(entry.path).suffix.lower() in _RASTER:
            target = files[entry.filename] = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(str(entry.path)).resolve())
    return files


def _write(folder: Path, examples: input_pipeline.Examples, split: str) -> dict[str, Path]:
    """Phantoms as PNG files, in folders named as covid_xray's builder has them: it is what is measured on them."""
    classes, files = prepared.load_builder_module("covid_xray").CLASSES, {}
    for image, label, name in zip(
        examples.images, examples.labels, examples.filenames, strict=True
    ):
        target = files[str(name)] = folder / split / classes[label] / f"{Path(name).stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image)[..., 0]).save(target)
    return files
