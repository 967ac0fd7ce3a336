"""Files for LiteRT and ONNX give the model's answers, or are not written."""

import numpy as np
import pytest
import tensorflow as tf

from export.errors import ExportError
from export.portable import FORMATS, write_portable
from export.portable.networks import Network, networks_of
from tests.tiny_models import FAMILY, LATENT_DIM, tiny_modality, tiny_model
from tf_mopoe import Modality, MoPoEVAE, nets
from tf_mopoe.subsets import SubsetSampler

#: Format to the ending of its files and the packages it needs.
PACKAGES = {
    "litert": ("tflite", ["ai_edge_litert"]),
    "onnx": ("onnx", ["onnx", "onnxruntime", "tf2onnx"]),
}
pytestmark = pytest.mark.integration

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(params=sorted(FORMATS), scope="module")
def format(request):
    for package in PACKAGES[request.param][1]:
        pytest.importorskip(package, reason=f"pip install tf-mopoe[{request.param}]")
    return request.param


def run_file(path, feed):
    """What the runtime itself answers: no code of the exporter's."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feed)))
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path)).get_signature_runner()(**feed)


@pytest.fixture(scope="module")
def model():
    """An image with a style, and class indices."""
    image = Modality(
        "i", (8, 8, 1), style_dim=2, likelihood="laplace", likelihood_scale=0.5
    )
    indices = {"likelihood": "integer_categorical", "num_classes": 5}
    model = MoPoEVAE([image, Modality("c", (2,), **indices)], LATENT_DIM, seed=0)
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(0.05 * random.normal(size=variable.shape))
    return model


@pytest.fixture(scope="module")
def folder(model, format, tmp_path_factory):
    return write_portable(model, tmp_path_factory.mktemp("files") / "new", format)


def test_one_file_for_the_encoders_and_one_for_each_decoder(folder, format):
    names = ["decode_c", "decode_i", "encode"]
    ending = PACKAGES[format][0]
    assert sorted(p.name for p in folder.iterdir()) == [f"{n}.{ending}" for n in names]
    assert list(folder.parent.iterdir()) == [folder]


def test_encode_answers_as_the_model_where_rows_miss_different_modalities(
    model, folder, format
):
    random = np.random.default_rng(1)
    batch = {
        "i": random.random([5, 8, 8, 1], np.float32),
        "c": random.integers(0, 5, [5, 2], np.int32),
    }
    flags = {
        "i": np.array([True, False, True, True, False]),
        "c": np.array([True, True, False, True, False]),
    }
    expected = model.encode({**batch, "present": flags})
    batch["i"][~flags["i"]] = np.nan
    batch["c"][~flags["c"]] = -1
    feed = {**batch, **{f"has_{name}": flag for name, flag in flags.items()}}
    path = folder / f"encode.{PACKAGES[format][0]}"
    answer = run_file(path, feed)
    assert set(answer) == {"loc", "scale"}
    for key in answer:
        np.testing.assert_allclose(answer[key], expected[key], **TOLERANCE)
    feed["i"][2, 0, 0, 0] = np.nan  # present: this row alone has no answer
    spoilt = run_file(path, feed)["loc"]
    assert np.isnan(spoilt[2]).all()
    np.testing.assert_array_equal(
        np.delete(spoilt, 2, 0), np.delete(answer["loc"], 2, 0)
    )


@pytest.mark.parametrize("name", ["i", "c"])
def test_decoders_answer_as_the_model(model, folder, format, name):
    random = np.random.default_rng(2)
    feed = {"z": random.standard_normal([4, LATENT_DIM], np.float32)}
    if name == "i":
        feed["style"] = random.standard_normal([4, 2], np.float32)
    answer = run_file(folder / f"decode_{name}.{PACKAGES[format][0]}", feed)
    expected = model.decode_modality(name, feed["z"], feed.get("style"))
    np.testing.assert_allclose(answer[name], expected, **TOLERANCE)
    assert list(answer) == [name]


def test_refusal_names_the_operator_in_one_line_and_leaves_nothing(format, tmp_path):
    model = tiny_model("abc", subsets=SubsetSampler(3))  # draws by bit arithmetic
    with pytest.raises(ExportError, match=r"can't hold encode: .*Shift") as error:
        write_portable(model, tmp_path / "new", format)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def converted(function, inputs):
    """A function through ONNX, with no model around it."""
    from export.portable import onnx_format

    specs = {
        key: tf.TensorSpec([None, *value.shape[1:]], value.dtype, name=key)
        for key, value in inputs.items()
    }
    network = Network("f", lambda f: {"y": function(**f)}, specs, ("y",), [])
    return onnx_format.load(onnx_format.convert(network, None))(inputs)["y"]


def test_onnx_has_the_functions_that_its_converter_lacks():
    pytest.importorskip("tf2onnx", reason="pip install tf-mopoe[onnx]")
    x = np.float32([[-80.0, -1.0, -1e-6, 0.0], [1e-6, 0.5, 20.0, 80.0]])
    got = converted(lambda x: tf.math.expm1(x), {"x": x})
    np.testing.assert_allclose(got, np.expm1(x.astype("float64")), rtol=1e-5)
    counts = np.float32([[0.0, 1.0, 65504.0, 1e9]])
    got = converted(lambda x: tf.math.log1p(x), {"x": counts})
    np.testing.assert_allclose(got, np.log1p(counts.astype("float64")), rtol=1e-6)


def test_shapes_of_different_rank_are_broadcast_in_onnx():
    pytest.importorskip("tf2onnx", reason="pip install tf-mopoe[onnx]")

    def function(x):
        shapes = tf.shape(x), tf.shape(x)[1:]
        first = tf.raw_ops.BroadcastArgs(s0=shapes[0], s1=shapes[1])
        second = tf.raw_ops.BroadcastArgs(s0=shapes[1], s1=first)
        return tf.stack([first, second])

    got = converted(function, {"x": np.zeros([2, 3], np.float32)})
    np.testing.assert_array_equal(got, [[2, 3], [2, 3]])
    assert got.dtype == np.int32


def test_onnx_refuses_a_name_that_would_be_input_and_output():
    pytest.importorskip("tf2onnx", reason="pip install tf-mopoe[onnx]")
    from export.portable import onnx_format

    model = tiny_model([tiny_modality("z", (3,))])
    _, decoder = networks_of(model)
    with pytest.raises(ExportError, match="'z' would be both an input and an output"):
        onnx_format.convert(decoder, model)


@pytest.mark.slow
@pytest.mark.parametrize("cls", FAMILY)
def test_every_model_of_the_family_is_written(format, cls, tmp_path):
    write_portable(tiny_model("abc", cls=cls), tmp_path / "new", format)


def modalities(kind):
    if kind == "counts":
        names = "negative_binomial", "zero_inflated_negative_binomial"
        return [Modality(name, (6,), likelihood=name) for name in names]
    if kind == "numbers":
        likelihoods = "continuous_bernoulli", "bernoulli", "student_t"
        return [Modality(name, (6,), likelihood=name) for name in likelihoods]
    if kind == "tables":
        kinds = [("normal", 2), ("poisson", 1), ("categorical", 2)]
        return [Modality("t", (5,), likelihood=kinds), Modality("u", (2,), style_dim=1)]
    if kind == "images":
        shapes = (28, 28, 3), (32, 32, 3), (64, 64, 3)
        return [Modality(f"i{shape[0]}", shape) for shape in shapes]
    indices = {"likelihood": "integer_categorical", "num_classes": 71}
    networks = {"encoder": nets.text_encoder(), "decoder": nets.text_decoder(4)}
    return [
        Modality("one_hot", (8, 71), likelihood="categorical"),
        Modality("indices", (8,), **indices, **networks),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["counts", "numbers", "tables", "images", "text"])
def test_every_kind_of_modality_is_written(format, kind, tmp_path):
    model = MoPoEVAE(modalities(kind), 4, seed=0)
    write_portable(model, tmp_path / "new", format)
