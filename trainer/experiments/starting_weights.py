"""The weights that a run starts from: those of keras.applications, or of a finished run.

starting_weights.check(config)
note = starting_weights.initializer(run)(network)
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from trainer.config import TrainConfig
from trainer.data.run import Run
from trainer.errors import UserError
from trainer.evaluation import export_network, saved_model
from trainer.training import backbones
from trainer.training.warm_start import WarmStart
from trainer.workdir import Workdir, recorded_config


def check(config: TrainConfig) -> None:
    """Loads the weights of a run before its workdir is created.

    So a wrong value, or one that cannot be downloaded, leaves no workdir behind. A run that has
    begun is not checked: it goes on from its checkpoints.

    Args:
      config: resolved.

    Raises:
      UserError: as `load`.
    """
    if not (config.workdir and recorded_config(Path(config.workdir))):
        load(config)


def load(config: TrainConfig) -> WarmStart | None:
    """Loads what --weights or --init_from names; None if neither does.

    Args:
      config: resolved.

    Raises:
      UserError: the weights cannot be downloaded or read, or are of another network.
    """
    return _load(config.model, config.weights or "none", config.init_from)


def initializer(run: Run) -> Callable[[keras.Model], str]:
    """Makes the function that sets the starting weights of a network.

    It returns one line on them; empty where the network's own, random ones stay.
    """

    def initialize(network: keras.Model) -> str:
        start = load(run.config)
        return start.apply(network, run.data.class_names) if start else ""

    return initialize


# The members of a repetition start from the same weights.
@functools.lru_cache(maxsize=1)
def _load(model: str, weights: str, init_from: str | None) -> WarmStart | None:
    if init_from:
        return _load_run(Path(init_from).expanduser(), model)
    if weights == "none":
        return None
    return WarmStart(f"--weights={weights}", backbones.load_weights(model, weights))


def _load_run(folder: Path, model: str) -> WarmStart:
    saved = saved_model.load(folder)
    if saved.facts["model"] != model:
        raise UserError(
            f"--init_from={folder} holds a {saved.facts['model']}; give "
            f"--model={saved.facts['model']}, or a run of --model={model}."
        )
    pairs = export_network.trunks_and_heads(saved.network)
    if len(pairs) != 1:
        raise UserError(
            f"--init_from={folder} holds the mean of {len(pairs)} models; give one of "
            f"{folder / 'members'}."
        )
    trunk, head = pairs[0]
    dense = [
        (kernel.numpy(), bias.numpy())
        for kernel, bias in zip(head.kernels, head.biases, strict=True)
    ]
    names = tuple(saved.facts["class_names"])
    return WarmStart(f"--init_from={folder}", trunk.get_weights(), dense, names)


def remarks(run: Run) -> list[str]:
    """Warns of other runs that may have seen images which this run is scored on."""
    lines = []
    for other in (run.config.teacher, run.config.init_from):
        if other and _source(other) != run.data.fingerprint["source_fingerprint"]:
            lines.append(
                f"{other} was trained on other images; if images of this test split are among "
                "them, the scores on test are too high"
            )
    start = run.config.init_from
    if start and not lines and _split_of(_config(start)) != _split_of(run.config):
        lines.append(
            f"{start} split this set otherwise: it was trained on images that validate here, so "
            "validation, temperature and thresholds are too good; give the same --seed"
        )
    return lines


def _source(workdir: str) -> str:
    return Workdir(Path(workdir).expanduser()).metrics()["dataset"]["source_fingerprint"]


def _config(workdir: str) -> TrainConfig:
    recorded = recorded_config(Path(workdir).expanduser())
    assert recorded is not None  # A finished run has one.
    return recorded


def _split_of(config: TrainConfig) -> tuple[Any, ...]:
    # The settings that `split.split_train` reads.
    return (config.seed, config.validation_fraction, config.folds, config.fold)
