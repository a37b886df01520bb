"""Packages the Kaggle COVID-19 chest X-ray set, or any set in its layout.

tfds build datasets/covid_xray --manual_dir=FOLDER_OR_ZIP
"""

import collections
import concurrent.futures
import dataclasses
import functools
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from trainer import archive, image_folder, kaggle, radiograph
from trainer.errors import UserError

KAGGLE_HANDLE = "akhilkasare/covid19-chest-xray-detection"
SIDES = (500, 256, 128, 64)  # The first is the default, the reference's.
SPLITS = {"train": "Train", "test": "Test"}
CLASSES = ("non_covid", "covid")  # Label order: covid, 1, is the positive class.
KAGGLE_COUNTS = {("Train", "covid"): 250, ("Train", "non_covid"): 203, ("Test", "covid"): 100, ("Test", "non_covid"): 119}

EXPECTED_TREE = """the expected tree:
    FOLDER/Train/covid/*.png|jpg|dcm    FOLDER/Train/non_covid/*
    FOLDER/Test/covid/*                 FOLDER/Test/non_covid/*
    FOLDER/groups.csv (optional: filename,patient,…)"""

_READERS = 2
_AHEAD = 16


class Builder(tfds.core.GeneratorBasedBuilder):
    """The set as grey squares of 500, 256, 128 or 64 pixels (`gray500`, …) or as the files are (`original`)."""

    pkg_dir_path = epath.Path(__file__).parent  # Also where the module was loaded by its path, outside a package.
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Give the folder or zip as --manual_dir, or nothing to download it; {EXPECTED_TREE}"
    BUILDER_CONFIGS = [
        *(tfds.core.BuilderConfig(name=f"gray{side}", description=f"One channel, stretched to {side}x{side}, 8 bits.")
          for side in SIDES),
        tfds.core.BuilderConfig(name="original", description="The file's bytes untouched; a DICOM as PNG, without tags."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        side = _side_of(self.builder_config.name)
        picture = ({"image": tfds.features.Image(shape=(side, side, 1), dtype=np.uint8, encoding_format="png")}
                   if side else {"file": tfds.features.Text()})
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({
                **picture,
                "label": tfds.features.ClassLabel(names=list(CLASSES)),
                "filename": tfds.features.Text(), "sha256": tfds.features.Text(), "format": tfds.features.Text(),
                "width": np.int32, "height": np.int32, "channels": np.int32, "bit_depth": np.int32, "byte_size": np.int64,
                "group": tfds.features.Text(), "columns": tfds.features.Text(),
            }),
            supervised_keys=("image" if side else "file", "label"),
            homepage=f"https://www.kaggle.com/datasets/{KAGGLE_HANDLE}",
            metadata=tfds.core.MetadataDict(source_fingerprint="", synthetic=False, positive_class="covid"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        found = find_source(_manual_path(dl_manager), Path(dl_manager.download_dir))
        self.info.metadata["source_fingerprint"] = found.fingerprint
        for line in [counts_line(found), *found.remarks]:
            print(f"covid_xray: {line}", flush=True)
        return {split: self._generate_examples(found.splits[name]) for split, name in SPLITS.items()}

    def _generate_examples(self, entries: Sequence[image_folder.Entry]) -> Iterator[tuple[str, dict[str, Any]]]:
        side = _side_of(self.builder_config.name)
        encode = functools.partial(_squared, side=side) if side else _untouched
        with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
            for entry, (picture, header) in _in_order(readers, encode, entries):
                yield entry.filename, {
                    **picture, **dataclasses.asdict(header), "label": entry.label, "filename": entry.filename,
                    "group": entry.group, "columns": json.dumps(dict(entry.columns), sort_keys=True)}


def find_source(manual: Path | None, download_dir: Path) -> image_folder.ImageFolder:
    """Finds the radiographs: in the folder or zip given, else on Kaggle.

    Raises:
      UserError: nowhere; the message holds the expected tree and the next command.
    """
    if manual is not None and manual.is_file():
        manual = archive.unpack(manual, download_dir / "unpacked")
    if manual is None:
        try:
            manual = kaggle.download(KAGGLE_HANDLE)
        except UserError as error:
            raise UserError(f"{error} Download it by hand from kaggle.com/datasets/{KAGGLE_HANDLE} and add "
                            f"--manual_dir=FOLDER_OR_ZIP; {EXPECTED_TREE}") from error
    return image_folder.find(manual, tuple(SPLITS.values()), CLASSES)


def counts_line(found: image_folder.ImageFolder) -> str:
    """The numbers found, beside the Kaggle set's where they differ."""
    counts = collections.Counter((split, entry.label) for split, entries in found.splits.items() for entry in entries)
    shown = ", ".join(f"{split}/{label} {counts[split, label]}" for split, label in KAGGLE_COUNTS)
    if dict(counts) == KAGGLE_COUNTS:
        return f"{shown}: the Kaggle set's numbers"
    expected = ", ".join(str(count) for count in KAGGLE_COUNTS.values())
    return f"{shown}; the Kaggle set has {expected}, so this is another set or a part of it"


def _manual_path(dl_manager: tfds.download.DownloadManager) -> Path | None:
    """What the user gave, be it there or not; None where that is nothing.

    TFDS's own default place does not count: what lies there may belong to other sets.
    """
    try:
        manual = Path(dl_manager.manual_dir)
    except (AssertionError, NotADirectoryError):  # TFDS wants a folder with something in it, and this is none: ask inside.
        manual = Path(dl_manager._manual_dir)
    return None if manual == Path(dl_manager.download_dir) / "manual" else manual


def _in_order(readers: concurrent.futures.Executor, encode, entries: Sequence[image_folder.Entry]) -> Iterator:
    """Encodes a few files ahead (Pillow frees the interpreter while it decodes), and yields them in order."""
    waiting: collections.deque = collections.deque()
    remaining = iter(entries)
    for entry in itertools.chain(remaining, [None] * _AHEAD):
        if entry is not None:
            waiting.append((entry, readers.submit(encode, entry)))
        if waiting and (entry is None or len(waiting) > _AHEAD):
            done, result = waiting.popleft()
            yield done, result.result()


def _read(entry: image_folder.Entry) -> radiograph.Radiograph:
    try:
        return radiograph.read(entry.path, name=str(entry.path))
    except radiograph.RadiographError as error:
        raise UserError(f"{error} To build without it, add the line {entry.filename} to exclude.txt beside Train/.") from error


def _side_of(config: str) -> int:
    """The side of the squares of a configuration; 0 for original."""
    return int(config.removeprefix("gray")) if config.startswith("gray") else 0


def _squared(entry: image_folder.Entry, side: int) -> tuple[dict[str, Any], radiograph.Header]:
    found = _read(entry)
    return {"image": io.BytesIO(radiograph.encode(radiograph.standardize(found, side)))}, found.header


def _untouched(entry: image_folder.Entry) -> tuple[dict[str, Any], radiograph.Header]:
    found = _read(entry)
    if found.header.format == "DICOM":
        return {"file": radiograph.encode(found.pixels)}, found.header
    return {"file": entry.path.read_bytes()}, found.header
