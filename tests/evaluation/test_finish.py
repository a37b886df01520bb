"""The end of a run: few test images, and failures after training, which cost no training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_set
from tests.evaluation.test_plain_network import predict_alone
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.evaluation import audit, export_run, finish, report, saved_model
from trainer.experiments.run import train_and_evaluate
from trainer.inference import runtime
from trainer.training import loop
from trainer.workdir import read_json, resume_command


@pytest.fixture
def config(tiny_data_dir: Path, tmp_path: Path) -> TrainConfig:
    """One epoch of the compact network on the tiny set."""
    return TrainConfig(
        dataset="covid_xray",
        data_dir=str(tiny_data_dir),
        model="compact",
        image_size=48,
        epochs=1,
        batch_size=8,
        validation_fraction=0.25,
        workdir=str(tmp_path / "run"),
    )


def test_the_saved_model_and_its_export_need_their_runtime_alone(
    config: TrainConfig, tmp_path: Path
) -> None:
    path = train_and_evaluate(config).workdir.path
    model = saved_model.load(path)
    squares = np.random.default_rng(0).integers(0, 256, (4, 500, 500, 1)).astype(np.uint8)
    expected, _ = model.predict(squares)
    for kind, name in (("keras", "model.keras"), ("onnx", "model.onnx")):
        images = squares.astype(np.float32)
        probabilities = predict_alone(kind, path / "model" / name, images, tmp_path)
        np.testing.assert_allclose(probabilities, expected, atol=1e-6, err_msg=kind)


@pytest.mark.parametrize("counts", [(1, 0), (0, 1), (1, 1), (2, 5)])
def test_a_run_finishes_with_any_number_of_test_images(
    config: TrainConfig, tmp_path: Path, counts: tuple[int, int]
) -> None:
    numbers = {("Train", "covid"): 8, ("Train", "non_covid"): 8}
    numbers |= {("Test", "covid"): counts[0], ("Test", "non_covid"): counts[1]}
    folder = write_set(tmp_path / "set", numbers)
    result = train_and_evaluate(
        dataclasses.replace(
            config,
            dataset="auto",
            manual_dir=str(folder),
            data_dir=str(tmp_path / "data"),
            prepared_side=64,
        )
    )
    assert result.metrics["test"]["accuracy"]["n"] == sum(counts)
    assert result.metrics["test"]["roc_auc"]["value"] is None or all(counts)
    assert "roc_auc none" in str(result) or all(counts)
    assert (result.workdir.path / "report.html").exists()
    assert runtime.load(result.workdir.path).facts["class_names"] == ["non_covid", "covid"]


class _FailureError(Exception):
    pass


def _fail(*_: object, **__: object) -> None:
    raise _FailureError


@pytest.mark.parametrize(
    ("module", "name", "usable"),
    [
        (finish.saved_model, "save", False),
        (export_run.exporting, "write", False),
        (audit, "audit_beside_model", True),
        (report, "write", True),
    ],
)
def test_the_same_command_goes_on_after_a_failure(
    config: TrainConfig, module: object, name: str, usable: bool
) -> None:
    path = Path(str(config.workdir))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, _fail)
        with pytest.raises(_FailureError):
            train_and_evaluate(config)
    # A model that is exported can be used, whatever failed after it.
    if usable:
        runtime.load(path)
    else:
        with pytest.raises(UserError) as caught:
            runtime.load(path)
        assert f"holds no finished run; make one: {resume_command(path)}" in str(caught.value)
    with pytest.MonkeyPatch.context() as patch:
        # Nothing is trained again.
        patch.setattr(loop, "_take_step", _fail)
        result = train_and_evaluate(config)
    assert result.metrics["steps"] == read_json(path / "metrics.json")["steps"] > 0
    assert all((path / file).exists() for file in report.FILES)
    runtime.load(path)


def test_a_removed_model_is_made_anew_by_the_command_that_the_message_gives(
    config: TrainConfig,
) -> None:
    result = train_and_evaluate(config)
    path = result.workdir.path
    for file in (path / "model").iterdir():
        file.unlink()
    with pytest.raises(UserError) as caught:
        runtime.load(path)
    assert resume_command(path) in str(caught.value)
    again = train_and_evaluate(config)
    assert again.metrics["weights_sha256"] == result.metrics["weights_sha256"]
    runtime.load(path)
