"""Any set of chest radiographs: a folder or zip with folders of classes, or with a table.

tfds build datasets/radiographs --manual_dir=FOLDER_OR_ZIP
"""

import functools
from pathlib import Path

from etils import epath

from trainer.config import TrainConfig
from trainer.data import any_source, builder
from trainer.data.image_folder import ImageFolder
from trainer.errors import UserError

ORIGIN = "--manual_dir"
EXPECTED_TREE = """folders of classes, with splits or without, or images with a table of labels:
    FOLDER/CLASS/*    FOLDER/Train/CLASS/*    FOLDER/*.csv (filename, label, patient, split …)"""


class Builder(builder.RadiographBuilder):
    """Chest radiographs of any classes."""

    # Explicit: TFDS cannot derive it from a module that was loaded by its path.
    pkg_dir_path = epath.Path(__file__).parent

    @classmethod
    def find_source(
        cls, manual_dir: Path | None, download_dir: Path, config: TrainConfig
    ) -> ImageFolder:
        """Finds the radiographs in a folder or zip.

        Raises:
          UserError: no folder is given, or it cannot be told how it is labelled.
        """
        if manual_dir is None:
            raise UserError(f"give --manual_dir=FOLDER_OR_ZIP; {EXPECTED_TREE}")
        return any_source.find(manual_dir, download_dir, config)


find_source = Builder.find_source
builder_config = functools.partial(builder.choose_config, Builder)
