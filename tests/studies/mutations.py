"""Random trees and tables through trainer.predict and trainer.audit --dry_run.

    python -m tests.studies.mutations --count=2000

Each command runs as a user would call it, in a process forked from this one, which has imported
the libraries. A command must end without a traceback, with the right exit status and, where the
set is whole, with the right number of rows or images.
"""

import argparse
import csv
import dataclasses
import io
import os
import re
import runpy
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tests.data import random_tables, random_trees
from trainer.data import file_names

ENCODINGS = ("utf-8", "ascii", "cp1252")


@dataclasses.dataclass(frozen=True)
class Ended:
    """A command that ended.

    Attributes:
      status: the exit status.
      output: its standard output.
      errors: its standard error.
    """

    status: int
    output: bytes
    errors: str


def run_command(module: str, arguments: Sequence[str], encoding: str, folder: Path) -> Ended:
    """Runs a command in a forked process.

    Args:
      module: as after `python -m`.
      arguments: of the command line.
      encoding: of its standard streams.
      folder: for its output.
    """
    output, errors = folder / "stdout", folder / "stderr"
    child = os.fork()
    if child == 0:
        _run_here(module, arguments, encoding, output, errors)
    _, status = os.waitpid(child, 0)
    return Ended(
        os.waitstatus_to_exitcode(status),
        output.read_bytes(),
        errors.read_text(encoding, errors="replace"),
    )


def _run_here(
    module: str, arguments: Sequence[str], encoding: str, output: Path, errors: Path
) -> None:
    # Ends the process without the parent's exit handlers.
    status = 70
    try:
        for path, descriptor in ((output, 1), (errors, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding)
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), encoding, "backslashreplace", line_buffering=True
        )
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def check_predict(seed: int, workdir: Path, folder: Path) -> str:
    """Predicts for a random tree; returns what is wrong, or nothing."""
    rng = np.random.default_rng(seed)
    tree = random_trees.write(rng, folder / "tree")
    encoding = ENCODINGS[rng.integers(len(ENCODINGS))]
    table = folder / "table.csv"
    to_file = rng.random() < 0.5
    arguments = [f"--workdir={workdir}", *([f"--output={table}"] if to_file else [])]
    ended = run_command("trainer.predict", [*arguments, str(tree.folder)], encoding, folder)
    problem = check_end(ended, 0 if tree.rows else 1)
    if problem or not tree.rows:
        return problem
    data = table.read_bytes() if to_file else ended.output
    # A table is UTF-8, whatever the screen is.
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
    names = {row["filename"] for row in rows}
    if not len(rows) == len(names) == tree.rows:
        return f"{len(rows)} rows of {len(names)} files, and not {tree.rows}"
    unreadable = [row for row in rows if row["verdict"] == "unreadable" and not row["reason"]]
    return "a row without a reason" if unreadable else _lost_names(tree.folder, names)


def _lost_names(folder: Path, names: set[str]) -> str:
    # Names of files outside archives lead back to the files.
    files = {file_names.to_text(str(path)) for path in folder.rglob("*") if path.is_file()}
    lost = [name for name in names & files if not os.path.exists(file_names.from_text(name))]
    return f"{lost[0]!r} names no file" if lost else ""


def check_dry_run(seed: int, workdir: Path, folder: Path) -> str:
    """Reads a random tree or labelled set; returns what is wrong, or nothing."""
    rng = np.random.default_rng(seed)
    counts = None
    statuses: tuple[int, ...] = (0, 1)
    if rng.random() < 0.3:
        root = random_trees.write(rng, folder / "set").folder
    else:
        labelled = random_tables.write(rng, folder / "set")
        root, counts = labelled.folder, labelled.counts
        if counts is not None:
            statuses = (0,)
        if rng.random() < 0.2:
            kind = ("zip", "tar", "gztar")[rng.integers(3)]
            root = Path(shutil.make_archive(str(folder / "packed"), kind, root))
    encoding = ENCODINGS[rng.integers(len(ENCODINGS))]
    arguments = [f"--manual_dir={root}", "--dry_run", f"--data_dir={folder / 'data'}"]
    ended = run_command("trainer.audit", arguments, encoding, folder)
    problem = check_end(ended, *statuses)
    if problem or counts is None:
        return problem
    text = ended.output.decode(encoding)
    total = re.search(r"^(\d+) images", text, re.MULTILINE)
    shown = dict(re.findall(r"^(\S.*?)  +(\d+)$", text, re.MULTILINE))
    if total is None or int(total[1]) != sum(counts.values()):
        return f"{total and total[0]}, and not {counts}: {text}"
    expected = {name: str(count) for name, count in counts.items() if count}
    return "" if shown == expected else f"{shown}, and not {expected}"


def check_end(ended: Ended, *statuses: int) -> str:
    """Returns what is wrong with the end of a command, or nothing."""
    if "Traceback" in ended.errors:
        return ended.errors
    if ended.status not in statuses:
        return f"status {ended.status}, and not {statuses}: {ended.errors}"
    last = ended.errors.strip().splitlines()[-1:]
    if ended.status == 1 and not (last and last[0].startswith("error: ")):
        return f"no line of an error: {ended.errors}"
    return ""


CHECKS = {"predict": check_predict, "dry_run": check_dry_run}


def run(seeds: Sequence[int], workdir: Path) -> Iterator[tuple[str, int, str]]:
    """Yields (check, seed, problem or nothing) for each seed.

    Args:
      seeds: of the random trees and sets.
      workdir: a finished run, or a folder with an export.
    """
    # Imported once: a forked process starts with them.
    from trainer.data import any_source, prepared, radiograph_set  # noqa: F401
    from trainer.inference import command  # noqa: F401

    for seed in seeds:
        for name, check in CHECKS.items():
            with tempfile.TemporaryDirectory() as folder:
                yield name, seed, check(seed, workdir, Path(folder))


def main() -> None:
    """Prints the problems of all seeds; with one the exit status is 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workdir", type=Path, required=True, help="A finished run.")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.count)
    wrong = 0
    for name, seed, problem in tqdm(run(seeds, options.workdir), total=2 * len(seeds)):
        if problem:
            wrong += 1
            tqdm.write(f"{name} {seed}: {problem[-1500:]}")
    print(f"{2 * len(seeds)} commands, {wrong} wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
