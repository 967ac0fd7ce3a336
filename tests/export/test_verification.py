"""Every fault of a version is found, and the message says which."""

import functools
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.errors import ExportError
from export.signatures.contract import BATCH_SIZES
from export.verification import session_check, verify
from export.verification.warmup_records import (
    WARMUP,
    WarmupRequest,
    from_record,
    to_record,
)

VALUE = tf.TensorSpec([None, 2], tf.float32, name="a")
FLAG = tf.TensorSpec([None], tf.bool, name="has_a")
SEED = tf.TensorSpec([None], tf.int64, name="seed")


def observed(a, has_a):
    return tf.where(has_a[:, tf.newaxis], a, 0.0)


def noise(seed):
    pairs = tf.bitcast(seed, tf.int32)
    return tf.map_fn(
        lambda s: tf.random.stateless_uniform([2], s, alg="philox"),
        pairs,
        fn_output_signature=tf.float32,
    )


#: A model of one modality, which doubles what it sees: the five signatures.
FUNCTIONS = {
    "serving_default": (lambda a, has_a: {"a": 2 * observed(a, has_a)}, [VALUE, FLAG]),
    "encode": (
        lambda a, has_a: {
            "loc": observed(a, has_a)[:, :1],
            "scale": tf.ones_like(a[:, :1]),
        },
        [VALUE, FLAG],
    ),
    "impute": (
        lambda a, has_a, seed: {"a": observed(a, has_a) + noise(seed)},
        [VALUE, FLAG, SEED],
    ),
    "sample": (lambda seed: {"a": noise(seed)}, [SEED]),
    "log_likelihood": (
        lambda a, has_a, seed: {
            "log_likelihood": tf.cast(tf.reduce_sum(observed(a, has_a), 1), tf.float64)
        },
        [VALUE, FLAG, SEED],
    ),
}
ROWS = 8

pytestmark = pytest.mark.integration


def write(folder, layer=None, **changed):
    """Writes a version whose examples are right, but for the functions changed."""
    functions = {**FUNCTIONS, **changed}
    module = tf.Module()
    module.layer = layer
    module.functions = {
        name: tf.function(function, input_signature=specs)
        for name, (function, specs) in functions.items()
        if function is not None
    }
    tf.saved_model.save(module, str(folder), signatures=module.functions)
    (folder / "assets.extra").mkdir()
    np.savez(folder / session_check.EXAMPLES, **right_examples())
    write_warmup(folder, [(n, rows) for rows in BATCH_SIZES for n in FUNCTIONS])


@functools.cache
def right_examples():
    generator = np.random.default_rng(0)
    present = np.arange(ROWS) % 3 > 0
    inputs = {
        "a": np.where(present[:, None], generator.normal(size=(ROWS, 2)), 0.0),
        "has_a": present,
        "seed": generator.integers(0, 2**60, ROWS),
    }
    inputs["a"] = inputs["a"].astype(np.float32)
    examples = {f"inputs/{key}": value for key, value in inputs.items()}
    for name, (function, specs) in FUNCTIONS.items():
        answer = function(*(tf.constant(inputs[spec.name]) for spec in specs))
        for key, value in answer.items():
            examples[f"outputs/{name}/{key}"] = value.numpy()
    return examples


def write_warmup(folder, records, shape=(2,)):
    values = {"a": (0.0, tf.float32), "has_a": (True, tf.bool), "seed": (0, tf.int64)}
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for name, rows in records:
            inputs = {}
            for spec in FUNCTIONS[name][1]:
                tensor = tf.make_tensor_proto(*values[spec.name])
                for size in (rows, *(shape if spec.name == "a" else ())):
                    tensor.tensor_shape.dim.add(size=size)
                inputs[spec.name] = tensor.SerializeToString()
            writer.write(to_record(WarmupRequest("m", name, inputs)))


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def write_garbage(folder):
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        writer.write(b"\xff\xff")


def cut_examples(folder, rows):
    """All arrays to no rows, or one of them to some."""
    path = folder / session_check.EXAMPLES
    with np.load(path) as archive:
        examples = dict(archive)
    for key in list(examples) if rows == 0 else ["inputs/a"]:
        examples[key] = examples[key][:rows]
    np.savez(path, **examples)


@pytest.fixture(scope="module")
def right_version(tmp_path_factory):
    folder = tmp_path_factory.mktemp("right")
    write(folder)
    return folder


@pytest.fixture
def copied(right_version, tmp_path):
    """A copy of the right version, to be damaged."""
    return shutil.copytree(right_version, tmp_path / "1")


def check(folder, capsys):
    """Exit code and the line that is printed."""
    code = session_check.main(str(folder))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return code, lines[0]


