"""Web page and API of a trained model; knows a workdir, trainer.inference and trainer.data."""
