"""Exports of a network: equal to Keras, complete, refused where they differ."""

import numpy as np
import pytest

from tests.inference.conftest import FACTS, build_network
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.inference import exporting, formats, runtime


def test_an_export_gives_the_outputs_of_keras(workdir, network, squares):
    model = runtime.load(workdir)
    expected = network(squares[:5].astype(np.float32))
    outputs = model.run(squares[:5], True)
    # All three outputs, not the probabilities alone.
    for name in ("probabilities", "features", "map"):
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-4, atol=1e-4)
    assert model.facts == FACTS
    assert model.refusal is not None


def test_the_default_network_is_exported_without_a_scaling_pass(squares, tmp_path):
    import onnx

    network = build_network(TrainConfig())
    exporting.write(tmp_path, network, FACTS, None, ("onnx",), squares[:2])
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    # The scale of the pixels is in the first kernel.
    assert [node.op_type for node in nodes if "image" in node.input] == ["Reshape"]
    expected = network(squares[:2].astype(np.float32))
    outputs = runtime.load(tmp_path / "model.onnx").run(squares[:2], True)
    for name in ("probabilities", "features", "map"):
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_format_agrees_and_holds_the_facts(network, squares, tmp_path):
    # LiteRT is an optional dependency.
    pytest.importorskip(
        "ai_edge_litert", reason="LiteRT's runtime is not installed (pip install '.[litert]')"
    )
    exporting.write(tmp_path, network, FACTS, None, tuple(exporting.FORMATS), squares[:2])
    predictions = []
    for name in formats.FILE_NAMES.values():
        model = runtime.load(tmp_path / name)
        assert model.facts == FACTS
        assert model.refusal is None
        predictions.append(model.predict(squares[0]))
    first = predictions[0]
    for other in predictions[1:]:
        assert other.verdict == first.verdict
        assert other.label == first.label
        assert other.probabilities == pytest.approx(first.probabilities, abs=1e-4)


def test_every_format_has_a_file_name_and_a_writer():
    assert list(exporting.FORMATS) == list(formats.FILE_NAMES)


def test_an_export_that_differs_from_keras_is_not_kept(network, squares, tmp_path, monkeypatch):
    # Every difference is above -1.
    monkeypatch.setattr(exporting, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(UserError, match="differs from Keras"):
        exporting.write(tmp_path, network, FACTS, None, ("onnx",), squares[:1])
    assert not any(tmp_path.iterdir())
