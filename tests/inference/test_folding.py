"""Taking the scaling of pixels out of an ONNX graph: the answers stay, and what does not fit the pattern stays as it is."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from trainer.inference import folding

SIDE = 12


def graph_of(
    factor: float,
    offset: float | None = 0.0,
    read_twice: bool = False,
    kernel_read_twice: bool = False,
    seed: int = 0,
) -> ModelProto:
    """image → × factor (→ + offset) → reshape → convolution."""
    rng = np.random.default_rng(seed)
    constants = {
        "factor": np.float32(factor),
        "offset": np.float32(offset or 0),
        "shape": np.array([-1, 1, SIDE, SIDE]),
        "kernel": rng.normal(size=(3, 1, 3, 3)).astype(np.float32),
    }
    nodes = [helper.make_node("Mul", ["image", "factor"], ["scaled"])]
    if offset is not None:
        nodes.append(helper.make_node("Add", ["scaled", "offset"], ["moved"]))
    nodes += [
        helper.make_node("Reshape", [nodes[-1].output[0], "shape"], ["turned"]),
        helper.make_node("Conv", ["turned", "kernel"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["convolved"], ["out"]),
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 3, SIDE, SIDE])]
    for extra, name, wanted in (
        ("image", "seen", read_twice),
        ("kernel", "sizes", kernel_read_twice),
    ):
        if wanted:
            nodes.append(helper.make_node("ReduceMax", [extra], [name], keepdims=0))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, SIDE, SIDE, 1])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answers(model, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"image": images})


@settings(max_examples=20)
@given(
    st.floats(-2, 2, width=32).filter(lambda value: abs(value) > 1e-3),
    st.sampled_from([0.0, None]),
    st.integers(0, 99),
)
def test_the_same_numbers_with_one_pass_less(factor, offset, seed):
    model = graph_of(factor, offset, seed=seed)
    images = np.random.default_rng(seed).integers(0, 256, (2, SIDE, SIDE, 1)).astype(np.float32)
    expected = answers(model, images)[0]
    assert folding.fold_scaling(model)
    checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Reshape", "Conv", "Relu"]
    assert {tensor.name for tensor in model.graph.initializer} == {"shape", "kernel"}
    np.testing.assert_allclose(
        answers(model, images)[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    "other", [{"offset": 1.0}, {"read_twice": True}, {"kernel_read_twice": True}]
)
def test_another_graph_is_left_as_it_is(other):
    model = graph_of(1 / 255, **other)
    before = model.SerializeToString()
    assert not folding.fold_scaling(model) and model.SerializeToString() == before
