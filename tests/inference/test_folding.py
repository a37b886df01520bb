"""Folding of the pixel scale into the first convolution of an ONNX graph."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from trainer.inference import folding

SIDE = 12


def make_model(
    factor: float,
    offset: float | None = 0.0,
    extra_reader_of: str | None = None,
    seed: int = 0,
) -> ModelProto:
    """Makes a graph: image → × factor (→ + offset) → reshape → convolution.

    Args:
      factor: of the pixels.
      offset: added to them; None for no addition.
      extra_reader_of: "image" or "kernel", which a second node then reads.
      seed: of the kernel.
    """
    kernel = (
        np.random.default_rng(seed).normal(size=(3, 1, 3, 3)).astype(np.float32)
    )  # [out, in, 3, 3]
    constants = {
        "factor": np.float32(factor),
        "shape": np.array([-1, 1, SIDE, SIDE]),  # batch, channels, height, width
        "kernel": kernel,
    }
    nodes = [helper.make_node("Mul", ["image", "factor"], ["scaled"])]
    if offset is not None:
        constants["offset"] = np.float32(offset)
        nodes.append(helper.make_node("Add", ["scaled", "offset"], ["moved"]))
    nodes += [
        helper.make_node("Reshape", [nodes[-1].output[0], "shape"], ["turned"]),
        helper.make_node("Conv", ["turned", "kernel"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["convolved"], ["out"]),
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 3, SIDE, SIDE])]
    # A second reader and a second output, of any shape.
    if extra_reader_of:
        nodes.append(helper.make_node("ReduceMax", [extra_reader_of], ["largest"], keepdims=0))
        outputs.append(helper.make_tensor_value_info("largest", TensorProto.FLOAT, []))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, SIDE, SIDE, 1])
    # The constants are tensors of the graph, as tf2onnx writes them.
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", [image], outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run_model(model: ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["out"], {"image": images})[0]


@settings(max_examples=20)
@given(
    # A factor near 0 would leave only rounding errors to compare.
    st.floats(-2, 2, width=32).filter(lambda value: abs(value) > 1e-3),
    st.sampled_from([0.0, None]),
    st.integers(0, 99),
)
def test_folding_gives_the_same_numbers_without_the_multiplication(factor, offset, seed):
    model = make_model(factor, offset, seed=seed)
    images = np.random.default_rng(seed).integers(0, 256, (2, SIDE, SIDE, 1)).astype(np.float32)
    expected = run_model(model, images)
    assert folding.fold_scaling(model)
    checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Reshape", "Conv", "Relu"]
    assert {tensor.name for tensor in model.graph.initializer} == {"shape", "kernel"}
    # Float32 rounds differently after folding.
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(run_model(model, images), expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize(
    "difference", [{"offset": 1.0}, {"extra_reader_of": "image"}, {"extra_reader_of": "kernel"}]
)
def test_a_graph_of_another_form_is_unchanged(difference):
    model = make_model(1 / 255, **difference)
    before = model.SerializeToString()
    assert not folding.fold_scaling(model)
    assert model.SerializeToString() == before
