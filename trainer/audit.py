"""Audits a data set before any training, or a finished run: what would score without seeing a lung?

python -m trainer.audit --dataset=covid_xray --manual_dir=FOLDER_OR_ZIP --output=audits/mine
python -m trainer.audit --workdir=runs/mine
"""

from collections.abc import Sequence

from absl import app, flags

from trainer import errors, tf_startup

_DATASET = flags.DEFINE_enum(
    "dataset", "auto", ["auto", "covid_xray", "phantom"], "Which set to audit, as for trainer.main."
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir",
    None,
    "The radiographs: a folder with Train/ and Test/ at any depth, or the zip. They are read as "
    "they are; unreadable files are listed, not refused.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where prepared sets are kept, as for trainer.main."
)
_ALSO = flags.DEFINE_list(
    "also",
    [],
    "Further folders of images (no classes needed) in which to look for copies of the set's.",
)
_SHORTCUT = flags.DEFINE_enum(
    "phantom_shortcut",
    "none",
    ["none", "marker", "border", "contrast", "header"],
    "The shortcut planted into the phantom set.",
)
_PHANTOM = [
    flags.DEFINE_integer(
        f"phantom_{split}", count, f"How many synthetic {split} images to draw.", lower_bound=4
    )
    for split, count in (("train", 256), ("test", 64))
]
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "A finished run: audits the data it was trained on, retrains the small network without lungs, "
    "and writes everything into the run's report.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Where the audit goes. Default: a new folder under audits/; with --workdir its audit/.",
)
_SEED = flags.DEFINE_integer("seed", 0, "The seed of the controls.", lower_bound=0)


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(
                f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help."
            )
        if _WORKDIR.value:
            tf_startup.start_tensorflow()
            from trainer.evaluation import audit_run

            print(audit_run.audit_run(_WORKDIR.value, _DATA_DIR.value, _SEED.value))
            return
        if not _MANUAL_DIR.value:
            tf_startup.start_tensorflow()
        from trainer.evaluation import audit_set

        print(
            audit_set.audit_set(
                _DATASET.value,
                _OUTPUT.value,
                manual_dir=_MANUAL_DIR.value,
                data_dir=_DATA_DIR.value,
                also=tuple(_ALSO.value),
                phantom_train=_PHANTOM[0].value,
                phantom_test=_PHANTOM[1].value,
                phantom_shortcut=_SHORTCUT.value,
                seed=_SEED.value,
            )
        )


if __name__ == "__main__":
    app.run(main)
