"""The benchmark's arithmetic, and what must not creep back: counted, not timed."""

import collections
import contextlib
import importlib.util
import json
import sys

import pytest
import tensorflow as tf

from tests.benchmark import our_side, rows, side, table
from tests.benchmark.rows import Row, Spread
from tests.conftest import run_command
from trainer.config import TrainConfig
from trainer.training import augment, input_pipeline

CONVOLUTIONS = {"cnn": 5, "seed_cnn": 5}


def test_ratios_are_taken_round_by_round_and_a_higher_rate_or_a_shorter_time_is_better():
    timed = rows.compared("a", "s", [1.0, 2.0, 4.0], [2.0, 6.0, 8.0], "b", 2.0)
    assert (timed.ratio.median, timed.ratio.low, timed.ratio.high, timed.met) == (
        2.0,
        2.0,
        3.0,
        True,
    )
    rate = rows.compared("a", "images/s", [10.0], [20.0], "b", 1.0)
    assert rate.ratio.median == 0.5 and rate.met is False
    share = Row("a", "s", ratio=Spread.of([0.01, 0.03]), target=0.02, at_most=True)
    assert share.met is True and share.to_dict()["met"] is True


def test_measurements_are_taken_in_turns():
    order: list[str] = []
    found = rows.in_turns(3, lambda: order.append("A") or 1.0, lambda: order.append("B") or 2.0)
    assert "".join(order) == "ABABAB" and found == [[1.0] * 3, [2.0] * 3]


