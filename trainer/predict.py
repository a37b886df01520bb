"""Answers for files, folders and zips of radiographs: one row each, with a probability, a verdict, or why there is none.

python -m trainer.predict --workdir=runs/mine --output=predictions.csv PATH…
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from trainer import errors

_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The finished run, or an export itself (model.onnx, model.tflite, saved_model).",
)
_OUTPUT = flags.DEFINE_string("output", None, "The table to write. Default: the screen.")
_OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace an --output that is there already.")


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if not _WORKDIR.value:
            raise errors.UserError(
                "which run? Give --workdir=runs/…, a folder that trainer.main has finished."
            )
        if len(argv) < 2:
            raise errors.UserError("which images? Give files, folders or zips after the flags.")
        from trainer.inference import command  # Only now: --help must not wait for it.

        output = Path(_OUTPUT.value).expanduser() if _OUTPUT.value else None
        print(
            command.predict(
                Path(_WORKDIR.value),
                [Path(path).expanduser() for path in argv[1:]],
                output,
                _OVERWRITE.value,
            ),
            file=sys.stderr,
        )


if __name__ == "__main__":
    app.run(main)