def test_a_right_version_passes(right_version, capsys):
    code, line = check(right_version, capsys)
    # (8 rows alone, 3 of 3, 1 of 64), with zeros and with NaN, for 5 signatures.
    assert (code, line) == (
        0,
        "5 signatures, 120 requests answered as by the model, 35 warm-up records",
    )


def changed(name, function, specs=None):
    return {name: (function, specs or FUNCTIONS[name][1])}


def batch_mean(a, has_a):
    return {"a": 2 * observed(a, has_a) - tf.reduce_mean(observed(a, has_a)) * 1e-2}


def only_alone(a, has_a):
    alone = tf.cast(tf.shape(a)[0] == 1, tf.float32)
    return {"a": 2 * observed(a, has_a) + 0.1 * (1 - alone)}


def leaks(a, has_a):
    flag = tf.cast(has_a, tf.float32)[:, tf.newaxis]
    return {"a": 2 * a * flag}  # 0 * NaN


def python(a, has_a):
    doubled = tf.py_function(lambda x: 2 * x, [observed(a, has_a)], tf.float32)
    return {"a": tf.ensure_shape(doubled, [None, 2])}


def random_values(a, has_a):
    return {"a": 2 * observed(a, has_a) + 0.0 * tf.random.uniform([1, 2])}


def prints(a, has_a):
    tf.print("seen")
    doubled = 2 * observed(a, has_a)
    with tf.control_dependencies([tf.print("seen")]):
        return {"a": tf.identity(doubled)}


FAULTS = {
    "another answer": (
        changed("encode", lambda a, has_a: {"loc": a[:, :1] * 1.01,
                                            "scale": tf.ones_like(a[:, :1])}),
        r"'encode', 1 rows: output 'loc' differs .* \['a'\] are present",
    ),
    "another shape": (
        changed("log_likelihood", lambda a, has_a, seed: {
            "log_likelihood": tf.cast(observed(a, has_a), tf.float64)}),
        r"'log_likelihood', 1 rows: .* is float64 \(1, 2\), the model's float64 \(1,\)",
    ),
    "NaN": (
        changed("serving_default", lambda a, has_a: {"a": a * np.float32(np.nan)}),
        "'serving_default', 1 rows: output 'a' differs",
    ),
    "rows that look at others": (
        changed("serving_default", only_alone), "'serving_default', 3 rows: .* differs"
    ),
    "batch statistics": (
        changed("serving_default", batch_mean), "'serving_default', 1 rows: .* differs"
    ),
    "NaN of absent values": (
        changed("serving_default", leaks),
        "'serving_default', 1 rows, NaN where modalities are absent: .* differs",
    ),
    "a signature too few": ({"sample": (None, [])}, "signature 'sample' is missing"),
    "a signature too many": (
        {"other": (lambda a: {"a": a}, [VALUE])}, "'other' is not of the contract"
    ),
    "an output of another name": (
        changed("sample", lambda seed: {"b": noise(seed)}),
        "'sample' lacks outputs 'a'",
    ),
    "an unnamed output": (
        changed("sample", lambda seed: noise(seed)), "'sample' lacks outputs 'a'"
    ),
    "an input too many": (
        changed("sample", lambda seed, a: {"a": noise(seed)}, [SEED, VALUE]),
        "'sample' has unexpected inputs 'a'",
    ),
    "a scalar": (
        changed("log_likelihood", lambda a, has_a, seed: {
            "log_likelihood": tf.reduce_sum(observed(a, has_a))}),
        "outputs 'log_likelihood' has shape .*must be the batch",
    ),
    "a fixed batch": (
        changed("sample", lambda seed: {"a": tf.zeros([1, 2])}),
        r"outputs 'a' has shape \[1, 2\]",
    ),
    "an unknown dimension": (
        changed("sample", lambda seed: {"a": noise(seed)[:, : tf.shape(seed)[0]]}),
        r"outputs 'a' has an unknown dimension in \[-1, -1\] after the batch",
    ),
    "a seed of 32 bits": (
        changed("sample", lambda seed: {"a": noise(tf.cast(seed, tf.int64))},
                [tf.TensorSpec([None], tf.int32, name="seed")]),
        "input 'seed' has DataType 3",
    ),
    "Python": (changed("serving_default", python), "runs EagerPyFunc"),
    "random values": (changed("serving_default", random_values), "runs RandomUniform"),
    "printing": (changed("serving_default", prints), "runs PrintV2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found_and_named(fault, tmp_path, capsys):
    functions, expected = FAULTS[fault]
    write(tmp_path, **functions)
    code, line = check(tmp_path, capsys)
    assert code == 1
    assert re.search(expected, line), line


def test_batch_normalization_in_training_mode_is_found(tmp_path, capsys):
    def normalized(a, has_a):
        rows = observed(a, has_a)[:, tf.newaxis, tf.newaxis]
        ones, zeros = tf.ones([2]), tf.zeros([2])
        out, _, _ = tf.compat.v1.nn.fused_batch_norm(rows, ones, zeros)
        return {"a": out[:, 0, 0]}

    write(tmp_path, **changed("serving_default", normalized))
    assert "runs FusedBatchNormV3" in check(tmp_path, capsys)[1]


def test_variables_that_a_session_does_not_find_are_refused(tmp_path, capsys):
    layer = keras.layers.Dense(2, use_bias=False)
    layer.build((None, 2))
    layer.kernel.assign(2 * np.eye(2))

    def untracked(a, has_a):
        return {"a": layer(observed(a, has_a))}

    # tf.saved_model.load finds them: it builds Python objects.
    write(tmp_path, layer=layer, **changed("serving_default", untracked))
    code, line = check(tmp_path, capsys)
    assert code == 1
    assert line.startswith("TensorFlow's Session refuses it")
    assert "find variable" in line


def test_a_damaged_graph_is_refused(copied, capsys):
    (copied / "saved_model.pb").write_bytes(b"\n")
    code, line = check(copied, capsys)
    assert code == 1
    assert line.startswith("TensorFlow's Session refuses it")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: (f / WARMUP).unlink(), "tf_serving_warmup_requests is missing"),
        (
            lambda f: write_warmup(f, [("encode", 1)]),
            "no warm-up record of 2 rows for signature 'encode'",
        ),
        (
            lambda f: write_warmup(f, [("encode", 2), ("impute", 1)], shape=(3,)),
            "warm-up record 1 fails",
        ),
        (
            lambda f: write_warmup(
                f, [(n, r) for r in BATCH_SIZES for n in FUNCTIONS] * 29
            ),
            "1015 warm-up records: a server takes 1000",
        ),
        (
            lambda f: (f / WARMUP).write_bytes((f / WARMUP).read_bytes()[:-3]),
            "tf_serving_warmup_requests is damaged",
        ),
        (lambda f: flip(f / WARMUP, 9), "tf_serving_warmup_requests is damaged"),
        (lambda f: flip(f / WARMUP, 20), "tf_serving_warmup_requests is damaged"),
        (lambda f: write_garbage(f), "warm-up record 1 can't be read"),
        (lambda f: cut_examples(f, 0), "examples.npz is damaged: it has no rows"),
        (lambda f: cut_examples(f, 3), "examples.npz is damaged: it has no rows, or"),
        (lambda f: (f / session_check.EXAMPLES).unlink(), "examples.npz is missing"),
        (
            lambda f: (f / session_check.EXAMPLES).write_bytes(b"x"),
            "examples.npz is damaged",
        ),
    ],
)
def test_files_beside_the_graph_are_checked(spoil, expected, copied, capsys):
    spoil(copied)
    code, line = check(copied, capsys)
    assert code == 1
    assert expected in line


