"""The settings of a training run, each declared once: default, help text, group and range.

`config_flags` turns the fields into flags; a workdir's config.json holds one `TrainConfig`.

    config = TrainConfig(dataset="phantom", epochs=2)
"""

import dataclasses
import difflib
import functools
from pathlib import Path
from typing import Any

from trainer import config_rules
from trainer.errors import UserError

_DATASETS = Path(__file__).resolve().parents[1] / "datasets"


def dataset_names() -> tuple[str, ...]:
    """Returns the names of the data sets in datasets/, sorted; imports none of them."""
    suffix = "_dataset_builder"  # as TFDS names the file of a builder
    builders = _DATASETS.glob(f"*/*{suffix}.py")
    return tuple(sorted(path.stem.removesuffix(suffix) for path in builders))


def _setting(group: str, default: Any, help: str, **rules: Any) -> Any:
    # A default of None: the model supplies the value, or it may stay open.
    # Rules: `choices`, `low`, `high` (both inclusive), `above` (exclusive); and
    # `part_of_result=False` for a setting that cannot change the weights or scores of a run.
    return dataclasses.field(default=default, metadata={"help": help, "group": group, **rules})


# One function per group, so that a declaration below names its group in one word.
_data = functools.partial(_setting, "Data")
_data_access = functools.partial(_setting, "Data", part_of_result=False)
_reading = functools.partial(_setting, "Data", reading=True)  # How a folder is read.
_model = functools.partial(_setting, "Model")
_optimization = functools.partial(_setting, "Optimization")
_validation = functools.partial(_setting, "Validation")
_augmentation = functools.partial(_setting, "Augmentation")
_repetition = functools.partial(_setting, "Repetition")
# Where a run trains and how often it saves changes no result.
_devices = functools.partial(_setting, "Devices", part_of_result=False)
_checkpoints = functools.partial(_setting, "Checkpoints", part_of_result=False)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The settings of one run.

    Raises:
      UserError: a value is out of range; the message names the flag and the range.
    """

    # Data: the set, and the places that it comes from
    dataset: str = _data(
        "auto",
        "auto: the radiographs of --manual_dir; without it covid_xray if it is prepared or "
        "downloadable, else the synthetic phantom.",
        choices=("auto", *dataset_names()),
    )
    data_dir: str | None = _data_access(
        None, "Folder of prepared sets. Default: $TFDS_DATA_DIR, else ~/tensorflow_datasets."
    )
    manual_dir: str | None = _data_access(
        None, "Radiographs in any layout, of classes or a table: a folder, zip or tar."
    )
    skip_unreadable: bool = _data_access(
        False,
        "Prepare a set without the files that cannot be read. They are counted and listed in its "
        "metadata.json and in the report. Default: the first one is an error.",
    )
    image_column: str | None = _reading(None, "Column of a table that names the image.")
    label_columns: str | None = _reading(
        None, "Column of classes, or columns of findings, with commas between them."
    )
    classes: str | None = _reading(
        None,
        "Classes or findings to learn, with commas between them; images of other classes are left "
        "out. Default: all.",
    )
    uncertain: str | None = _reading(
        None,
        "Findings marked -1, uncertain. ignore: no loss and no score; ones; zeros. Default: "
        "ignore.",
        choices=("ignore", "ones", "zeros"),
    )
    patient_column: str | None = _reading(None, "Column of the patients.")
    split_column: str | None = _reading(None, "Column of train, validation or test.")
    hold_out_site: str | None = _reading(
        None,
        "Site (hospital) whose images are the test split, by the table's column of sites; the "
        "other sites are train and validation.",
    )
    positive_class: str | None = _reading(
        None, "Class that sensitivity refers to, of two. Default: the one that is not normal."
    )
    test_fraction: float = _data(
        0.2,
        "Share of the patients to test on where the set has no test split.",
        above=0.0,
        high=0.5,
    )
    phantom_train: int = _data(256, "Number of synthetic training images.", low=8)
    phantom_test: int = _data(64, "Number of synthetic test images.", low=4)
    phantom_shortcut: str = _data(
        "none",
        "Shortcut to plant into the synthetic set, to test that the audit reports it: into class "
        "opacities, or with --phantom_findings into images with effusion.",
        choices=("none", "marker", "border", "contrast", "header"),
    )
    phantom_findings: int = _data(
        0,
        "Findings of a synthetic image, several at once: opacities, effusion, nodule, "
        "pneumothorax. 0 for a single label: clear or opacities.",
        choices=(0, 2, 3, 4),
    )
    prepared_side: int = _data(
        500,
        "Side length of prepared images, in pixels; the small ones are for very large sets.",
        choices=(500, 256, 128, 64),
    )
    cache: str = _data_access(
        "auto",
        "Storage of training images. memory: chosen by auto if they take a fifth of the free "
        "memory or less; disk: a file beside the set; none: records, shuffled within a window.",
        choices=("auto", "memory", "disk", "none"),
    )
    data_service: str | None = _data_access(
        None,
        "grpc://HOST:PORT of a dispatcher (trainer.input_server) whose input machines make the "
        "batches. Their order is not fixed, so exact resume is refused.",
    )

    view: str | None = _data(
        None,
        "Square that the network sees. whole: the radiograph; lungs: cut at the lungs, which "
        "trainer/data/lungs.py finds. Default: whole; opacity lungs.",
        choices=("whole", "lungs"),
    )
    on_no_lungs: str = _data(
        "whole",
        "Training images on which no lungs are found, with --view=lungs: seen whole, or dropped.",
        choices=("whole", "drop"),
    )

    # Model: None stands for the value of the model's recipe (training.models)
    model: str = _model(
        "cnn",
        "cnn: the reference, made fast; seed_cnn: the reference; compact: a small ResNet; opacity: "
        "finds painted opacities; without --rounds and --teacher it sees no positive image. Or a "
        "network of keras.applications by its name: densenet121, efficientnetv2b0, resnet50, ….",
    )
    weights: str | None = _model(
        None,
        "Weights that a network of keras.applications starts from: imagenet, none, or a file "
        "without the top (…_notop.h5). Default: imagenet, for these networks.",
    )
    init_from: str | None = _model(
        None,
        "Workdir of a finished run of the same model, whose weights to start from; where its "
        "classes differ, the last layer is new. Default: none.",
    )
    image_size: int | None = _model(
        None,
        "Side length of the input in pixels. Default: 500; compact 256; opacity 128. Networks of "
        "keras.applications: 224.",
        low=32,
        high=2000,
    )
    dropout: float = _model(
        0.5, "Share of features dropped before the dense layers.", low=0.0, high=0.95
    )

    # Optimization: batch size and steps are of all replicas together
    epochs: int = _optimization(13, "Passes over the training split.", low=1)
    batch_size: int = _optimization(16, "Images per step, over all replicas together.", low=1)
    optimizer: str | None = _optimization(
        None, "Default: adam; compact adamw; opacity adamw.", choices=("adam", "adamw")
    )
    learning_rate: float | None = _optimization(
        None, "Peak learning rate. Default: 1e-3; compact 2e-3; opacity 2e-3.", above=0.0
    )
    schedule: str | None = _optimization(
        None, "Default: cosine, to zero; seed_cnn constant.", choices=("constant", "cosine")
    )
    warmup_epochs: float = _optimization(
        1.0, "Epochs in which a cosine schedule rises to its peak.", low=0.0
    )
    weight_decay: float | None = _optimization(
        None, "Decoupled weight decay of adamw. Default: 0; compact 0.01; opacity 0.01.", low=0.0
    )
    freeze_epochs: int | None = _optimization(
        None,
        "Epochs in which only the layers after the last feature map are trained. Default: 0. "
        "Networks of keras.applications that do not start from random weights: 1.",
        low=0,
    )
    backbone_rate: float | None = _optimization(
        None,
        "Factor of the learning rate of the layers up to the last feature map. Default: 1. "
        "Networks of keras.applications that do not start from random weights: 0.1.",
        above=0.0,
        high=1.0,
    )
    label_smoothing: float = _optimization(
        0.0, "Share of the target spread over all classes.", low=0.0, high=0.5
    )
    class_weights: bool = _optimization(
        False, "Weight each example by the inverse frequency of its class."
    )
    clip_norm: float = _optimization(
        0.0, "Largest global norm of the gradient; 0 for no clipping.", low=0.0
    )
    precision: str = _optimization(
        "float32",
        "Arithmetic of the network; weights stay float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16", "float64"),
    )

    # Validation: carved out of Train by group; test is never used for a choice
    validation_fraction: float = _validation(
        0.15, "Share of Train held out to select the checkpoint; 0 for none.", low=0.0, high=0.5
    )
    group_copies: bool = _validation(
        True, "Count near-duplicate images as one group (patient). Synthetic sets are not searched."
    )
    select: str = _validation(
        "best", "Weights to save: best (lowest validation loss) or last.", choices=("best", "last")
    )
    patience: int = _validation(
        0, "Epochs without a lower validation loss after which to stop; 0 for never.", low=0
    )

    # Augmentation: each amount is the end of a symmetric range, 0 for none; None as for a model
    horizontal_flip: bool = _augmentation(True, "Mirror half of the training images.")
    shear: float | None = _augmentation(
        None, "Largest shear angle, in degrees. Default: 0.2; opacity 3.", low=0.0, high=45.0
    )
    zoom: float | None = _augmentation(
        None,
        "Largest zoom of either axis, as a fraction. Default: 0.2; opacity 0.18.",
        low=0.0,
        high=0.9,
    )
    shift: float | None = _augmentation(
        None,
        "Largest shift, as a fraction of the side. Default: 0; opacity 0.06.",
        low=0.0,
        high=0.5,
    )
    rotation: float | None = _augmentation(
        None, "Largest rotation, in degrees. Default: 0; opacity 8.", low=0.0, high=180.0
    )
    brightness: float | None = _augmentation(
        None,
        "Largest change of brightness, as a fraction of the full range. Default: 0; opacity 0.08.",
        low=0.0,
        high=1.0,
    )
    contrast: float | None = _augmentation(
        None,
        "Largest change of contrast, as a fraction. Default: 0; opacity 0.35.",
        low=0.0,
        high=0.9,
    )
    tone: float | None = _augmentation(
        None,
        "Largest bend of a random monotone tone curve; at 1 strong. Default: 0; opacity 1.8.",
        low=0.0,
        high=3.0,
    )
    gamma: float | None = _augmentation(
        None,
        "Largest logarithm of the exponent of a power law. Default: 0; opacity 0.6.",
        low=0.0,
        high=2.0,
    )
    blur: float | None = _augmentation(
        None,
        "Largest deviation of Gaussian blur, in pixels; half stay sharp. Default: 0; opacity 1.8.",
        low=0.0,
        high=2.0,
    )
    sharpen: float | None = _augmentation(
        None,
        "Largest amount of unsharp masking; half stay as they are. Default: 0; opacity 1.8.",
        low=0.0,
        high=3.0,
    )
    noise: float | None = _augmentation(
        None,
        "Largest deviation of noise, in grey levels; half stay clean. Default: 0; opacity 12.",
        low=0.0,
        high=64.0,
    )
    coarsen: float | None = _augmentation(
        None,
        "Largest loss of resolution, as a fraction; half stay fine. Default: 0; opacity 0.6.",
        low=0.0,
        high=0.9,
    )
    jpeg: float | None = _augmentation(
        None,
        "Largest coarseness of JPEG compression; at 1 quality 50. Default: 0; opacity 3.",
        low=0.0,
        high=5.0,
    )

    swap_backgrounds: float = _augmentation(
        0.0,
        "Share of the training images that get what lies outside the lungs from another one. Needs "
        "--view=lungs, and --cache=memory or disk.",
        low=0.0,
        high=1.0,
    )
    paint_opacities: float | None = _augmentation(
        None,
        "Share of the training images to paint opacities into the lungs of; an image with paint "
        "counts as positive. Needs --view=lungs. Default: 0; opacity 0.6.",
        low=0.0,
        high=1.0,
    )

    # Repetition: the seed; with several runs, each is in a folder below members/
    seed: int = _repetition(
        0, "Seed of split, weights, order, augmentation and dropout.", low=0, high=2**31 - 1
    )
    folds: int = _repetition(
        0,
        "Cross-validate: split Train into this many folds by group, train and score one model per "
        "fold, then train one on all of Train; 0 for none. Members are in WORKDIR/members.",
        low=0,
        high=100,
    )
    fold: int | None = _repetition(
        None, "Train only the member without this fold, 0 to folds - 1. Default: all.", low=0
    )
    seeds: int = _repetition(
        1, "Number of seeds to repeat the run with, from --seed up.", low=1, high=1000
    )
    ensemble: bool = _repetition(
        False, "Save the mean of the members of --folds or --seeds as the model."
    )

    rounds: int = _repetition(
        1,
        "Rounds of self-training, with --model=opacity. From the second on it also learns the "
        "opacity maps that the round before gives positive images; with --ensemble, all its seeds.",
        low=1,
        high=9,
    )
    teacher: str | None = _repetition(
        None,
        "Workdir of a finished run that gives the maps, in place of a round. Default: none.",
    )

    # Devices: the layout of replicas, which changes no result
    strategy: str = _devices(
        "mirrored",
        "mirrored: one replica per device; multi_worker: the machines in TF_CONFIG; one_device: "
        "the first device only; tpu: the TPU in TPU_NAME; parameter_server is refused.",
        choices=("mirrored", "multi_worker", "one_device", "tpu", "parameter_server"),
    )
    step_timeout_seconds: float = _devices(
        30.0,
        "With several workers, a step longer than this and than 20 times the longest step before "
        "it means that a worker is lost; 0 waits for ever.",
        low=0.0,
    )
    logical_devices: int = _devices(
        0, "Logical devices to split the CPU into, to test replicas; 0 for none.", low=0, high=64
    )

    # Checkpoints: the workdir and the states saved in it
    workdir: str | None = _checkpoints(
        None, "Folder of the run; the same workdir resumes it. Default: a new folder under runs/."
    )
    checkpoint_every_steps: int = _checkpoints(
        0, "Steps between checkpoints, besides one per epoch; 0 for none.", low=0
    )
    checkpoint_every_minutes: float = _checkpoints(
        0.0, "Minutes between checkpoints, besides one per epoch; 0 for none.", low=0.0
    )
    keep_checkpoints: int = _checkpoints(3, "Number of newest checkpoints to keep.", low=1)
    extend: bool = _checkpoints(
        False, "Resume a run, finished or not, with more --epochs than it was started with."
    )

    def __post_init__(self) -> None:
        config_rules.check(self)


READING = tuple(
    field.name for field in dataclasses.fields(TrainConfig) if field.metadata.get("reading")
)
"""Names of the settings that say how a folder is read."""


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """Rebuilds a configuration from its `dataclasses.asdict`.

    Raises:
      UserError: a name is not a setting (the nearest one is suggested) or a value is out of range.
    """
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    for name in values:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            suggestion = f"; did you mean '{nearest[0]}'?" if nearest else "."
            raise UserError(f"'{name}' is not a setting{suggestion}")
    return TrainConfig(**values)


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Lists the settings that differ and decide the result, each as 'name: old → new'."""
    lines = []
    for field in dataclasses.fields(TrainConfig):
        before = getattr(old, field.name)
        after = getattr(new, field.name)
        if before != after and field.metadata.get("part_of_result", True):
            lines.append(f"{field.name}: {before} → {after}")
    return lines


def format_flags(config: TrainConfig) -> list[str]:
    """Formats the settings that differ from their defaults as flags, in declared order."""
    arguments = []
    for field in dataclasses.fields(TrainConfig):
        value = getattr(config, field.name)
        if value == field.default:
            continue
        if isinstance(value, bool):
            arguments.append(f"--{field.name}" if value else f"--no{field.name}")
        else:
            arguments.append(f"--{field.name}={value}")
    return arguments
