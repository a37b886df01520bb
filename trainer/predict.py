"""Predicts for files, folders and archives of radiographs; writes one row of CSV per file.

python -m trainer.predict --workdir=runs/mine --output=predictions.csv PATH…
python -m trainer.predict --workdir=runs/mine --output=predictions.csv --maps=maps PATH…
"""

import sys
from pathlib import Path

from absl import flags

from trainer import cli, errors

_WORKDIR = cli.define_workdir(
    "The finished run, or an export itself (model.onnx, model.tflite, saved_model)."
)
_OUTPUT = flags.DEFINE_string("output", None, "The CSV file to write. Default: the screen.")
_MAPS = flags.DEFINE_string(
    "maps",
    None,
    "A folder for pictures: the map of the model's evidence over each radiograph. The column map "
    "of the table names them.",
)
_OVERWRITE = flags.DEFINE_boolean(
    "overwrite", False, "Replace an existing --output, and files in --maps."
)


def main(*paths: str) -> None:
    """Predicts for the files, folders and archives given after the flags."""
    if not paths:
        raise errors.UserError("which images? Give files, folders or archives after the flags.")
    from trainer.inference import command  # imported lazily: slow

    print(
        command.predict(
            Path(_WORKDIR.value),
            [Path(path).expanduser() for path in paths],
            Path(_OUTPUT.value).expanduser() if _OUTPUT.value else None,
            _OVERWRITE.value,
            Path(_MAPS.value).expanduser() if _MAPS.value else None,
        ),
        file=sys.stderr,  # The table may be on stdout.
    )


if __name__ == "__main__":
    cli.run(main, positional=True)
