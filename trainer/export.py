"""Exports a finished run's model and compares each export with Keras.

python -m trainer.export --workdir=runs/mine --format=saved_model,litert,onnx
"""

from absl import flags

from trainer import cli, errors, tf_startup
from trainer.inference import formats

_FORMATS = ", ".join(formats.FILE_NAMES)
_WORKDIR = cli.define_workdir()
_FORMAT = flags.DEFINE_list(
    "format",
    ["onnx"],
    f"One or more of {_FORMATS}, with commas between them. litert needs the extra of that name: "
    "pip install -e '.[litert]'.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of the run's prepared data set, if it has moved."
)


def main() -> None:
    """Exports the model of the run that --workdir names."""
    for name in _FORMAT.value:
        if name not in formats.FILE_NAMES:
            raise errors.UserError(f"--format={name}: choose among {_FORMATS}.")
    tf_startup.start_tensorflow()  # after the flags: --help needs no TensorFlow
    from trainer.evaluation import export_run

    print(
        *export_run.export_run(_WORKDIR.value, tuple(_FORMAT.value), _DATA_DIR.value),
        sep="\n",
    )


if __name__ == "__main__":
    cli.run(main)
