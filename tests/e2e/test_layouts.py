"""Replicas, workers and restarts on other numbers of them see the same examples, views and masks, and compute the same losses.

Real processes; those called workers speak to one another over 127.0.0.1.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import run_command
from tests.studies import chaos

STEPS = 50
# Name → (workers, logical devices of each).
LAYOUTS = {
    "2 replicas": (1, 2),
    "4 replicas": (1, 4),
    "2 workers": (2, 0),
    "2 workers of 2 replicas": (2, 2),
}

WHAT_REPLICAS_SEE = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 4)
from trainer.training import distribution, input_pipeline, layers
from trainer.training.augment import Limits

rng = np.random.default_rng(0)
examples = input_pipeline.Examples(rng.integers(0, 256, (11, 8, 8, 1)).astype(np.uint8), np.arange(11, dtype=np.int32),
                                   np.array([""] * 11), np.array([""] * 11))
limits = Limits(zoom=0.2, horizontal_flip=True, shear=0.1, brightness=0.1)
dropout = layers.StatelessDropout(0.5)

def seen(devices, first, steps):
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)])
    whole = input_pipeline.training_batches(examples, limits, 8, 7, first)
    dealt = distribution.deal(distribution.Workers(strategy), whole, 8)

    @tf.function
    def masks(batch):
        def on_replica(part):
            with layers.example_seeds(part["noise_seed"]):
                return dropout(tf.ones([8 // devices, 30]), training=True)
        return strategy.run(on_replica, (batch,))

    for _ in range(steps):
        batch = next(dealt)
        parts = {**batch, "mask": masks(batch)}
        yield {name: np.concatenate([np.asarray(part) for part in strategy.experimental_local_results(value)])
               for name, value in parts.items()}

alone = list(seen(1, 0, 8))
for devices, first in ((2, 0), (4, 0), (4, 5), (2, 3)):
    for expected, found in zip(alone[first:], seen(devices, first, 8 - first), strict=True):
        for name in ("image", "label", "index", "noise_seed", "mask"):
            np.testing.assert_array_equal(found[name], expected[name])
assert len({batch["mask"].tobytes() for batch in alone}) == 8
print("all the same")
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    from tests.conftest import write_set
    from trainer.data import prepared

    folder = tmp_path_factory.mktemp("layouts")
    write_set(folder / "set", chaos.COUNTS)
    prepared.open_dataset(
        "covid_xray", data_dir=str(folder / "data"), manual_dir=str(folder / "set")
    )
    return folder / "data"


def run(workdir: Path, data_dir: Path, workers: int, devices: int, *more: str) -> list[dict]:
    chaos.finish(chaos.start(workdir, data_dir, workers, f"--logical_devices={devices}", *more))
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def of_steps(lines: list[dict], name: str) -> np.ndarray:
    found = np.array([line[name] for line in lines if "epoch" not in line])
    assert len(found) >= STEPS
    return found


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory) -> list[dict]:
    """What one replica logs in float64, uninterrupted."""
    return run(tmp_path_factory.mktemp("alone") / "run", data_dir, 1, 0, "--precision=float64")


def assert_same(found: list[dict], expected: list[dict]) -> None:
    for name in ("loss", "gradient_norm", "accuracy"):
        np.testing.assert_allclose(
            of_steps(found, name), of_steps(expected, name), rtol=0, atol=1e-9
        )
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() and one["step"] == other["step"]
        if "epoch" in one:  # Evaluation is exact on any layout: every example once.
            np.testing.assert_allclose(
                one["validation_loss"], other["validation_loss"], rtol=0, atol=1e-9
            )


def test_replicas_see_the_same_examples_views_and_masks_from_any_step_on():
    done = run_command("-c", WHAT_REPLICAS_SEE)
    assert done.returncode == 0 and "all the same" in done.stdout, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_has_the_same_losses_in_float64(layout, alone, data_dir, tmp_path):
    assert_same(run(tmp_path / "run", data_dir, *LAYOUTS[layout], "--precision=float64"), alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first, second",
    [((1, 1), (1, 4)), ((1, 2), (2, 0)), ((2, 0), (1, 1))],
    ids=["1 replica to 4", "2 replicas to 2 workers", "2 workers to 1"],
)
def test_a_killed_run_goes_on_with_another_number_of_replicas_or_workers(
    first, second, alone, data_dir, tmp_path
):
    workdir = tmp_path / "run"
    chaos.kill_all(
        chaos.start(
            workdir, data_dir, first[0], f"--logical_devices={first[1]}", "--precision=float64"
        ),
        workdir,
        chaos.at_step(20),
    )
    assert_same(run(workdir, data_dir, *second, "--precision=float64"), alone)


@pytest.mark.slow
def test_the_drift_of_two_workers_in_float32_is_small_and_reported(
    data_dir, tmp_path, record_property
):
    one, two = (
        of_steps(run(tmp_path / str(workers), data_dir, workers, 0), "loss") for workers in (1, 2)
    )
    drift = np.abs(one - two)
    record_property("float32_drift", drift.tolist())
    print(
        f"float32 drift: first step {drift[0]:.1e}, median of {len(drift)} {np.median(drift):.1e}, "
        f"largest {drift.max():.1e}"
    )
    assert drift[0] < 1e-5
