"""One training run or many, from the data to the report."""

from trainer import tf_startup

tf_startup.clean_environment()  # Before any module of this package imports Keras.
