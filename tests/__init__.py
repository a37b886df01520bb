"""The tests: fast ones by default, slow and browser ones marked."""

from trainer import tf_startup

tf_startup.clean_environment()  # Before any test imports Keras: one result in any environment.
