"""Scores a finished run on its own test split or on another hospital's images, with intervals, thresholds and figures.

python -m trainer.evaluate --workdir=runs/mine
python -m trainer.evaluate --workdir=runs/mine --manual_dir=OTHER_FOLDER
python -m trainer.evaluate --workdir=runs/mine --compare=runs/other
"""

from collections.abc import Sequence

from absl import app, flags

from trainer import errors, tf_startup

_WORKDIR = flags.DEFINE_string("workdir", None, "The finished run.")
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "validation"], "Which split of the run's own data to score."
)
_DATASET = flags.DEFINE_enum(
    "dataset",
    None,
    ["covid_xray", "phantom"],
    "The kind of the other set; only covid_xray can be given.",
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir",
    None,
    "Score this folder instead (external validation): the classes' folders side by side, at any "
    "depth. Copies of training images are left out.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where the run's data set is prepared, if not where it was."
)
_COMPARE = flags.DEFINE_string(
    "compare", None, "Another finished run, to compare with on the same images."
)


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(
                f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help."
            )
        if not _WORKDIR.value:
            raise errors.UserError(
                "which run? Give --workdir=runs/…, a folder that trainer.main has finished."
            )
        if _DATASET.value == "phantom" and _MANUAL_DIR.value:
            raise errors.UserError(
                "--manual_dir goes with --dataset=covid_xray; the phantom set is drawn."
            )
        tf_startup.start_tensorflow()
        from trainer.evaluation import evaluate

        print(
            evaluate.evaluate(
                _WORKDIR.value, _SPLIT.value, _MANUAL_DIR.value, _DATA_DIR.value, _COMPARE.value
            )
        )


if __name__ == "__main__":
    app.run(main)
