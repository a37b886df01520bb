"""Folds the scaling of pixels into the first convolution of an ONNX graph: the same numbers but for rounding, one pass less."""

from typing import Any

import numpy as np


def fold_scaling(model: Any) -> bool:
    """Multiplies the first kernel by what pixels are multiplied with, and takes that multiplication out.

    ONNX Runtime multiplies a square of 500 pixels in longer than its first convolution takes.

    Args:
      model: an onnx.ModelProto, changed in place. Its input "image" is multiplied by one number, perhaps has 0 added, and goes
        through nothing but changes of shape to one convolution.

    Returns:
      whether that was so; else nothing is changed.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    scaling = _only_user(graph, "image")
    if (
        scaling is None
        or scaling.op_type != "Mul"
        or (factor := _number(constants, scaling)) is None
    ):
        return False
    taken, last = [scaling], _only_user(graph, scaling.output[0])
    if last is not None and last.op_type == "Add" and _number(constants, last) == 0.0:
        taken.append(last)
        last = _only_user(graph, last.output[0])
    first = last
    while last is not None and last.op_type in ("Reshape", "Transpose", "Squeeze", "Unsqueeze"):
        last = _only_user(graph, last.output[0])
    if (
        last is None
        or last.op_type != "Conv"
        or last.input[1] not in constants
        or not _alone(graph, last.input[1])
    ):
        return False
    kernel = constants[last.input[1]]
    kernel.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(factor), kernel.name)
    )
    first.input[list(first.input).index(taken[-1].output[0])] = "image"
    for node in taken:
        graph.node.remove(node)
        for name in node.input:
            if name in constants and not any(name in other.input for other in graph.node):
                graph.initializer.remove(constants[name])
    return True


def _only_user(graph: Any, name: str) -> Any | None:
    users = [node for node in graph.node if name in node.input]
    return (
        users[0]
        if len(users) == 1 and all(output.name != name for output in graph.output)
        else None
    )


def _alone(graph: Any, name: str) -> bool:
    return sum(list(node.input).count(name) for node in graph.node) == 1


def _number(constants: dict[str, Any], node: Any) -> float | None:
    from onnx import numpy_helper

    known = [numpy_helper.to_array(constants[name]) for name in node.input if name in constants]
    return float(known[0].reshape(())) if len(known) == 1 and known[0].size == 1 else None
