"""Calls of signatures as functions, without a SavedModel."""

import numpy as np
import tensorflow as tf

from export.signatures.signatures import make_signatures


def ask(model, name, request, **options):
    """Runs a signature's function as it is; the published graph has its own tests."""
    signature = make_signatures(model, **options)[name]
    flat = {
        key: tf.constant(request[key], spec.dtype)
        for key, spec in signature.inputs.items()
    }
    function = signature.function
    if len(request["seed"]) > 100:  # many rows' draws are slow outside of a graph
        function = tf.function(function, input_signature=[signature.inputs])
    return {key: value.numpy() for key, value in function(flat).items()}


def request_of(model, batch, seed=0, **flags):
    """A request of a complete batch; flags say what is present."""
    rows = len(next(iter(batch.values())))
    request = {"seed": np.arange(seed, seed + rows)}
    for name in model.modality_names:
        request[name] = batch[name]
        request[f"has_{name}"] = np.broadcast_to(flags.get(name, True), [rows]).copy()
    return request


def as_batch(model, request):
    names = model.modality_names
    present = {name: request[f"has_{name}"] for name in names}
    return {**{name: request[name] for name in names}, "present": present}


def assert_same(answer, expected):
    assert answer.keys() == expected.keys()
    for name in answer:
        np.testing.assert_allclose(
            answer[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name
        )
