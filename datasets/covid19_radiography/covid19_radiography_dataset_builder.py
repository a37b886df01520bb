"""The COVID-19 Radiography Database of Kaggle: four classes, with lung masks.

tfds build datasets/covid19_radiography --manual_dir=FOLDER_OR_ZIP
"""

from etils import epath

from trainer.data import builder

ORIGIN = "Kaggle"
EXPECTED_TREE = """the expected tree:
    FOLDER/COVID/images/*           FOLDER/Normal/images/*
    FOLDER/Lung_Opacity/images/*    FOLDER/Viral Pneumonia/images/*"""


class Builder(builder.RadiographBuilder):
    """Chest radiographs: normal, COVID-19, lung opacity, viral pneumonia."""

    # Explicit: TFDS cannot derive it from a module that was loaded by its path.
    pkg_dir_path = epath.Path(__file__).parent
    KAGGLE_HANDLE = "tawsifurrahman/covid19-radiography-database"
    EXPECTED_TREE = EXPECTED_TREE
    CLASSES = ("Normal", "COVID", "Lung_Opacity", "Viral Pneumonia")  # In label order.


find_source = Builder.find_source
builder_config = builder.named_config  # There is one set of this name.
