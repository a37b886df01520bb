"""The folder of one run: what it was asked, what it logged, what it found. Needs no TensorFlow.

Same workdir, same settings: the run goes on. Same workdir, other settings: refused, with the difference shown.
"""

import dataclasses
import json
import os
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from trainer import config as config_lib
from trainer.config import TrainConfig
from trainer.errors import UserError

_REPORTED_PACKAGES = (
    "tensorflow",
    "keras",
    "tensorflow-datasets",
    "numpy",
    "scikit-learn",
    "pillow",
    "pydicom",
)


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The places of one run.

    Attributes:
      path: the folder itself.
      writes: whether this process writes to it; of several workers only the chief does.
    """

    path: Path
    writes: bool = True

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def finished(self) -> bool:
        """Whether the run has ended and was scored."""
        return (self.path / "metrics.json").exists()

    def metrics(self) -> dict[str, Any]:
        """The scores of a finished run, as metrics.json holds them."""
        return read_json(self.path / "metrics.json")

    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, oldest first; a last line that was cut off in writing is left out."""
        return _lines(self.path / "metrics.jsonl")

    def cut_history(self, step: int) -> list[dict[str, Any]]:
        """Drops what was logged after `step`, so that a resumed run writes no step twice; returns what stays."""
        kept = [line for line in self.history() if line["step"] <= step]
        if self.writes:
            _replace(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
        return kept

    def log(self, **values: Any) -> dict[str, Any]:
        """Appends one line to metrics.jsonl, and returns it.

        Raises:
          UserError: it cannot be written.
        """
        if self.writes:
            _append(self.path / "metrics.jsonl", values)
        return values

    def incidents(self) -> list[dict[str, Any]]:
        """Where a run was taken back after its loss broke down, oldest first: step, loss, …, restored."""
        return _lines(self.path / "incidents.jsonl")

    def note_incident(self, **values: Any) -> None:
        """Appends one line to incidents.jsonl."""
        if self.writes:
            _append(self.path / "incidents.jsonl", values)


def open_or_create(
    config: TrainConfig, requested: TrainConfig, dataset: dict[str, Any], writes: bool = True
) -> Workdir:
    """Opens the workdir a configuration names, or makes it and writes its config.json.

    Args:
      config: resolved; `config.workdir` may be None for a new folder under runs/.
      requested: the configuration as the user gave it.
      dataset: the prepared set's fingerprint.
      writes: whether this process makes the folder and writes to it.

    Raises:
      UserError: the folder cannot be written, holds something else, or belongs to other settings or other data.
    """
    path = Path(config.workdir) if config.workdir else _new_folder(config)
    if not writes and not (path / "config.json").exists():
        raise UserError(
            f"{path} is not the chief's workdir; give a --workdir on storage that all workers "
            "share."
        )
    if (path / "config.json").exists():
        if config.extend and writes:
            _extend(path, config)
        _check_same(path, config, dataset, writes)
    else:
        _create(
            path,
            {
                "config": config_lib.to_dict(config),
                "requested": config_lib.to_dict(requested),
                "dataset": dataset,
                "versions": _versions(),
                "git_commit": _git_commit(),
            },
        )
    return Workdir(path, writes)


def recorded_config(path: Path) -> TrainConfig | None:
    """The configuration a workdir was made with, or None where there is no workdir yet."""
    record = path / "config.json"
    return config_lib.from_dict(read_json(record)["config"]) if record.exists() else None


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file in one piece: a reader sees the old one or the new one, never half."""
    _replace(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
      UserError: it is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is damaged ({error}); remove its folder or use another --workdir."
        ) from error


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def _append(path: Path, values: dict[str, Any]) -> None:
    try:
        with open(path, "a") as log:
            log.write(json.dumps(values) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write to {path} ({error.strerror or error}); make room and give the same "
            "command again: the run goes on from its last checkpoint."
        ) from error


def _create(path: Path, record: dict[str, Any]) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(
            child.name != "members" for child in path.iterdir()
        ):  # Members may have been trained before, on other machines.
            raise UserError(
                f"{path} holds other files and no config.json; use a new or empty folder as "
                "--workdir."
            )
        write_json(path / "config.json", record)
    except OSError as error:
        raise UserError(
            f"cannot write to {path} ({error.strerror}); use a --workdir you can write to."
        ) from error


def _extend(path: Path, config: TrainConfig) -> None:
    """Raises the number of epochs a workdir was made with; what an ended run was scored is kept under extended/."""
    record = read_json(path / "config.json")
    old = config_lib.from_dict(record["config"])
    if config.epochs <= old.epochs or config_lib.differences(
        dataclasses.replace(old, epochs=config.epochs), config
    ):
        return  # The same as before, or refused for other differences.
    try:
        if (path / "metrics.json").exists():
            (path / "extended").mkdir(exist_ok=True)
            os.replace(
                path / "metrics.json", path / "extended" / f"metrics_{old.epochs}_epochs.json"
            )
        record["config"]["epochs"] = config.epochs
        write_json(
            path / "config.json",
            record | {"extended_from": [*record.get("extended_from", []), old.epochs]},
        )
    except OSError as error:
        raise UserError(
            f"cannot write to {path} ({error.strerror}); use a --workdir you can write to."
        ) from error


def _check_same(path: Path, config: TrainConfig, dataset: dict[str, Any], writes: bool) -> None:
    if writes and not os.access(path, os.W_OK):
        raise UserError(f"cannot write to {path}; use a --workdir you can write to.")
    record = read_json(path / "config.json")
    found = config_lib.differences(config_lib.from_dict(record["config"]), config)
    if record["dataset"] != dataset:
        found.append("the data set's files")
    if found:
        longer = (
            " (--extend goes on to more epochs)"
            if [line.split(":")[0] for line in found] == ["epochs"]
            else ""
        )
        raise UserError(
            f"{path} belongs to a run with other settings ({'; '.join(found)}); give the same ones "
            f"to go on, or use another --workdir{longer}."
        )


def _new_folder(config: TrainConfig) -> Path:
    stem = Path("runs") / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{config.dataset}_{config.model}"
    path, count = stem, 1
    while path.exists():
        count += 1
        path = stem.with_name(f"{stem.name}_{count}")
    return path


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def _versions() -> dict[str, str]:
    found = {}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
