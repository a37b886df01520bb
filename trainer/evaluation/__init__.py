"""Everything done with a trained model or a data set."""

from trainer import tf_startup

tf_startup.clean_environment()  # Before any module of this package imports Keras.
