"""Audits a data set before training, or a finished run: the scores that need no lung.

python -m trainer.audit --dataset=covid_xray --manual_dir=FOLDER_OR_ZIP --output=audits/mine
python -m trainer.audit --workdir=runs/mine
python -m trainer.audit --manual_dir=ANY_FOLDER --dry_run       # prints how any set would be read
"""

from pathlib import Path

from absl import flags

from trainer import cli, config_flags, tf_startup
from trainer.config import READING, TrainConfig
from trainer.errors import UserError

_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "A finished run: audits the data it was trained on, retrains the small network without "
    "lungs, and writes everything into the run's report.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Output folder. Default: a new folder under audits/; with --workdir its audit/.",
)
_ALSO = flags.DEFINE_list(
    "also",
    [],
    "Further folders of images (no classes needed) in which to look for copies of the set's.",
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "Only prints how the folder is read: splits, classes or findings, counts, patients, and what "
    "is passed over.",
)
config_flags.define_flags(
    "dataset",
    "data_dir",
    "manual_dir",
    "skip_unreadable",
    *READING,
    "test_fraction",
    "phantom_train",
    "phantom_test",
    "phantom_shortcut",
    "phantom_findings",
    "seed",
)


def main() -> None:
    """Audits the run that --workdir names, else the data set."""
    config = config_flags.parse_flags()
    if _DRY_RUN.value:
        print(_dry_run(config))
        return
    # The radiographs of a folder are read without TensorFlow.
    if _WORKDIR.value or not config.manual_dir:
        tf_startup.start_tensorflow()
    from trainer.evaluation import audit

    if _WORKDIR.value:
        print(audit.audit_run(_WORKDIR.value, config.data_dir, config.seed))
    else:
        print(audit.audit_set(config, _OUTPUT.value, tuple(_ALSO.value)))


def _dry_run(config: TrainConfig) -> str:
    from trainer.data import any_source, prepared, radiograph_set

    if not config.manual_dir:
        raise UserError("--dry_run reads a folder or archive; give --manual_dir=FOLDER_OR_ZIP.")
    downloads = prepared.data_folder(config.data_dir) / "downloads"
    images = any_source.read(Path(config.manual_dir).expanduser(), downloads, config)
    return radiograph_set.describe(images)


if __name__ == "__main__":
    cli.run(main)
