"""The benchmark's command: speed of every stage on this machine, beside other frameworks.

    pip install -e ".[bench]"                                   # PyTorch, optional
    python -m tests.benchmark --output=bench.json --quick       # two minutes on two cores
    python -m tests.benchmark --output=bench.json               # five to fifteen minutes
    python -m tests.benchmark --output=bench.json --only=step,start
    python -m tests.benchmark --output=bench.json --train       # about an hour

Run it from the checkout's root on a machine that does nothing else. Measurements are taken in
turns, each framework in a process of its own. Every figure is a median with its range; ratios are
taken round by round. "By CPU time" is the same ratio in processor seconds, which other load
changes less. With --manual_dir the radiographs of that folder are used, else synthetic ones are
drawn. The command prints the table and writes it to --output: {"rows": [{"name", "ours", "peer",
"ratio", "target", "met"}, ...]}. Beside it, bench.png shows each ratio over its target and
bench_growth.png how costs grow. Without PyTorch its rows are there and not measured. --train also
trains whole models, the reference recipe in plain Keras among them. Their records stay in
bench_runs/ and are used again.
"""

from absl import flags

from tests.benchmark import STAGES
from trainer import cli, tf_startup

# TensorFlow is imported in main: --help must not wait for it.
_OUTPUT = flags.DEFINE_string(
    "output",
    "bench.json",
    "The JSON file to write; the figures go beside it as PNG.",
)
_QUICK = flags.DEFINE_boolean(
    "quick",
    False,
    "Fewer images and rounds: two minutes on two cores.",
)
_ONLY = flags.DEFINE_list(
    "only",
    [],
    f"Measure only these stages: {', '.join(STAGES)}. Default: all.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "The folder of prepared data sets, as for trainer.main.",
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir",
    None,
    "The radiographs to measure on, as for trainer.main. Default: synthetic ones.",
)
_RECORDED = flags.DEFINE_string(
    "recorded",
    None,
    "The folder of recorded trainings: default/, small_0..2/, reference_0..2/. "
    "Default: OUTPUT_runs beside the output.",
)
_TRAIN = flags.DEFINE_boolean(
    "train",
    False,
    "Train the runs that --recorded lacks: the default command once, cnn at 256 pixels and "
    "the reference recipe in plain Keras three times; about an hour on two cores.",
)


def main() -> None:
    """Measures the stages and prints the table."""
    tf_startup.start_tensorflow()
    from tests.benchmark import suite

    settings = suite.Settings(
        output=_OUTPUT.value,
        quick=_QUICK.value,
        only=tuple(_ONLY.value),
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
        recorded=_RECORDED.value,
        train=_TRAIN.value,
    )
    print(suite.measure(settings))


# Peers' processes import this module again, under another name.
if __name__ == "__main__":
    cli.run(main)
