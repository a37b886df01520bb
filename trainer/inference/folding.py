"""Folds the scaling of pixels into the first convolution of an ONNX graph.

folding.fold_scaling(onnx_model)  # same numbers up to rounding, one pass over the image less
"""

import numpy as np
import onnx
from onnx import numpy_helper

# They move pixels and leave their values.
_SHAPE_OPERATORS = {"Reshape", "Transpose", "Squeeze", "Unsqueeze"}


def fold_scaling(model: onnx.ModelProto) -> bool:
    """Multiplies the first kernel by the pixel scale and removes the multiplication.

    ONNX Runtime takes longer to multiply a square of 500 pixels than for its first convolution.

    Args:
      model: changed in place. Its input "image" is multiplied by one number, may have 0 added, and
        goes only through changes of shape to one convolution.

    Returns:
      Whether the graph has that form; otherwise nothing is changed.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = _reading_chain(graph)
    operators = [node.op_type for node in nodes]
    if operators[:1] != ["Mul"] or operators[-1] != "Conv":
        return False
    factor = _constant_operand(constants, nodes[0])
    # keras.layers.Rescaling adds its offset even if that is 0.
    adds_zero = operators[1] == "Add" and _constant_operand(constants, nodes[1]) == 0.0
    removed = nodes[:2] if adds_zero else nodes[:1]
    between = set(operators[len(removed) : -1])
    kernel = constants.get(nodes[-1].input[1])
    if (
        factor is None
        or kernel is None
        or not between <= _SHAPE_OPERATORS
        # Another reader of the kernel would see it scaled.
        or _count_reads(graph, kernel.name) != 1
    ):
        return False
    scaled = numpy_helper.to_array(kernel) * np.float32(factor)
    kernel.CopyFrom(numpy_helper.from_array(scaled, kernel.name))
    inputs = nodes[len(removed)].input
    inputs[list(inputs).index(removed[-1].output[0])] = "image"
    for node in removed:
        graph.node.remove(node)
        for name in node.input:
            if name in constants and not _count_reads(graph, name):
                graph.initializer.remove(constants[name])
    return True


def _reading_chain(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    # Lists the nodes from "image" to the first convolution, each the only reader of the last.
    nodes: list[onnx.NodeProto] = []
    name = "image"
    while not nodes or nodes[-1].op_type != "Conv":
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1 or any(output.name == name for output in graph.output):
            break
        nodes += readers
        name = readers[0].output[0]
    return nodes


def _count_reads(graph: onnx.GraphProto, name: str) -> int:
    return sum(list(node.input).count(name) for node in graph.node)


def _constant_operand(constants: dict[str, onnx.TensorProto], node: onnx.NodeProto) -> float | None:
    # Returns the one constant input of a node, if it is one number.
    operands = [numpy_helper.to_array(constants[name]) for name in node.input if name in constants]
    return operands[0].item() if len(operands) == 1 and operands[0].size == 1 else None
