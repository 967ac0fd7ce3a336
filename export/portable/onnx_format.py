"""ONNX: conversion by tf2onnx, and ONNX Runtime."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from export.errors import ExportError
from export.portable.networks import Arrays, Network
from tf_mopoe.models import MultimodalVAE

EXTENSION = "onnx"
#: The newest operator set that tf2onnx writes.
OPSET = 18


def convert(network: Network, model: MultimodalVAE) -> bytes:
    """The network as an ONNX model of standard operators.

    Raises:
      ExportError: If an input and an output have the same name, which ONNX forbids.
    """
    del model  # tf2onnx finds the variables by itself
    for name in network.inputs.keys() & set(network.outputs):
        raise ExportError(
            f"onnx can't hold {network.name}: a modality named {name!r} would be both "
            "an input and an output. Rename it, or take the format 'litert'."
        )
    names, specs = list(network.inputs), list(network.inputs.values())

    @tf.function(input_signature=specs)
    def function(*values):
        return network.function(dict(zip(names, values)))

    with _quiet():
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=specs,
            opset=OPSET,
            custom_op_handlers={op: (write, []) for op, write in HANDLERS.items()},
        )
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "B"
    return proto.SerializeToString()


def load(content: bytes) -> Callable[[Arrays], Arrays]:
    """ONNX Runtime's function; inputs may have any number of rows."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda request: dict(zip(names, session.run(names, request)))


def reason(error: Exception) -> str:
    """The first line of the message, which names the operator."""
    message = (str(error).splitlines() or [type(error).__name__])[0]
    return message.rpartition("This is an invalid model. ")[2]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences tf2onnx's tracebacks of optimisations that it then skips."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _select(graph, node, name, _):
    # tf2onnx would multiply by 0 and 1 and add: NaN where an absent value is NaN.
    node.type, node.domain = "Where", ""


def _log1p(graph, node, name, _):
    """log(1 + x): counts are exact in 1 + x."""
    one = _constant(graph, node, 1.0)
    _replace(graph, node, "Log", [_add_node(graph, "Add", node.input[0], one)])


def _expm1(graph, node, name, _):
    """exp(x) - 1 = 2 sinh(x / 2) exp(x / 2), exact also near 0."""
    half = _add_node(graph, "Mul", node.input[0], _constant(graph, node, 0.5))
    two = _constant(graph, node, 2.0)
    twice = _add_node(graph, "Mul", _add_node(graph, "Sinh", half), two)
    _replace(graph, node, "Mul", [twice, _add_node(graph, "Exp", half)])


def _broadcast_args(graph, node, name, _):
    """The shape of zeros of one shape, expanded to the other."""
    to_int64 = {"to": onnx.TensorProto.INT64}
    first, second = (
        graph.make_node("Cast", [shape], attr=to_int64).output[0]
        for shape in node.input
    )
    zeros = _add_node(graph, "ConstantOfShape", first)
    shape = _add_node(graph, "Shape", _add_node(graph, "Expand", zeros, second))
    dtype = graph.get_dtype(node.output[0])
    _replace(graph, node, "Cast", [shape], attr={"to": dtype})


#: TensorFlow's operators that tf2onnx lacks or converts wrongly, and their converters.
HANDLERS = {
    "SelectV2": _select,
    "Log1p": _log1p,
    "Expm1": _expm1,
    "BroadcastArgs": _broadcast_args,
}


def _add_node(graph, kind: str, *inputs: str) -> str:
    return graph.make_node(kind, list(inputs)).output[0]


def _constant(graph, node, value: float) -> str:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(graph.get_dtype(node.input[0]))
    name = tf2onnx.utils.make_name(f"{node.name}/{value}")
    return graph.make_const(name, np.array(value, dtype)).output[0]


def _replace(graph, node, kind: str, inputs: list[str], attr=None) -> None:
    """Replaces a node by one of another kind."""
    dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
    graph.remove_node(node.name)
    graph.make_node(
        kind,
        inputs,
        attr=attr,
        name=node.name,
        outputs=node.output,
        dtypes=[dtype],
        shapes=[shape],
    )
