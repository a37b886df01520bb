"""The number of replicas does not change what is computed: real processes on one and on two logical devices."""

import json

import numpy as np
import pytest

from tests.conftest import run_command

STEPS = 20


def losses(tiny_data_dir, workdir, precision: str, devices: int, *flags: str) -> np.ndarray:
    done = run_command(
        "-m",
        "trainer.main",
        "--dataset=covid_xray",
        f"--data_dir={tiny_data_dir}",
        f"--workdir={workdir}",
        "--image_size=96",
        "--epochs=9",
        "--batch_size=8",
        f"--precision={precision}",
        f"--logical_devices={devices}",
        *flags,
    )
    assert done.returncode == 0, done.stderr
    assert f"{max(devices, 1)} replica(s)" in done.stdout
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["loss"] for line in lines if "epoch" not in line][:STEPS])


def test_two_logical_devices_give_the_same_losses_in_float64(tiny_data_dir, tmp_path):
    one, two = (
        losses(tiny_data_dir, tmp_path / str(devices), "float64", devices) for devices in (1, 2)
    )
    assert len(one) == len(two) == STEPS
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_clipping_and_four_devices_give_the_same_losses_in_float64(tiny_data_dir, tmp_path):
    one, four = (
        losses(
            tiny_data_dir,
            tmp_path / str(devices),
            "float64",
            devices,
            "--clip_norm=0.1",
            "--model=compact",
        )
        for devices in (1, 4)
    )
    np.testing.assert_allclose(four, one, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_the_drift_in_float32_is_small_and_reported(tiny_data_dir, tmp_path, record_property):
    one, two = (
        losses(tiny_data_dir, tmp_path / str(devices), "float32", devices) for devices in (1, 2)
    )
    drift = np.abs(one - two)
    record_property("float32_drift", drift.tolist())
    print("float32 drift over the first steps:", drift)
    assert drift[0] < 1e-5 and drift.max() < 0.1
