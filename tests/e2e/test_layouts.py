"""Replicas, workers and restarts do not change the losses of a run.

The processes are real; workers speak to one another over 127.0.0.1.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.conftest import TINY_COUNTS, prepare, read_log, run_command, write_set
from tests.studies import chaos

MIN_STEPS = 50  # Fewer would prove little.
# Name → (workers, logical devices of each).
LAYOUTS = {
    "2 replicas": (1, 2),
    "4 replicas": (1, 4),
    "2 workers": (2, 0),
    "2 workers of 2 replicas": (2, 2),
}

Log = list[dict[str, Any]]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir in which a tiny set is prepared."""
    folder = tmp_path_factory.mktemp("layouts")
    write_set(folder / "set", TINY_COUNTS)
    return prepare(folder / "set", folder / "data")


def run(workdir: Path, data_dir: Path, layout: tuple[int, int], *flags: str) -> Log:
    """Trains on (workers, logical devices of each); returns the lines of metrics.jsonl."""
    workers, devices = layout
    chaos.finish(chaos.start(workdir, data_dir, workers, f"--logical_devices={devices}", *flags))
    return read_log(workdir)


def step_values(log: Log, name: str) -> np.ndarray:
    """Selects a value of every step, [steps] float."""
    values = np.array([line[name] for line in log if "epoch" not in line])
    assert len(values) >= MIN_STEPS
    return values


@pytest.fixture(scope="module")
def single_log(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Log of one replica in float64, uninterrupted."""
    return run(tmp_path_factory.mktemp("single") / "run", data_dir, (1, 0), "--precision=float64")


def assert_same(log: Log, expected: Log) -> None:
    """Compares losses, norms and accuracies of steps, and the losses of epochs."""
    # Sums over replicas are rounded in another order: not equal to the bit.
    for name in ("loss", "gradient_norm", "accuracy"):
        np.testing.assert_allclose(
            step_values(log, name), step_values(expected, name), rtol=0, atol=1e-9
        )
    for line, other in zip(log, expected, strict=True):
        assert line.keys() == other.keys()
        assert line["step"] == other["step"]
        if "epoch" in line:  # Evaluation is exact on any layout: every example once.
            losses = (line["validation_loss"], other["validation_loss"])
            np.testing.assert_allclose(*losses, rtol=0, atol=1e-9)


def test_replicas_get_the_same_examples_views_and_masks_from_any_step() -> None:
    done = run_command("-m", "tests.e2e.replica_batches")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all the same" in done.stdout, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_has_the_same_losses_in_float64(
    layout: str, single_log: Log, data_dir: Path, tmp_path: Path
) -> None:
    log = run(tmp_path / "run", data_dir, LAYOUTS[layout], "--precision=float64")
    assert_same(log, single_log)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [((1, 1), (1, 4)), ((1, 2), (2, 0)), ((2, 0), (1, 1))],
    ids=["1 replica to 4", "2 replicas to 2 workers", "2 workers to 1"],
)
def test_a_killed_run_resumes_on_another_layout(
    first: tuple[int, int],
    second: tuple[int, int],
    single_log: Log,
    data_dir: Path,
    tmp_path: Path,
) -> None:
    workdir = tmp_path / "run"
    flags = (f"--logical_devices={first[1]}", "--precision=float64")
    processes = chaos.start(workdir, data_dir, first[0], *flags)
    # Steps after the last checkpoint are computed again.
    chaos.kill_all(processes, workdir, chaos.at_step(20))
    assert_same(run(workdir, data_dir, second, "--precision=float64"), single_log)


@pytest.mark.slow
def test_painted_rounds_are_the_same_on_replicas_and_after_a_kill(tmp_path: Path) -> None:
    flags = (
        *("--dataset=phantom", "--phantom_train=32", "--phantom_test=8", "--prepared_side=64"),
        *("--model=opacity", "--rounds=2", "--epochs=16", "--swap_backgrounds=0.3"),
        *("--cache=memory", "--precision=float64"),
    )
    data = tmp_path / "data"
    expected = run(tmp_path / "single", data, (1, 0), *flags)
    killed = tmp_path / "killed"
    # In the second round: the first is a member of the workdir.
    chaos.kill_all(chaos.start(killed, data, 1, *flags), killed, chaos.at_step(20))
    assert_same(run(killed, data, (1, 0), *flags), expected)
    assert_same(run(tmp_path / "replicas", data, (1, 2), *flags), expected)


@pytest.mark.slow
def test_a_backbone_is_the_same_on_replicas_and_after_a_kill(
    data_dir: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "backbone.weights.h5"
    keras.applications.EfficientNetB0(include_top=False, weights=None).save_weights(weights)
    flags = (
        *("--model=efficientnetb0", f"--weights={weights}", "--freeze_epochs=8", "--epochs=20"),
        "--precision=float64",
    )
    expected = run(tmp_path / "single", data_dir, (1, 0), *flags)
    killed = tmp_path / "killed"
    # The frozen epochs end at step 21.
    for step in (12, 30):
        chaos.kill_all(chaos.start(killed, data_dir, 1, *flags), killed, chaos.at_step(step))
    assert_same(run(killed, data_dir, (1, 0), *flags), expected)
    assert_same(run(tmp_path / "replicas", data_dir, (1, 2), *flags), expected)


@pytest.mark.slow
def test_drift_of_two_workers_in_float32_is_small_and_reported(
    data_dir: Path, tmp_path: Path, record_property: Any
) -> None:
    one, two = (
        step_values(run(tmp_path / str(workers), data_dir, (workers, 0)), "loss")
        for workers in (1, 2)
    )
    drift = np.abs(one - two)  # [steps]
    record_property("float32_drift", drift.tolist())
    print(
        f"float32 drift: first step {drift[0]:.1e}, "
        f"median of {len(drift)} {np.median(drift):.1e}, largest {drift.max():.1e}"
    )
    assert drift[0] < 1e-5  # Later steps start from other weights.
