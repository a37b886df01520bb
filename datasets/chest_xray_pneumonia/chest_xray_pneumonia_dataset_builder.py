"""The chest radiographs of children in Guangzhou, as served by Kaggle: normal and pneumonia.

tfds build datasets/chest_xray_pneumonia --manual_dir=FOLDER_OR_ZIP
"""

from etils import epath

from trainer.data import builder

ORIGIN = "Kaggle"
EXPECTED_TREE = """the expected tree:
    FOLDER/train/NORMAL/*    FOLDER/train/PNEUMONIA/*    FOLDER/val/…    FOLDER/test/…"""


class Builder(builder.RadiographBuilder):
    """Chest radiographs of children: normal and pneumonia."""

    # Explicit: TFDS cannot derive it from a module that was loaded by its path.
    pkg_dir_path = epath.Path(__file__).parent
    KAGGLE_HANDLE = "paultimothymooney/chest-xray-pneumonia"
    EXPECTED_TREE = EXPECTED_TREE
    CLASSES = ("NORMAL", "PNEUMONIA")  # In label order.


find_source = Builder.find_source
builder_config = builder.named_config  # There is one set of this name.
