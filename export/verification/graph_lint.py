"""What the graph of a SavedModel must look like to be served."""

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

#: Ops that a server lacks (Python), that write, or that are random without a seed.
FORBIDDEN = re.compile(
    r"EagerPyFunc|PyFunc(Stateless)?|Print(V2)?|Assign\w*VariableOp"
    r"|Resource(Sparse)?(Apply|Scatter)\w*|Random\w+|TruncatedNormal|Multinomial"
    r"|Stateful(Uniform|StandardNormal|TruncatedNormal|Random)\w*|RngReadAndSkip"
)


class CheckFailed(Exception):
    """A SavedModel that must not be served; the message says why."""


def check_form(signatures) -> None:
    """Checks that the signatures are those of the contract, with the batch first."""
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


def _check_tensor(label: str, tensor) -> None:
    dims = [dim.size for dim in tensor.tensor_shape.dim]
    if not tensor.name:
        raise CheckFailed(f"{label} is not one dense tensor")
    if tensor.tensor_shape.unknown_rank or not dims or dims[0] != -1:
        raise CheckFailed(
            f"{label} has shape {dims}; its first dimension must be the batch"
        )
    if -1 in dims[1:]:
        raise CheckFailed(f"{label} has an unknown dimension in {dims} after the batch")
    if tensor.dtype not in (FLOAT, DOUBLE, INT32, STRING, INT64, BOOL):
        raise CheckFailed(f"{label} has DataType {tensor.dtype}")


def _check_names(signatures) -> None:
    """Checks that inputs and outputs are exactly those of the modalities."""
    modalities = set(signatures[RECONSTRUCT].outputs)
    given = signatures[RECONSTRUCT].inputs
    values = {n + BYTES_SUFFIX if n + BYTES_SUFFIX in given else n for n in modalities}
    flags = {FLAG_PREFIX + name for name in modalities}
    observed = values | flags
    expected = {
        RECONSTRUCT: (observed, modalities),
        ENCODE: (observed, {"loc", "scale"}),
        IMPUTE: (observed | {SEED}, modalities),
        SAMPLE: ({SEED}, modalities),
        LOG_LIKELIHOOD: (
            observed | {SEED},
            {LOG_LIKELIHOOD},
        ),
    }
    for name, names in expected.items():
        for kind, keys in zip(("inputs", "outputs"), names):
            for key in sorted(keys ^ set(getattr(signatures[name], kind))):
                verb = "lacks" if key in keys else "has unexpected"
                raise CheckFailed(f"signature {name!r} {verb} {kind} {key!r}")
        for key, tensor in signatures[name].inputs.items():
            dtype = BOOL if key in flags - values else INT64 if key == SEED else None
            if dtype not in (None, tensor.dtype):
                raise CheckFailed(
                    f"signature {name!r}: input {key!r} has DataType {tensor.dtype}"
                )


def check_ops(meta_graph) -> None:
    """Checks that no signature runs Python, writes, trains or is random by itself."""
    for name in SIGNATURES:
        for node in nodes_of(meta_graph, name):
            # An attribute that is absent has its default: training.
            trains = node.op.startswith("FusedBatchNorm") and (
                "is_training" not in node.attr or node.attr["is_training"].b
            )
            if trains or FORBIDDEN.fullmatch(node.op):
                raise CheckFailed(
                    f"signature {name!r} runs {node.op} ({node.name}), which a server "
                    "can't, or only training does"
                )


def nodes_of(meta_graph, signature: str) -> Iterator:
    """Every `NodeDef` that a signature can run, including those of called functions."""
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    graph = {node.name: node for node in meta_graph.graph_def.node}
    outputs = meta_graph.signature_def[signature].outputs.values()
    waiting = [graph[tensor.name.partition(":")[0]] for tensor in outputs]
    seen = {node.name for node in waiting}
    called: set[str] = set()
    while waiting:
        node = waiting.pop()
        yield node
        for function in (_functions_named(node) & functions.keys()) - called:
            called.add(function)
            waiting.extend(functions[function].node_def)
        if node.name not in graph or graph[node.name] is not node:
            continue  # of a function, all of whose nodes are visited
        for source in node.input:
            source = source.lstrip("^").partition(":")[0]
            if source not in seen:
                seen.add(source)
                waiting.append(graph[source])


def _functions_named(node) -> set[str]:
    names = set()
    for value in node.attr.values():
        names.add(value.func.name)
        names.update(function.name for function in value.list.func)
    return names
