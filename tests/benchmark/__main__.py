"""Measures on this machine what each stage costs, beside what others take for the same, in turns.

python -m tests.benchmark --output=bench.json
python -m tests.benchmark --output=bench.json --quick
"""

from collections.abc import Sequence

from absl import app, flags

from trainer import errors, tf_startup

_OUTPUT = flags.DEFINE_string(
    "output", "bench.json", "The JSON to write; its picture goes beside it, as PNG."
)
_QUICK = flags.DEFINE_boolean("quick", False, "Fewer images and rounds: two minutes on two cores.")
_ONLY = flags.DEFINE_list(
    "only",
    [],
    "Measure only these stages: "
    + ", ".join(
        (
            "pipeline",
            "step",
            "convolutions",
            "overheads",
            "start",
            "answer",
            "build",
            "runs",
            "growth",
        )
    )
    + ". Default: all.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where prepared sets are kept, as for trainer.main."
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "The radiographs to measure on, as for trainer.main. Default: phantoms."
)
_RECORDED = flags.DEFINE_string(
    "recorded",
    None,
    "The folder of recorded trainings: default/, best_0..2/, reference_0..2/. Default: OUTPUT_runs "
    "beside the output.",
)
_TRAIN = flags.DEFINE_boolean(
    "train",
    False,
    "Train what --recorded lacks: the default command once, best.flags and the reference recipe in "
    "plain Keras three times; about an hour on two cores.",
)


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(
                f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help."
            )
        tf_startup.start_tensorflow()
        from tests.benchmark import suite

        print(
            suite.measure(
                suite.Settings(
                    _OUTPUT.value,
                    _QUICK.value,
                    tuple(_ONLY.value),
                    _DATA_DIR.value,
                    _MANUAL_DIR.value,
                    _RECORDED.value,
                    _TRAIN.value,
                )
            )
        )


if __name__ == "__main__":
    app.run(main)
