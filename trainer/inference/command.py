"""The work of `python -m trainer.predict`: load an export, predict for every file, write the CSV.

print(command.predict(Path("runs/mine"), [Path("images")], Path("predictions.csv")))
"""

import contextlib
import sys
from pathlib import Path

from tqdm import tqdm

from trainer.errors import UserError
from trainer.inference import batch, runtime, sources


def predict(workdir: Path, paths: list[Path], output: Path | None, overwrite: bool = False) -> str:
    """Writes one CSV row a file and returns the summary for the screen.

    Args:
      workdir: a finished run, or an export itself.
      paths: files, folders and zips.
      output: the CSV file; None for standard output.
      overwrite: whether an existing output may be replaced.

    Raises:
      UserError: there is no model, a path does not exist, or the output cannot be written.
    """
    # First, so that a wrong --workdir fails before folders are listed.
    model = runtime.load(workdir)
    listed = list(sources.list_sources(paths))
    if not listed:
        names = ", ".join(str(path) for path in paths)
        raise UserError(f"{names} holds no file; give files, folders or zips of radiographs.")
    rows = tqdm(
        batch.predict_rows(model, listed),
        "predicting",
        len(listed),
        unit=" images",
        leave=False,
        delay=2,  # A few images need no progress bar.
        disable=None,  # Off where stderr is no terminal.
    )
    try:
        mode = "w" if overwrite else "x"
        screen = contextlib.nullcontext(sys.stdout)
        with open(output, mode, newline="", encoding="utf-8") if output else screen as file:
            counts = batch.write_csv(model, rows, file)
    except FileExistsError as error:
        raise UserError(
            f"{output} exists already; give another --output, or --overwrite to replace it."
        ) from error
    # The disk may be full in the middle of the table.
    except OSError as error:
        raise UserError(
            f"cannot write {output or 'the screen'} ({error.strerror}); give another --output."
        ) from error
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    table = f"; table in {output}" if output else ""
    summary = f"{len(listed)} files: {verdicts}{table}. Not a medical device."
    if not model.facts["synthetic"]:
        return summary
    return (
        "SYNTHETIC: this model was trained on generated images; "
        f"its predictions say nothing about patients.\n{summary}"
    )
