"""An open run: its configuration, its data set and its workdir.

run = open_run(models.resolve(config), requested=config)
run = open_finished(Path("runs/mine"))
"""

import dataclasses
from pathlib import Path

from trainer import workdir as workdir_lib
from trainer.config import TrainConfig
from trainer.data import prepared
from trainer.data.prepared import PreparedDataset
from trainer.errors import UserError
from trainer.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Run:
    """One run, from its settings to its folder.

    Attributes:
      config: resolved; `config.workdir` is the path of `workdir`.
      data: the prepared set.
      workdir: the folder that everything is written to.
    """

    config: TrainConfig
    data: PreparedDataset
    workdir: Workdir

    @property
    def image_size(self) -> int:
        """Side length of the network's input, in pixels."""
        assert self.config.image_size is not None  # Resolved: the model's recipe has one.
        return self.config.image_size

    @property
    def title(self) -> str:
        """Model and data set, for the titles of figures."""
        # A figure may leave the workdir: it must say that its images are drawn.
        synthetic = " (synthetic data)" if self.data.synthetic else ""
        return f"{self.config.model} on {self.data.name}{synthetic}"


def open_run(config: TrainConfig, requested: TrainConfig, writes: bool = True) -> Run:
    """Opens the data set and the workdir of a configuration.

    Both are created if missing.

    Args:
      config: resolved.
      requested: the configuration as the user gave it, recorded in config.json.
      writes: whether this process writes to the workdir; of several workers only the chief does.

    Raises:
      UserError: the data set is missing, or the workdir belongs to another run or is read-only.
    """
    # `auto` is resolved once: an existing workdir keeps its data set.
    recorded = workdir_lib.recorded_config(Path(config.workdir)) if config.workdir else None
    if recorded and config.dataset == "auto":
        config = dataclasses.replace(config, dataset=recorded.dataset)
    data = prepared.open_from_config(config)
    config = dataclasses.replace(config, dataset=data.name)
    workdir = workdir_lib.open_or_create(config, requested, data.fingerprint, writes)
    return Run(dataclasses.replace(config, workdir=str(workdir.path)), data, workdir)


def open_finished(path: Path, data_dir: str | None = None) -> Run:
    """Opens a finished run and the data set it was trained on.

    Args:
      path: the workdir, or a file in it.
      data_dir: folder of the prepared sets, if it moved since training.

    Raises:
      UserError: the run is not finished, or its data set is missing or has changed.
    """
    path = workdir_lib.locate(path)
    workdir = Workdir(path)
    config = workdir_lib.recorded_config(path)
    if config is None or not workdir.finished:
        raise workdir_lib.unfinished_error(path)
    # Evaluation uses one process, whichever strategy trained the model.
    config = dataclasses.replace(
        config, strategy="mirrored", data_dir=data_dir or config.data_dir, workdir=str(path)
    )
    recorded = workdir.metrics()["dataset"]
    data = prepared.open_from_config(config, recorded["config"])
    if data.fingerprint["source_fingerprint"] != recorded["source_fingerprint"]:
        raise UserError(
            f"the data prepared in {data.builder.data_path} are not those this run was trained on; "
            "give the --data_dir that holds them."
        )
    return Run(config, data, workdir)