def test_a_peer_that_is_not_there_has_a_row_that_says_how_to_get_it(tmp_path):
    row = rows.missing("step", "s", "PyTorch", 1.1, ours=[1.0])
    assert row.met is None and "pip install -e .[bench]" in table.shown([row])
    table.draw([row, rows.compared("a", "s", [1.0], [2.0], "b", 1.5)], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 0


@pytest.mark.parametrize("name", sorted(CONVOLUTIONS))
def test_a_step_does_each_convolution_and_pooling_once(name):
    counts = _operations(name)
    expected = CONVOLUTIONS[name]
    assert (
        counts["Conv2D"]
        == counts["Conv2DBackpropFilter"]
        == counts["MaxPool"]
        == counts["MaxPoolGrad"]
        == expected
    )
    assert (
        counts["Conv2DBackpropInput"] <= expected
    )  # As traced; TensorFlow drops that of the image, which none asks for.
    assert counts["Relu"] == counts["ReluGrad"] == expected + 4
    assert counts["ImageProjectiveTransformV3"] == counts["PyFunc"] == counts["EagerPyFunc"] == 0
    assert sum(counts.values()) < {"cnn": 2100, "seed_cnn": 1500}[name], counts.most_common(10)


_EXCHANGES = """
from trainer import tf_startup
tf_startup.start_tensorflow()
from tests.benchmark import our_side
from trainer.config import TrainConfig
training = our_side.Training(TrainConfig(logical_devices=2, image_size=128, batch_size=4))
graph = training.step.get_concrete_function(next(training.dealt(our_side.squares(4, 128)))).graph.as_graph_def()
nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
print(sum(node.op.startswith("CollectiveReduce") for node in nodes))
"""


def test_replicas_wait_for_one_another_twice_a_normalisation_and_once_for_all_gradients():
    done = run_command("-c", _EXCHANGES)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 2 * (
        2 * 5 + 1
    )  # Replicas; five normalisations, forward and backward.


def test_pooling_comes_before_bias_and_activation():
    shapes = {node.name: node for node in _graph("seed_cnn").node if node.op == "Relu"}
    producers = {node.name: node.op for node in _graph("seed_cnn").node}
    assert not [
        name
        for name, node in shapes.items()
        if producers[node.input[0].partition(":")[0]] == "Conv2D"
    ]


def test_a_batch_is_resampled_once_and_not_in_python(monkeypatch):
    calls: list[tf.Tensor] = []
    resample = augment.resample
    monkeypatch.setattr(
        augment, "resample", lambda *parts: calls.append(parts[0]) or resample(*parts)
    )
    config = TrainConfig(shear=1.0, zoom=0.2, rotation=3.0, shift=0.1)
    data = input_pipeline.training_batches(
        our_side.squares(8, 64), augment.Limits.from_config(config), 4, seed=0
    )
    list(data.take(3))
    assert (
        len(calls) == 1 and calls[0].dtype == tf.uint8
    )  # Traced once; the batch is read as bytes.


def test_images_are_held_as_one_byte_a_pixel(tiny_data_dir):
    from trainer.data import prepared

    found = input_pipeline.load(
        prepared.open_dataset("covid_xray", data_dir=str(tiny_data_dir)).builder, "train", 64
    )
    assert found.images.nbytes == len(found) * 64 * 64


@pytest.mark.parametrize(
    "module", ["tests.benchmark", "trainer.main", "trainer.predict", "trainer.inference.command"]
)
def test_help_and_predict_do_not_load_tensorflow(module):
    code = f"import sys, {module}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert run_command("-c", code).returncode == 0


def test_whole_trainings_are_read_from_their_records(tmp_path):
    from tests.benchmark import runs

    for seed, reached in zip(runs.SEEDS, (2, 3, None), strict=True):
        folder = tmp_path / f"reference_{seed}"
        folder.mkdir()
        lines = [
            {
                "epoch": epoch,
                "seconds": 100.0 * epoch,
                "validation_accuracy": 0.9 if epoch == reached else 0.5,
            }
            for epoch in (1, 2, 3)
        ]
        (folder / "reference.json").write_text(
            json.dumps({"seed": seed, "seconds": 400.0, "epochs": lines})
        )
    for name in ("default", *(f"best_{seed}" for seed in runs.SEEDS)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text(
            json.dumps({"seconds": {"training": 20.0, "total": 40.0}, "steps": 10})
        )
        (folder / "metrics.jsonl").write_text(
            json.dumps({"step": 5, "epoch": 1, "validation_accuracy": 0.96}) + "\n"
        )
    first, second, whole = runs.measure(tmp_path, None, [], train=False)
    assert (first.ours.median, first.peer.median, first.ratio.median, first.met) == (
        10.0,
        300.0,
        30.0,
        True,
    )
    assert "1 of 3 runs of the reference (its end is taken) never reached it" in first.note
    assert (
        second.ratio.median == 30.0 and "3 of 3 runs of the reference" in second.note
    )  # The least it can be.
    assert (whole.ratio.median, whole.met) == (10.0, True)
    for seed in runs.SEEDS[:2]:
        (tmp_path / f"best_{seed}" / "metrics.jsonl").write_text(
            json.dumps({"step": 5, "epoch": 1, "validation_accuracy": 0.7}) + "\n"
        )
    first, *_ = runs.measure(tmp_path, None, [], train=False)
    assert (
        first.ours is None
        and first.ratio is None
        and first.met is None
        and "2 of 3 runs of ours" in first.note
    )


def test_an_unknown_stage_is_refused_in_one_line(tmp_path):
    from tests.benchmark import suite
    from trainer.errors import UserError

    with pytest.raises(UserError, match="--only=speed"):
        suite.measure(suite.Settings(str(tmp_path / "bench.json"), only=("speed",)))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None, reason="a package must be missing"
)
def test_a_side_whose_package_is_missing_leaves_the_others_standing():
    with contextlib.ExitStack() as held:
        ours, absent = side.together(
            held,
            ("our_side:step", {"steps": 1, "image_size": 128, "batch_size": 2}),
            ("torch_side:step", {"side": 64, "batch": 2, "steps": 1, "compiled": False}),
        )
        assert absent is None and 0 < ours() < 60 and ours.cores > 0


@pytest.mark.slow
def test_quick_measures_every_row(tmp_path):
    done = run_command(
        "-m",
        "tests.benchmark",
        "--quick",
        f"--output={tmp_path / 'bench.json'}",
        f"--data_dir={tmp_path / 'data'}",
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    names = " ".join(row["name"] for row in found["rows"])
    for wanted in (
        "first epoch from files",
        "later epochs",
        "waiting for input",
        "seed_cnn training step",
        "conv5",
        "validation accuracy 0.89",
        "validation accuracy 0.95",
        "the default command",
        "390-px JPEG",
        "builder",
        "--help",
        "first training step",
        "checkpoint every 100",
        "metrics and progress",
        "two logical devices",
    ):
        assert wanted in names
    assert found["machine"]["cores"] and found["versions"]["python"] == sys.version.split()[0]
    assert len(found["growth"]) == 5 and (tmp_path / "bench_growth.png").exists()


def _graph(name: str) -> tf.compat.v1.GraphDef:
    training = our_side.Training(
        TrainConfig(model=name, image_size=128, batch_size=2, strategy="one_device")
    )
    one = next(training.dealt(our_side.squares(4, 128)))
    return training.step.get_concrete_function(one).graph.as_graph_def()


def _operations(name: str) -> collections.Counter:
    graph = _graph(name)
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    return collections.Counter(node.op for node in nodes)
