"""Evaluates a finished run on its own data or another hospital's.

python -m trainer.evaluate --workdir=runs/mine
python -m trainer.evaluate --workdir=runs/mine --manual_dir=OTHER_FOLDER[,ANOTHER]
python -m trainer.evaluate --workdir=runs/mine --compare=runs/other
"""

from typing import Any

from absl import flags

from trainer import cli, config_flags, tf_startup
from trainer.config import TrainConfig

_WORKDIR = cli.define_workdir()
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "validation"], "Split of the run's own data to evaluate on."
)
_MANUAL_DIR = flags.DEFINE_list(
    "manual_dir",
    [],
    "Evaluate on these folders or archives instead (external validation), one by one, each in "
    "any layout. Classes are matched by name; copies of training images are left out.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of the run's prepared data set, if it has moved."
)
_COMPARE = flags.DEFINE_string(
    "compare", None, "Another finished run, to compare with on the same images."
)
_CALIBRATE_ON = flags.DEFINE_integer(
    "calibrate_on",
    0,
    "With --manual_dir: fit temperature and threshold to about this many of the folder's images, "
    "by patient, and report the others before and after.",
    0,
)
_READING = ("image_column", "label_columns", "patient_column", "uncertain")  # Of --manual_dir.
config_flags.define_flags(*_READING)


def main() -> None:
    """Evaluates the run that --workdir names."""
    settings: dict[str, Any] = {name: flags.FLAGS[name].value for name in _READING}
    tf_startup.start_tensorflow()  # after the flags: --help needs no TensorFlow
    from trainer.evaluation import evaluate

    print(
        evaluate.evaluate(
            _WORKDIR.value,
            _SPLIT.value,
            _MANUAL_DIR.value,
            _DATA_DIR.value,
            _COMPARE.value,
            _CALIBRATE_ON.value,
            TrainConfig(**settings),
        )
    )


if __name__ == "__main__":
    cli.run(main)
