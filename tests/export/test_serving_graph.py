"""The ops and variables of each signature, read from the graph of a SavedModel."""

import re

import keras
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export.publication.publish import write_saved_model
from export.signatures.contract import (
    ENCODE,
    IMPUTE,
    LOG_LIKELIHOOD,
    RECONSTRUCT,
    SAMPLE,
)
from export.signatures.signatures import make_signatures
from export.verification.graph_lint import SIGNATURES, nodes_of
from tests.tiny_models import LATENT_DIM, tiny_model

pytestmark = pytest.mark.integration


def noisy_encoder():
    """Layers that are random and collect statistics only in training."""
    layers = [keras.layers.Dense(5), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dropout(0.5)])


def noisy_decoder():
    layers = [keras.layers.GaussianNoise(1.0), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((LATENT_DIM + 2,)), *layers])


@pytest.fixture(scope="module")
def model():
    options = {
        "a": {"encoder": noisy_encoder()},
        "b": {"decoder": noisy_decoder(), "style_dim": 2},
    }
    model = tiny_model("ab", options=options)
    model.compile(keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def nodes(model, tmp_path_factory):
    """Signature name to the nodes of its graph and of all functions it calls."""
    folder = tmp_path_factory.mktemp("saved")
    write_saved_model(model, make_signatures(model, num_samples=3), folder)
    content = (folder / "saved_model.pb").read_bytes()
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return {name: list(nodes_of(meta_graph, name)) for name in SIGNATURES}


def variables(nodes):
    """Paths of the variables read; TensorFlow numbers the names it has seen before."""
    names = [n.attr["shared_name"].s.decode() for n in nodes if n.op == "VarHandleOp"]
    return {re.sub(r"_\d+$", "", name) for name in names}


def paths(layers):
    """Those of the layers' variables, but the seeds of what only training draws."""
    every = {variable.path for layer in layers for variable in layer.variables}
    return {path for path in every if "seed_generator" not in path}


def test_encode_runs_every_encoder_and_no_decoder(nodes, model):
    read = variables(nodes[ENCODE])
    assert read >= paths(
        [*model.networks.encoders.values(), *model.networks.experts.values()]
    )
    assert not read & paths(model.networks.decoders.values())


def test_sample_runs_every_decoder_and_no_encoder(nodes, model):
    read = variables(nodes[SAMPLE])
    assert read >= paths(model.networks.decoders.values())
    assert not read & paths(
        [
            *model.networks.encoders.values(),
            *model.networks.experts.values(),
            *model.networks.style_experts.values(),
        ]
    )


@pytest.mark.parametrize("name", [RECONSTRUCT, IMPUTE, LOG_LIKELIHOOD])
def test_the_others_run_encoders_and_decoders(nodes, model, name):
    networks = [
        *model.networks.encoders.values(),
        *model.networks.experts.values(),
        *model.networks.decoders.values(),
    ]
    assert variables(nodes[name]) >= paths(networks)


@pytest.mark.parametrize("name", SIGNATURES)
def test_no_signature_touches_the_optimizer_or_metrics(nodes, model, name):
    networks = [
        *model.networks.encoders.values(),
        *model.networks.experts.values(),
        *model.networks.decoders.values(),
    ]
    networks += model.networks.style_experts.values()
    assert variables(nodes[name]) <= paths(networks)
    assert model.optimizer.variables


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_op_is_tensorflows_own(nodes, name):
    assert all(hasattr(tf.raw_ops, node.op) for node in nodes[name])


@pytest.mark.parametrize("name", SIGNATURES)
def test_nothing_trains_writes_prints_or_runs_python(nodes, name):
    ops = {node.op for node in nodes[name]}
    words = r"Apply|Assign|Resource.*Scatter|Print|PyFunc|\w+Grad$|Rng|Save|Queue"
    assert not {op for op in ops if re.search(words, op)}


@pytest.mark.parametrize("name", [RECONSTRUCT, ENCODE])
def test_answers_without_a_seed_are_not_random(nodes, name):
    assert not {node.op for node in nodes[name] if re.search("Random|Xor", node.op)}


@pytest.mark.parametrize("name", SIGNATURES)
def test_random_numbers_depend_only_on_the_seed(nodes, name):
    ops = {node.op for node in nodes[name]}
    assert not [op for op in ops if "Random" in op]  # Threefry is made of plain ops
    assert ("BitwiseXor" in ops) == (name not in (RECONSTRUCT, ENCODE))


@pytest.mark.parametrize("name", [RECONSTRUCT, ENCODE, IMPUTE, SAMPLE])
def test_no_row_can_fail_a_batch_by_its_values(nodes, name):
    # TensorFlow's own log-probability of class indices asserts shapes; no values.
    assert not {node.op for node in nodes[name]} & {"Assert", "CheckNumericsV2"}
