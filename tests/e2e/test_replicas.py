"""One, two and four logical devices compute the same losses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import read_log, run_command

STEPS = 20  # The runs have a few more.


def losses(data_dir: Path, workdir: Path, precision: str, devices: int, *flags: str) -> np.ndarray:
    """Trains on logical devices; returns the losses of the first steps, [20] float."""
    done = run_command(
        "-m",
        "trainer.main",
        "--dataset=covid_xray",
        f"--data_dir={data_dir}",
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
    return np.array([line["loss"] for line in read_log(workdir) if "epoch" not in line][:STEPS])


@pytest.mark.parametrize(
    ("devices", "flags"),
    [
        (2, []),
        # Clipping needs the norm over all replicas.
        pytest.param(4, ["--clip_norm=0.1", "--model=compact"], marks=pytest.mark.slow),
    ],
)
def test_logical_devices_have_the_same_losses_in_float64(
    devices: int, flags: list[str], tiny_data_dir: Path, tmp_path: Path
) -> None:
    one = losses(tiny_data_dir, tmp_path / "one", "float64", 1, *flags)
    several = losses(tiny_data_dir, tmp_path / "several", "float64", devices, *flags)
    assert len(one) == len(several) == STEPS
    np.testing.assert_allclose(several, one, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_drift_in_float32_is_small_and_reported(
    tiny_data_dir: Path, tmp_path: Path, record_property: Any
) -> None:
    one, two = (
        losses(tiny_data_dir, tmp_path / str(devices), "float32", devices) for devices in (1, 2)
    )
    drift = np.abs(one - two)  # [20]
    record_property("float32_drift", drift.tolist())
    print("float32 drift over the first steps:", drift)
    assert drift[0] < 1e-5
    assert drift.max() < 0.1
