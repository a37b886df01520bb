"""Every setting of a training run: its name, default, range and help text, once.

The flags of `python -m trainer.main` are made from these fields, and a workdir's config.json is one of these written down.
"""

import dataclasses
import difflib
import re
from typing import Any

from trainer.errors import UserError

MODELS = ("cnn", "seed_cnn", "compact")

# What a model trains with where the user does not say otherwise (fields that default to None below).
RECIPES: dict[str, dict[str, Any]] = {
    "cnn": {
        "image_size": 500,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "weight_decay": 0.0,
    },
    "seed_cnn": {
        "image_size": 500,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "weight_decay": 0.0,
    },
    "compact": {
        "image_size": 256,
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "weight_decay": 1e-2,
    },
}


def setting(default: Any, help: str, **limits: Any) -> Any:
    """Declares one field: its default, its help text, and its limits (`choices`, `low`, `high`, `above`, `part_of_result`)."""
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The settings of one run. Frozen: a workdir holds exactly one.

    Raises:
      UserError: a value is outside its limits (the message names the flag and the limits).
    """

    dataset: str = setting(
        "auto",
        "Which prepared set: covid_xray, phantom (synthetic), or auto (covid_xray where it is "
        "prepared, given or downloadable, else phantom).",
        choices=("auto", "covid_xray", "phantom"),
    )
    data_dir: str | None = setting(
        None,
        "Where prepared sets are kept. Default: $TFDS_DATA_DIR, else ~/tensorflow_datasets.",
        part_of_result=False,
    )
    manual_dir: str | None = setting(
        None,
        "The radiographs: a folder with Train/ and Test/ at any depth, or the zip as Kaggle serves "
        "it.",
        part_of_result=False,
    )
    phantom_train: int = setting(256, "How many synthetic training images to draw.", low=8)
    phantom_test: int = setting(64, "How many synthetic test images to draw.", low=4)
    phantom_shortcut: str = setting(
        "none",
        "Plant a known shortcut into the synthetic set, to see whether the audit finds it.",
        choices=("none", "marker", "border", "contrast", "header"),
    )
    prepared_side: int = setting(
        500,
        "Side of the squares a set is prepared as, in pixels: 500, or 256, 128 or 64 for very "
        "large sets.",
        choices=(500, 256, 128, 64),
    )
    cache: str = setting(
        "auto",
        "Where training images are kept: memory, where they take a fifth of what is free or less; "
        "disk, a file beside the set; none, their records, shuffled shard by shard and within a "
        "window.",
        choices=("auto", "memory", "disk", "none"),
        part_of_result=False,
    )
    data_service: str | None = setting(
        None,
        "grpc://HOST:PORT of a dispatcher whose input machines make the batches "
        "(trainer.input_server). Order is not promised, exact resume is refused.",
        part_of_result=False,
    )
    workdir: str | None = setting(
        None,
        "Where everything of this run goes; the same workdir resumes. Default: a new folder under "
        "runs/.",
        part_of_result=False,
    )
    model: str = setting(
        "cnn",
        "cnn: the reference's shape made fast and stable; seed_cnn: the reference to the letter; "
        "compact: a small residual network.",
        choices=MODELS,
    )
    image_size: int | None = setting(
        None,
        "Side of the square the network sees, in pixels. Default: the model's own (500; compact "
        "256).",
        low=32,
        high=2000,
    )
    dropout: float = setting(
        0.5, "Share of features dropped before the dense layers.", low=0.0, high=0.95
    )
    epochs: int = setting(13, "Passes over the training split.", low=1)
    batch_size: int = setting(16, "Images a step, over all replicas together.", low=1)
    optimizer: str | None = setting(
        None, "Default: the model's own (adam; compact adamw).", choices=("adam", "adamw")
    )
    learning_rate: float | None = setting(
        None, "Peak rate. Default: the model's own (1e-3; compact 2e-3).", above=0.0
    )
    schedule: str | None = setting(
        None,
        "constant, or cosine to zero. Default: the model's own (cosine; seed_cnn constant).",
        choices=("constant", "cosine"),
    )
    warmup_epochs: float = setting(
        1.0, "Epochs over which a cosine schedule rises to its peak.", low=0.0
    )
    weight_decay: float | None = setting(
        None, "Decoupled weight decay of adamw. Default: the model's own.", low=0.0
    )
    label_smoothing: float = setting(
        0.0, "Share of the target spread over all classes.", low=0.0, high=0.5
    )
    class_weights: bool = setting(
        False, "Weigh each example by the inverse frequency of its class."
    )
    clip_norm: float = setting(0.0, "Clip the gradient to this global norm; 0 for never.", low=0.0)
    precision: str = setting(
        "float32",
        "Arithmetic of the network; weights stay float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16", "float64"),
    )
    validation_fraction: float = setting(
        0.15,
        "Share of Train held out, by group, to choose the checkpoint; 0 for none.",
        low=0.0,
        high=0.5,
    )
    select: str = setting(
        "best",
        "Which weights are kept: best (lowest validation loss) or last.",
        choices=("best", "last"),
    )
    patience: int = setting(
        0, "Stop after this many epochs without a lower validation loss; 0 for never.", low=0
    )
    horizontal_flip: bool = setting(True, "Mirror half of the training images.")
    shear: float = setting(0.2, "Largest shear angle, in degrees.", low=0.0, high=45.0)
    zoom: float = setting(
        0.2, "Largest zoom, as a fraction, drawn for each axis by itself.", low=0.0, high=0.9
    )
    shift: float = setting(0.0, "Largest shift, as a fraction of the side.", low=0.0, high=0.5)
    rotation: float = setting(0.0, "Largest rotation, in degrees.", low=0.0, high=180.0)
    brightness: float = setting(
        0.0, "Largest change of brightness, as a fraction of the full range.", low=0.0, high=1.0
    )
    contrast: float = setting(0.0, "Largest change of contrast, as a fraction.", low=0.0, high=0.9)
    seed: int = setting(
        0,
        "The one seed: split, initial weights, order, augmentation and dropout follow from it.",
        low=0,
        high=2**31 - 1,
    )
    folds: int = setting(
        0,
        "Cross-validate: deal Train out to this many parts by group, train a model without each "
        "and score it there, then train one on all of Train; 0 for none. Members lie in "
        "WORKDIR/members.",
        low=0,
        high=100,
    )
    fold: int | None = setting(
        None,
        "Train only the member of --folds that does without this part (0 to folds - 1), as for a "
        "cluster; default: all of them.",
        low=0,
    )
    seeds: int = setting(
        1,
        "Repeat the run with this many seeds, from --seed upwards. Members lie in WORKDIR/members.",
        low=1,
        high=1000,
    )
    ensemble: bool = setting(
        False, "Save the mean of the members of --folds or --seeds as the model."
    )
    group_copies: bool = setting(
        True,
        "Find near-duplicate images and count them as one group (patient). Synthetic sets have "
        "none and are not searched.",
    )
    strategy: str = setting(
        "mirrored",
        "mirrored: one replica a device; multi_worker: on several machines, which TF_CONFIG names; "
        "one_device: the first device only; tpu: the one TPU_NAME names; parameter_server is "
        "refused.",
        choices=("mirrored", "multi_worker", "one_device", "tpu", "parameter_server"),
        part_of_result=False,
    )
    step_timeout_seconds: float = setting(
        30.0,
        "With several workers: a step that takes longer than this, and 20 times the longest before "
        "it, means that one is lost; 0 waits for ever.",
        low=0.0,
        part_of_result=False,
    )
    logical_devices: int = setting(
        0,
        "Split the CPU into this many logical devices, to try replicas out; 0 for none.",
        low=0,
        high=64,
        part_of_result=False,
    )
    checkpoint_every_steps: int = setting(
        0,
        "Steps between checkpoints, besides one an epoch; 0 for none.",
        low=0,
        part_of_result=False,
    )
    checkpoint_every_minutes: float = setting(
        0.0,
        "Minutes between checkpoints, besides one an epoch; 0 for none.",
        low=0.0,
        part_of_result=False,
    )
    keep_checkpoints: int = setting(
        3, "How many checkpoints are kept, the newest.", low=1, part_of_result=False
    )
    extend: bool = setting(
        False,
        "Go on with a run, ended or not, to more --epochs than it was started with.",
        part_of_result=False,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        _check_repeats(self)


def resolved(config: TrainConfig) -> TrainConfig:
    """Fills the fields left to the model (None) from its recipe; what is served from afar is not kept here."""
    recipe = {
        name: value
        for name, value in RECIPES[config.model].items()
        if getattr(config, name) is None
    }
    return dataclasses.replace(
        config, **recipe, **({"cache": "none"} if config.data_service else {})
    )


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """The settings as plain values, in the order of declaration."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """Rebuilds a configuration written by `to_dict`.

    Raises:
      UserError: a name is not a setting (the nearest one is suggested) or a value is outside its limits.
    """
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UserError(
                f"'{name}' is not a setting"
                + (f"; did you mean '{near[0]}'?" if near else "")
                + "."
            )
    return TrainConfig(**values)


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """The settings that decide the result and differ, each as 'name: old → new'. Places and layouts do not count."""
    names = [
        field.name
        for field in dataclasses.fields(TrainConfig)
        if field.metadata.get("part_of_result", True)
    ]
    return [
        f"{name}: {getattr(old, name)} → {getattr(new, name)}"
        for name in names
        if getattr(old, name) != getattr(new, name)
    ]


def _check_repeats(config: TrainConfig) -> None:
    if config.strategy == "parameter_server":
        raise UserError(
            "--strategy=parameter_server updates weights in the order in which workers happen to "
            "answer, so no run could be repeated or resumed exactly; use --strategy=multi_worker."
        )
    if config.strategy == "multi_worker":
        if config.workdir is None:
            raise UserError(
                "--strategy=multi_worker needs --workdir, on storage that all workers share."
            )
        if config.seeds > 1 or (config.folds and config.fold is None) or config.ensemble:
            raise UserError(
                "--strategy=multi_worker trains one run: give a --seed or a --fold to each."
            )
    if config.data_service and not re.fullmatch(r"grpc://[^/:\s]+:\d+", config.data_service):
        raise UserError(f"--data_service={config.data_service}: give grpc://HOST:PORT.")
    if config.data_service and config.cache not in ("auto", "none"):
        raise UserError(
            f"--data_service reads records on other machines; leave --cache={config.cache} out."
        )
    if config.extend and (config.workdir is None or config.folds or config.seeds > 1):
        raise UserError(
            "--extend goes on with one run: give its --workdir, without --folds and --seeds."
        )
    if config.folds == 1:
        raise UserError("--folds=1: give 2 or more, or 0 for none.")
    if config.folds and config.seeds > 1:
        raise UserError("--folds and --seeds: give one of them.")
    if config.folds and config.patience:
        raise UserError(
            "--patience stops by the validation loss, but with --folds the held-out part is only "
            "scored; leave --patience out."
        )
    if config.fold is not None and config.fold >= config.folds:
        raise UserError(f"--fold={config.fold}: give --folds too, and a fold below it.")
    if config.ensemble and not (config.folds or config.seeds > 1):
        raise UserError("--ensemble needs members: give --folds or --seeds too.")


def _check(field: dataclasses.Field, value: Any) -> None:
    limits = field.metadata
    if value is None:
        return
    if "choices" in limits and value not in limits["choices"]:
        raise UserError(
            f"--{field.name}={value}: choose one of {', '.join(map(str, limits['choices']))}."
        )
    if "low" in limits and not value >= limits["low"]:
        raise UserError(f"--{field.name}={value}: give {limits['low']} or more.")
    if "above" in limits and not value > limits["above"]:
        raise UserError(f"--{field.name}={value}: give more than {limits['above']:g}.")
    if "high" in limits and not value <= limits["high"]:
        raise UserError(f"--{field.name}={value}: give {limits['high']} or less.")
