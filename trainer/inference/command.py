"""The work of `python -m trainer.predict`: load an export, predict for every file, write the CSV.

print(command.predict(Path("runs/mine"), [Path("images")], Path("predictions.csv")))
"""

import contextlib
from pathlib import Path

from tqdm import tqdm

from trainer import screen
from trainer.errors import OutputClosedError, UserError
from trainer.inference import batch, runtime, sources


def predict(
    workdir: Path,
    paths: list[Path],
    output: Path | None,
    overwrite: bool = False,
    maps: Path | None = None,
) -> str:
    """Writes one CSV row a file and returns the summary for the screen.

    Args:
      workdir: a finished run, or an export itself.
      paths: files, folders and archives.
      output: the CSV file; None for standard output.
      overwrite: whether existing files may be replaced.
      maps: a folder for pictures of the maps; None for none.

    Raises:
      UserError: there is no model, a path does not exist, or the output cannot be written.
    """
    # First, so that a wrong --workdir fails before folders are listed.
    model = runtime.load(workdir)
    listed = list(sources.list_sources(paths))
    if not listed:
        names = ", ".join(str(path) for path in paths)
        raise UserError(f"{names} holds no file; give files, folders or archives of radiographs.")
    draw = None
    if maps:
        from trainer.inference.overlay import MapFolder  # Imported lazily: matplotlib is slow.

        draw = MapFolder(maps, model, overwrite).write
    rows = tqdm(
        batch.predict_rows(model, listed, draw),
        "predicting",
        len(listed),
        unit=" images",
        leave=False,
        delay=2,  # A few images need no progress bar.
        disable=None,  # Off where stderr is no terminal.
    )
    try:
        mode = "w" if overwrite else "x"
        with contextlib.ExitStack() as stack:
            if output:
                file = stack.enter_context(open(output, mode, newline="", encoding="utf-8"))
            else:
                file = stack.enter_context(screen.table_stream())
            counts = batch.write_csv(model, rows, file, draw is not None)
    except FileExistsError as error:
        raise UserError(
            f"{output} exists already; give another --output, or --overwrite to replace it."
        ) from error
    except BrokenPipeError as error:
        raise OutputClosedError from error
    # The disk may be full in the middle of the table.
    except OSError as error:
        raise UserError(
            f"cannot write {output or 'standard output'} ({error.strerror}); give another --output."
        ) from error
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    written = f"; table in {output}" if output else ""
    written += f"; maps in {maps}" if maps else ""
    summary = f"{len(listed)} files: {verdicts}{written}. Not a medical device."
    if not model.facts["synthetic"]:
        return summary
    return (
        "SYNTHETIC: this model was trained on generated images; "
        f"its predictions say nothing about patients.\n{summary}"
    )
