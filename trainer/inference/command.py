"""What `python -m trainer.predict` does: loads an export, answers for every file, writes the table as it goes."""

import sys
from pathlib import Path

from tqdm import tqdm

from trainer.errors import UserError
from trainer.inference import batch, runtime


def predict(workdir: Path, paths: list[Path], output: Path | None, overwrite: bool = False) -> str:
    """Writes a row a file and returns the last lines for the screen.

    Args:
      workdir: a finished run, or an export itself.
      paths: files, folders, zips.
      output: the CSV; None for standard output.
      overwrite: whether an output that is there may be replaced.

    Raises:
      UserError: no model, a path that is not there, or an output that cannot or must not be written.
    """
    model = runtime.load(workdir)
    found = list(batch.sources(paths))
    if not found:
        raise UserError(
            f"{', '.join(map(str, paths))} holds no file; give files, folders or zips of "
            "radiographs."
        )
    answers = tqdm(
        batch.rows(model, found),
        "predicting",
        len(found),
        unit=" images",
        leave=False,
        delay=2,
        disable=None,
    )
    if output is None:
        counts = batch.write(model, answers, sys.stdout)
    else:
        try:
            with open(output, "w" if overwrite else "x", newline="", encoding="utf-8") as file:
                counts = batch.write(model, answers, file)
        except FileExistsError as error:
            raise UserError(
                f"{output} is there already; give another --output, or --overwrite to replace it."
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot write {output} ({error.strerror}); give another --output."
            ) from error
    lines = [
        "SYNTHETIC: this model was trained on drawn images; its answers say nothing about patients."
    ]
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return "\n".join(
        [
            *(lines if model.facts["synthetic"] else []),
            f"{len(found)} files: {said}"
            + (f"; table in {output}" if output else "")
            + ". Not a medical device.",
        ]
    )
