"""What a SavedModel must look like to be served; needs no TensorFlow."""

import re
from collections.abc import Iterator

from export.signatures.contract import (
    BYTES_SUFFIX,
    ENCODE,
    FLAG_PREFIX,
    IMPUTE,
    LOG_LIKELIHOOD,
    RECONSTRUCT,
    SAMPLE,
    SEED,
)

METHOD = "tensorflow/serving/predict"
SIGNATURES = (RECONSTRUCT, ENCODE, IMPUTE, SAMPLE, LOG_LIKELIHOOD)

#: DataType of values, flags and seeds.
FLOAT, DOUBLE, INT32, STRING, INT64, BOOL = 1, 2, 3, 7, 9, 10

#: Ops that a server lacks (Python), that write, or that answer differently each time.
FORBIDDEN = re.compile(
    r"EagerPyFunc|PyFunc(Stateless)?|Print(V2)?|Assign\w*VariableOp"
    r"|Resource(Sparse)?(Apply|Scatter)\w*|Random\w+|TruncatedNormal|Multinomial"
    r"|Stateful(Uniform|StandardNormal|TruncatedNormal|Random)\w*|RngReadAndSkip"
)


class CheckFailed(Exception):
    """Says what is wrong with the SavedModel."""


def check_form(signatures) -> None:
    """All five signatures, flat and named as the contract has it, batch first.

    Args:
      signatures: Name to `SignatureDef`.

    Raises:
      CheckFailed: If anything differs.
    """
    for name in SIGNATURES:
        if name not in signatures:
            raise CheckFailed(f"signature {name!r} is missing")
    for name in signatures.keys() - set(SIGNATURES):
        raise CheckFailed(f"signature {name!r} is not of the contract")
    for name, signature in signatures.items():
        if signature.method_name != METHOD:
            raise CheckFailed(
                f"signature {name!r} has method {signature.method_name!r}"
            )
        for kind in ("inputs", "outputs"):
            for key, tensor in getattr(signature, kind).items():
                _check_tensor(f"signature {name!r}: {kind} {key!r}", tensor)
    _check_names(signatures)


def _check_tensor(what: str, tensor) -> None:
    dims = [dim.size for dim in tensor.tensor_shape.dim]
    if not tensor.name:
        raise CheckFailed(f"{what} is not one dense tensor")
    if tensor.tensor_shape.unknown_rank or not dims or dims[0] != -1:
        raise CheckFailed(
            f"{what} has shape {dims}; its first dimension must be the batch"
        )
    if -1 in dims[1:]:
        raise CheckFailed(f"{what} has an unknown dimension in {dims} after the batch")
    if tensor.dtype not in (FLOAT, DOUBLE, INT32, STRING, INT64, BOOL):
        raise CheckFailed(f"{what} has DataType {tensor.dtype}")


def _check_names(signatures) -> None:
    """Inputs and outputs are exactly those of the modalities."""
    modalities = set(signatures[RECONSTRUCT].outputs)
    inputs = signatures[RECONSTRUCT].inputs
    values = {
        name + BYTES_SUFFIX if name + BYTES_SUFFIX in inputs else name
        for name in modalities
    }
    asked = values | {FLAG_PREFIX + name for name in modalities}
    expected = {
        RECONSTRUCT: (asked, modalities),
        ENCODE: (asked, {"loc", "scale"}),
        IMPUTE: (asked | {SEED}, modalities),
        SAMPLE: ({SEED}, modalities),
        LOG_LIKELIHOOD: (asked | {SEED}, {LOG_LIKELIHOOD}),
    }
    for name, both in expected.items():
        for kind, keys in zip(("inputs", "outputs"), both):
            found = getattr(signatures[name], kind)
            for key in sorted(keys ^ set(found)):
                what = "lacks" if key in keys else "has unexpected"
                raise CheckFailed(f"signature {name!r} {what} {kind} {key!r}")
            for key, tensor in found.items():
                flag = key.startswith(FLAG_PREFIX) and key not in values
                wanted = BOOL if flag else INT64 if key == SEED else None
                if kind == "inputs" and wanted not in (None, tensor.dtype):
                    raise CheckFailed(
                        f"signature {name!r}: input {key!r} has DataType {tensor.dtype}"
                    )


def check_ops(meta_graph) -> None:
    """No signature runs Python, writes a variable, trains or rolls dice.

    Args:
      meta_graph: `MetaGraphDef`.

    Raises:
      CheckFailed: If one does.
    """
    for name in SIGNATURES:
        for node in nodes_of(meta_graph, name):
            # An attribute that is not there has its default: training.
            trains = node.op.startswith("FusedBatchNorm") and (
                "is_training" not in node.attr or node.attr["is_training"].b
            )
            if trains or FORBIDDEN.fullmatch(node.op):
                raise CheckFailed(
                    f"signature {name!r} runs {node.op} ({node.name}), which a server "
                    "can't, or only training does"
                )


def nodes_of(meta_graph, signature: str) -> Iterator:
    """Every `NodeDef` that a signature can run, those of functions called too."""
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    graph = {node.name: node for node in meta_graph.graph_def.node}
    outputs = meta_graph.signature_def[signature].outputs.values()
    waiting = [tensor.name.partition(":")[0] for tensor in outputs]
    seen, called = set(waiting), set()
    while waiting:
        node = graph[waiting.pop()]
        yield node
        called |= _functions_named(node) & functions.keys()
        for source in node.input:
            source = source.lstrip("^").partition(":")[0]
            if source not in seen:
                seen.add(source)
                waiting.append(source)
    queue = list(called)
    while queue:
        for node in functions[queue.pop()].node_def:
            yield node
            more = (_functions_named(node) & functions.keys()) - called
            called |= more
            queue.extend(more)


def _functions_named(node) -> set[str]:
    names = set()
    for value in node.attr.values():
        names.add(value.func.name)
        names.update(function.name for function in value.list.func)
    return names
