"""The folder of one run: its settings, its log and its results. Needs no TensorFlow.

The same workdir with the same settings resumes the run; with other settings it is refused, and the
message lists the differences.

    workdir = open_or_create(config, requested, dataset.fingerprint)
    workdir.log(step=1, loss=0.7)
"""

import dataclasses
import itertools
import json
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from trainer import compat
from trainer.config import TrainConfig, differences, format_flags, from_dict
from trainer.errors import UserError

# Packages whose version can change a result; config.json lists them.
_REPORTED_PACKAGES = (
    "tensorflow",
    "keras",
    "tensorflow-datasets",
    "numpy",
    "scikit-learn",
    "pillow",
    "pydicom",
)

_MODEL_SUFFIXES = (".keras", ".onnx", ".tflite")
_MAX_DEPTH = 5  # Folders, from a file of a SavedModel up to its workdir.

# Settings of recipes that records of earlier versions lack, as those versions trained.
_EARLIER: dict[str, Any] = {
    "view": "whole",
    "paint_opacities": 0.0,
    "weights": "none",
    "freeze_epochs": 0,
    "backbone_rate": 1.0,
    **dict.fromkeys(("tone", "gamma", "coarsen", "blur", "sharpen", "noise", "jpeg"), 0.0),
}


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The files and folders of one run.

    Attributes:
      path: the folder itself.
      writes: whether this process writes to it; of several workers only the chief does.
    """

    path: Path
    writes: bool = True

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Folder of the figures drawn in training."""
        return self.path / "figures"

    @property
    def model(self) -> Path:
        """Folder of the saved model and its exports."""
        return self.path / "model"

    @property
    def predictions(self) -> Path:
        """Folder of the predictions, one CSV file per split."""
        return self.path / "predictions"

    @property
    def finished(self) -> bool:
        """True once the run has ended, is saved and scored."""
        return (self.path / "metrics.json").exists() and (self.model / "model.keras").exists()

    def metrics(self) -> dict[str, Any]:
        """Returns the scores of a finished run, as metrics.json holds them."""
        return read_json(self.path / "metrics.json")

    def history(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl, oldest first, without a truncated last line."""
        return _read_lines(self.path / "metrics.jsonl")

    def truncate_history(self, step: int) -> list[dict[str, Any]]:
        """Removes the lines after a step, which a resumed run logs again.

        Returns:
          The remaining lines, oldest first.
        """
        lines = [line for line in self.history() if line["step"] <= step]
        if self.writes:
            _replace(
                self.path / "metrics.jsonl",
                "".join(json.dumps(line) + "\n" for line in lines),
            )
        return lines

    def log(self, **values: Any) -> dict[str, Any]:
        """Appends one line to metrics.jsonl, and returns it.

        Raises:
          UserError: it cannot be written.
        """
        if self.writes:
            _append(self.path / "metrics.jsonl", values)
        return values

    def incidents(self) -> list[dict[str, Any]]:
        """Returns the rollbacks after a diverged loss, oldest first: step, loss, …, restored."""
        return _read_lines(self.path / "incidents.jsonl")

    def log_incident(self, **values: Any) -> None:
        """Appends one line to incidents.jsonl."""
        if self.writes:
            _append(self.path / "incidents.jsonl", values)


def open_or_create(
    config: TrainConfig, requested: TrainConfig, dataset: dict[str, Any], writes: bool = True
) -> Workdir:
    """Opens the workdir of a configuration, or creates it with its config.json.

    Args:
      config: resolved; `config.workdir` may be None for a new folder under runs/.
      requested: the configuration as the user gave it.
      dataset: the prepared set's fingerprint.
      writes: whether this process creates the folder and writes to it.

    Raises:
      UserError: the folder cannot be written, holds other files, or belongs to a run with other
        settings or other data.
    """
    path = Path(config.workdir) if config.workdir else _new_folder(config)
    exists = (path / "config.json").exists()
    if not exists and not writes:
        raise UserError(
            f"{path} is not the chief's workdir; give a --workdir on storage that all workers "
            "share."
        )
    try:
        if exists:
            _resume(path, config, dataset, writes)
        else:
            _create(path, config, requested, dataset)
    except OSError as error:
        raise UserError(
            f"cannot write to {path} ({error.strerror}); use a --workdir you can write to."
        ) from error
    return Workdir(path, writes)


def locate(path: Path) -> Path:
    """Returns the workdir that a file or folder lies in; the path itself if it lies in none.

    A model file that is named but not there counts as in the folder before it.
    """
    if not path.exists() and path.suffix not in _MODEL_SUFFIXES:
        return path
    folders = itertools.islice([path, *path.parents], _MAX_DEPTH)
    return next((folder for folder in folders if (folder / "config.json").exists()), path)


def locate_runs(config: TrainConfig) -> TrainConfig:
    """Replaces files in runs by the workdirs, in the settings that name a run."""
    located: dict[str, Any] = {}
    for name in ("workdir", "init_from", "teacher"):
        path = Path(getattr(config, name) or "").expanduser()
        # A folder in a run may be that of another, which is not there yet.
        if path.is_file() or path.suffix in _MODEL_SUFFIXES:
            located[name] = str(locate(path))
    return dataclasses.replace(config, **located)


def recorded_config(path: Path) -> TrainConfig | None:
    """Returns the configuration in a workdir's config.json, or None without one."""
    path = path / "config.json"
    return _read_config(read_json(path)) if path.exists() else None


def resume_command(path: Path) -> str:
    """Returns the command that resumes the run of a workdir, or starts one."""
    record = path / "config.json"
    requested = _read_config(read_json(record), "requested") if record.exists() else TrainConfig()
    # A data service gives no order of batches that could be resumed.
    requested = dataclasses.replace(requested, workdir=str(path), data_service=None)
    return shlex.join(["python", "-m", "trainer.main", *format_flags(requested)])


def unfinished_error(path: Path) -> UserError:
    """Returns the error of a workdir without a finished run."""
    if path.is_file() or path.suffix in _MODEL_SUFFIXES:
        return UserError(f"{path} lies in no run; give the folder of a finished run.")
    return UserError(f"{path} holds no finished run; make one: {resume_command(path)}")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file atomically: a reader sees the old or the new one, never a part."""
    _replace(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
      UserError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is damaged ({error}); remove its folder or use another --workdir."
        ) from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:  # A run that was killed may leave half a last line.
            break
    return lines


def _append(path: Path, values: dict[str, Any]) -> None:
    try:
        # Opened for each line, so that none stays in a buffer.
        with open(path, "a", encoding="utf-8") as log:
            log.write(json.dumps(values) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write to {path} ({error.strerror or error}); make room and give the same "
            "command again: the run goes on from its last checkpoint."
        ) from error


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)  # atomic on POSIX and on Windows


def _create(
    path: Path, config: TrainConfig, requested: TrainConfig, dataset: dict[str, Any]
) -> None:
    path.mkdir(parents=True, exist_ok=True)
    # Members of a repetition may have been trained before, on other machines.
    if {child.name for child in path.iterdir()} - {"members"}:
        raise UserError(
            f"{path} holds other files and no config.json; use a new or empty folder as --workdir."
        )
    # For the reader only: other versions do not keep a run from resuming.
    versions = {package: compat.installed_version(package) for package in _REPORTED_PACKAGES}
    write_json(
        path / "config.json",
        {
            "config": dataclasses.asdict(config),
            "requested": dataclasses.asdict(requested),
            "dataset": dataset,
            "versions": versions,
            "git_commit": _git_commit(),
        },
    )


def _resume(path: Path, config: TrainConfig, dataset: dict[str, Any], writes: bool) -> None:
    # Refuses other settings than those in config.json, but for more epochs with --extend.
    record = read_json(path / "config.json")
    recorded = _read_config(record)
    longer = dataclasses.replace(recorded, epochs=config.epochs)
    extends = config.epochs > recorded.epochs and not differences(longer, config)
    # Only the chief extends; the other workers read what it wrote.
    if config.extend and writes and extends:
        _extend(path, record, config.epochs)
        recorded = longer
    # The first line is logged after minutes of training: check now.
    if writes and not os.access(path, os.W_OK):
        raise UserError(f"cannot write to {path}; use a --workdir you can write to.")
    changes = differences(recorded, config)
    if record["dataset"] != dataset:
        changes.append("the data set's files")
    if not changes:
        return
    message = (
        f"{path} belongs to a run with other settings ({'; '.join(changes)}); give the same "
        "ones to resume it, or use another --workdir"
    )
    if len(changes) == 1 and changes[0].startswith("epochs:"):
        message += " (--extend trains for more epochs)"
    raise UserError(f"{message}.")


def _read_config(record: dict[str, Any], kind: str = "config") -> TrainConfig:
    earlier = _EARLIER if kind == "config" else {}
    return from_dict(earlier | record[kind])


def _extend(path: Path, record: dict[str, Any], epochs: int) -> None:
    # Raises the number of epochs in config.json, and moves old scores to extended/.
    old_epochs = record["config"]["epochs"]
    # Without metrics.json the run counts as unfinished, and training resumes.
    if (path / "metrics.json").exists():
        (path / "extended").mkdir(exist_ok=True)
        os.replace(
            path / "metrics.json",
            path / "extended" / f"metrics_{old_epochs}_epochs.json",
        )
    record["config"]["epochs"] = epochs
    record["extended_from"] = [*record.get("extended_from", []), old_epochs]
    write_json(path / "config.json", record)


def _new_folder(config: TrainConfig) -> Path:
    name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{config.dataset}_{config.model}"
    path = Path("runs") / name
    count = 1  # of the runs that started in this second
    while path.exists():
        count += 1
        path = Path("runs") / f"{name}_{count}"
    return path


def _git_commit() -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,  # seconds
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or an installation without a checkout
    return result.stdout.strip()
