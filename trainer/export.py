"""Writes a finished run's model for other runtimes, and says how far each is from Keras.

python -m trainer.export --workdir=runs/mine --format=saved_model,litert,onnx
"""

from collections.abc import Sequence

from absl import app, flags

from trainer import errors, tf_startup

_FORMATS = ("onnx", "litert", "saved_model")
_WORKDIR = flags.DEFINE_string("workdir", None, "The finished run.")
_FORMAT = flags.DEFINE_list(
    "format", ["onnx"], f"Which: {', '.join(_FORMATS)}; several with commas between them."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where the run's data set is prepared, if not where it was."
)


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(
                f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help."
            )
        if not _WORKDIR.value:
            raise errors.UserError(
                "which run? Give --workdir=runs/…, a folder that trainer.main has finished."
            )
        if unknown := [name for name in _FORMAT.value if name not in _FORMATS]:
            raise errors.UserError(f"--format={unknown[0]}: choose among {', '.join(_FORMATS)}.")
        tf_startup.start_tensorflow()
        from trainer.evaluation import export_run

        print(
            "\n".join(export_run.export_run(_WORKDIR.value, tuple(_FORMAT.value), _DATA_DIR.value))
        )


if __name__ == "__main__":
    app.run(main)
