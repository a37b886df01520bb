"""The Kaggle COVID-19 chest X-ray set, or any set in its layout.

tfds build datasets/covid_xray --manual_dir=FOLDER_OR_ZIP
tfds build datasets/covid_xray --manual_dir=FOLDER --beam_pipeline_options=runner=DirectRunner
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from etils import epath

from trainer.config import TrainConfig
from trainer.data import builder, image_folder, kaggle

KAGGLE_HANDLE = "akhilkasare/covid19-chest-xray-detection"
ORIGIN = "Kaggle"
SPLITS = {"train": "Train", "test": "Test"}
CLASSES = ("non_covid", "covid")  # In label order.
POSITIVE_CLASS = "covid"
KAGGLE_COUNTS = {
    ("Train", "covid"): 250,
    ("Train", "non_covid"): 203,
    ("Test", "covid"): 100,
    ("Test", "non_covid"): 119,
}

EXPECTED_TREE = """the expected tree:
    FOLDER/Train/covid/*.png|jpg|dcm    FOLDER/Train/non_covid/*
    FOLDER/Test/covid/*                 FOLDER/Test/non_covid/*
    FOLDER/groups.csv (optional: filename,patient,…)"""


class Builder(builder.RadiographBuilder):
    """Chest radiographs of two classes, covid and non_covid."""

    # Explicit: TFDS cannot derive it from a module that was loaded by its path.
    pkg_dir_path = epath.Path(__file__).parent
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Give the folder or zip as --manual_dir, or nothing to download it; {EXPECTED_TREE}"
    )
    KAGGLE_HANDLE = KAGGLE_HANDLE
    CLASSES = CLASSES

    @staticmethod
    def find_source(
        manual_dir: Path | None, download_dir: Path, config: TrainConfig | None = None
    ) -> image_folder.ImageFolder:
        """Finds the files, see the function of this name."""
        return find_source(manual_dir, download_dir, config)


builder_config = builder.config_name  # There is one set of this name.


def find_source(
    manual_dir: Path | None, download_dir: Path, config: TrainConfig | None = None
) -> image_folder.ImageFolder:
    """Finds the radiographs: in the given folder or zip, else on Kaggle.

    Args:
      manual_dir: a folder or a zip; None to download the set.
      download_dir: the folder of downloads and unpacked archives.
      config: not used: the layout is fixed.

    Raises:
      UserError: no source; the message contains the expected tree and the next command.
    """
    del config
    root = kaggle.locate(manual_dir, download_dir, KAGGLE_HANDLE, EXPECTED_TREE)
    folder = image_folder.find(root, tuple(SPLITS.values()), CLASSES)
    # A folder for validation is a split of its own.
    names = {name: split for split, name in SPLITS.items()}
    splits = {names.get(name, "validation"): listed for name, listed in folder.splits.items()}
    return dataclasses.replace(
        folder,
        splits=splits,
        class_names=CLASSES,
        positive_class=POSITIVE_CLASS,
        summary=counts_line(splits),
    )


def counts_line(splits: Mapping[str, Sequence[image_folder.Entry]]) -> str:
    """Returns the numbers of images, beside the Kaggle set's where they differ."""
    counts = collections.Counter(
        (SPLITS.get(split, split), entry.label)
        for split, entries in splits.items()
        for entry in entries
    )
    line = ", ".join(f"{split}/{label} {counts[split, label]}" for split, label in KAGGLE_COUNTS)
    if dict(counts) == KAGGLE_COUNTS:
        return f"{line}: the Kaggle set's numbers"
    expected = ", ".join(str(count) for count in KAGGLE_COUNTS.values())
    return f"{line}; the Kaggle set has {expected}, so this is another set or a part of it"
