"""NIH ChestX-ray14: fourteen findings, of which an image may have several.

tfds build datasets/nih_chest_xray14 --manual_dir=FOLDER_OR_ZIP
"""

from etils import epath

from trainer.data import builder

ORIGIN = "Kaggle"
EXPECTED_TREE = """the expected tree:
    FOLDER/Data_Entry_2017.csv    FOLDER/train_val_list.txt    FOLDER/test_list.txt
    FOLDER/images_001/images/*.png … images_012/images/*.png, or all images in one folder"""


class Builder(builder.RadiographBuilder):
    """Chest radiographs with none, one or several of fourteen findings."""

    # Explicit: TFDS cannot derive it from a module that was loaded by its path.
    pkg_dir_path = epath.Path(__file__).parent
    KAGGLE_HANDLE = "nih-chest-xrays/data"
    EXPECTED_TREE = EXPECTED_TREE
    # In label order, that of the paper.
    CLASSES = (
        *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule"),
        *("Pneumonia", "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis"),
        *("Pleural_Thickening", "Hernia"),
    )
    SEVERAL_FINDINGS = True


find_source = Builder.find_source
builder_config = builder.named_config  # There is one set of this name.
