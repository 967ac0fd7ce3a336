"""OpenVINO, another runtime that reads SavedModels, agrees on `serving_default`."""

import numpy as np
import pytest
import tensorflow as tf

from export.publication.publish import write_saved_model
from export.signatures.contract import ENCODE, RECONSTRUCT
from export.signatures.signatures import make_signatures
from export.verification.graph_lint import SIGNATURES
from tests.tiny_models import FAMILY, tiny_model
from tf_mopoe import Modality, MoPoEVAE

openvino = pytest.importorskip("openvino", reason="pip install tf-mopoe[openvino]")

pytestmark = pytest.mark.integration

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def compiled(model, folder, names=(RECONSTRUCT, ENCODE)):
    """`serving_default` in OpenVINO, as a function of the request."""
    signatures = make_signatures(model, num_samples=3)
    signatures = {name: signatures[name] for name in names}
    write_saved_model(model, signatures, folder)
    core = openvino.Core()
    # Processors that have bfloat16 would compute in it.
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    network = core.compile_model(core.read_model(folder), "CPU")

    def run(request):
        answer = network(request)
        # Outputs of a name that an input has already come as `<name>_1`.
        return {o.any_name.removesuffix("_1"): answer[o] for o in network.outputs}

    return run, signatures[RECONSTRUCT].function


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """An image with a style, class indices, and a table of counts and classes."""
    classes = {"likelihood": "integer_categorical", "num_classes": 5}
    table = {"likelihood": [("poisson", 1), ("categorical", 2)]}
    modalities = [
        Modality("i", (8, 8, 1), style_dim=2, likelihood="laplace"),
        Modality("c", (2,), **classes),
        Modality("t", (3,), **table),
    ]
    model = MoPoEVAE(modalities, latent_dim=2, seed=0)
    return compiled(model, tmp_path_factory.mktemp("saved"))


def request(rows, present):
    """Random values; NaN or -1 where a modality is absent."""
    random = np.random.default_rng(rows)
    table = np.float32([[4, 0, 1], [0, 1, 0], [100, 0, 1]])
    values = {
        "i": random.random([rows, 8, 8, 1], np.float32),
        "c": random.integers(0, 5, [rows, 2], np.int32),
        "t": table[:rows],
    }
    flags = dict(zip("ict", np.array(present, bool).T))
    for name, flag in flags.items():
        values[name][~flag] = -1 if name == "c" else np.nan
    return {**values, **{f"has_{name}": flag for name, flag in flags.items()}}


def assert_agrees(served, feed):
    run, function = served
    expected = function({key: tf.constant(value) for key, value in feed.items()})
    answer = run(feed)
    assert set(answer) == set(expected)
    for name, value in answer.items():
        np.testing.assert_allclose(value, expected[name], **TOLERANCE)


@pytest.mark.parametrize("present", list(np.ndindex(2, 2, 2)))
def test_single_row_is_answered_as_by_the_model(kinds, present):
    assert_agrees(kinds, request(1, [present]))


@pytest.mark.parametrize(
    "present",
    [
        [(1, 1, 1), (1, 1, 1), (1, 1, 1)],
        [(1, 0, 1), (0, 1, 1), (1, 1, 0)],
        [(1, 0, 0), (0, 0, 0), (0, 0, 1)],
    ],
)
def test_rows_that_miss_different_modalities_are_answered_as_by_the_model(
    kinds, present
):
    assert_agrees(kinds, request(3, present))


@pytest.mark.slow
@pytest.mark.parametrize("cls", FAMILY)
def test_every_model_of_the_family_is_answered_for(cls, tmp_path):
    served = compiled(tiny_model("ab", cls=cls), tmp_path, SIGNATURES)
    random = np.random.default_rng(0)
    feed = {
        "a": random.standard_normal([3, 3], np.float32),
        "b": np.full([3, 4], np.nan, np.float32),
        "has_a": np.array([True, False, True]),
        "has_b": np.zeros(3, bool),
    }
    assert_agrees(served, feed)