def test_process_cannot_import_keras_or_the_library(right_version, monkeypatch):
    assert "5 signatures" in verify.verify(right_version)
    check = verify.CHECK
    for name in verify.FOREIGN:
        code = check.replace("export.verification.session_check", name)
        monkeypatch.setattr(verify, "CHECK", code)
        with pytest.raises(ExportError, match=f"import of {name} halted"):
            verify.verify(right_version)


def test_warmup_records_are_prediction_logs():
    prediction_log_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2"
    )
    tensor = tf.make_tensor_proto([1.0, 2.0])
    request = WarmupRequest("digits", "encode", {"a": tensor.SerializeToString()})
    record = to_record(request)
    log = prediction_log_pb2.PredictionLog.FromString(record)
    assert log.WhichOneof("log_type") == "predict_log"
    assert log.predict_log.request.model_spec.name == "digits"
    assert log.predict_log.request.model_spec.signature_name == "encode"
    read = tf.make_ndarray(log.predict_log.request.inputs["a"])
    np.testing.assert_array_equal(read, [1.0, 2.0])
    assert log.SerializeToString(deterministic=True) == record
    assert from_record(log.SerializeToString()) == request


def test_nan_answers_are_refused_even_if_examples_contain_nan(tmp_path, capsys):
    nan = changed("serving_default", lambda a, has_a: {"a": a * np.float32(np.nan)})
    write(tmp_path, **nan)
    path = tmp_path / session_check.EXAMPLES
    with np.load(path) as archive:
        examples = dict(archive)
    examples["outputs/serving_default/a"][:] = np.nan
    np.savez(path, **examples)
    assert check(tmp_path, capsys)[0] == 1
