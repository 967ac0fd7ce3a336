"""Everyday mistakes in data: the same clear sentence from every method."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import SIZES, tiny_batch, tiny_model

ROWS = 8
FLAGS = np.ones(ROWS, bool)
EAGER = ("encode", "impute", "posterior", "log_likelihood")
KERAS = ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch")
METHODS = (*EAGER, *KERAS, "predict_on_batch")


@pytest.fixture(scope="module")
def model():
    model = tiny_model()
    model.compile("sgd", run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def traced():
    model = tiny_model()
    model.compile("sgd")
    return model


def call(model, method, data):
    quiet = {"verbose": 0} if method in ("fit", "evaluate", "predict") else {}
    if method == "log_likelihood":
        quiet = {"num_samples": 1}
    return getattr(model, method)(data, **quiet)


def with_b(value):
    return {**tiny_batch(), "b": value}


def with_flag(flag):
    return {**tiny_batch(), "present": {"a": flag}}


B = tiny_batch()["b"]
SHAPE_OF_B = r"'b' must have shape \('B', 4\), B rows. Received: "
MISTAKES = {
    "a row less": (
        with_b(B[:-1]), ValueError, "same number of rows. Received: .*'a': 8, 'b': 7",
    ),
    "a column less": (with_b(B[:, 1:]), ValueError, SHAPE_OF_B + r"\(8, 3\)"),
    "one row": (with_b(B[0]), ValueError, SHAPE_OF_B + r"\(4,\). Give rows"),
    "a pandas column": (with_b(pd.Series(B[:, 0])), ValueError, SHAPE_OF_B),
    "masked values": (
        with_b(np.ma.masked_greater(B, 0)), ValueError, "'b' is a masked .*k_missing",
    ),
    "objects": (with_b(B.astype(object)), TypeError, "'b' must be an array of numbers"),
    "strings": (with_b(B.astype(str)), TypeError, "'b' must be an array of numbers"),
    "pandas' NA": (
        with_b(pd.DataFrame(B).astype("Float32").mask(B > 0)),
        TypeError,
        "'b' must be an array of numbers. Received: DataFrame of dtype object",
    ),
    "None": (with_b(None), TypeError, "'b' must be an array of numbers.*NoneType"),
    "rows of lengths that differ": (
        with_b([[1.0], [1.0, 2.0]]), TypeError, "'b' must be an array of numbers",
    ),
    "a sparse matrix": (
        with_b(scipy.sparse.csr_matrix(B)), TypeError, "'b' must be a dense array",
    ),
    "pixels": (with_b(np.ones([8, 4], "uint8")), TypeError, "uint8.*x / 255"),
    "whole numbers": (with_b(np.ones([8, 4], int)), TypeError, "floating dtype"),
    "quadruple precision": (
        with_b(B.astype(np.longdouble)), TypeError, "'b' must be an array of numbers",
    ),
    "complex numbers": (with_b(B.astype(complex)), TypeError, "floating dtype"),
    "infinity": (with_b(np.full([8, 4], np.inf)), ValueError, "'b' must hold finite"),
    "a number beyond float32": (
        with_b(np.full([8, 4], 1e300)), ValueError, "'b' must hold finite",
    ),
    "flags as numbers": (with_flag(FLAGS * 1), TypeError, "must be bool"),
    "flags as a data frame": (
        with_flag(pd.DataFrame({"a": FLAGS})), ValueError, r"must have shape \(8,\)",
    ),
    "a flag too few": (with_flag(FLAGS[1:]), ValueError, r"must have shape \(8,\)"),
    "masked flags": (
        with_flag(np.ma.masked_array(FLAGS, FLAGS)), ValueError, "masked array",
    ),
    "flags with NA": (
        with_flag(pd.Series([True] * 7 + [None], dtype="boolean")),
        TypeError,
        r"`present\['a'\]` must be an array",
    ),
    "flags without names": (
        {**tiny_batch(), "present": FLAGS}, TypeError, "`present` must be a dictionary",
    ),
    "rows of another pandas index": (
        {
            "a": pd.DataFrame(tiny_batch()["a"]),
            "b": pd.DataFrame(B, index=range(7, -1, -1)),
        },
        ValueError,
        "'a' and 'b' have different pandas indexes",
    ),
    "flags of another pandas index": (
        {
            "a": pd.DataFrame(tiny_batch()["a"]),
            "b": B,
            "present": {"a": pd.Series(FLAGS, index=range(1, 9))},
        },
        ValueError,
        "different pandas indexes",
    ),
    "an array": (B, TypeError, "must be a dictionary of modality name to array"),
    "a list": ([B, B], TypeError, "must be a dictionary"),
    "a data frame": (pd.DataFrame(B), TypeError, "must be a dictionary"),
    "text": ("data.csv", TypeError, "must be a dictionary"),
    "nothing": (None, TypeError, "must be a dictionary"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # Keras's
def test_all_methods_raise_the_same_error(model, mistake):
    data, error, message = MISTAKES[mistake]
    for method in METHODS:
        with pytest.raises(error, match=message) as caught:
            call(model, method, data)
        assert len(str(caught.value)) < 400, method


WIDTHS = [
    {"a": SIZES["a"] + more_a, "b": SIZES["b"] + more_b, "rows_b": ROWS + more_rows}
    for more_a, more_b, more_rows in itertools.product((0, -1, 1), (0, 1), (0, -1, 3))
]


@pytest.mark.integration
@settings(max_examples=60, deadline=None)
@given(
    widths=st.sampled_from(WIDTHS),
    names=st.sampled_from(["ab", "a", "b"]),
    extra=st.sampled_from([None, "c", "presence"]),
    dtype=st.sampled_from(["float32", "float64", "float16", "int32", "uint8", "bool"]),
    method=st.sampled_from(["fit", "evaluate", "predict", "encode"]),
)
def test_data_are_taken_if_and_only_if_they_are_as_declared(
    traced, widths, names, extra, dtype, method
):
    """After a right call, whose compiled step would take other shapes."""
    call(traced, method, tiny_batch())
    data = {
        "a": np.zeros([ROWS, widths["a"]], dtype),
        "b": np.zeros([widths["rows_b"], widths["b"]], dtype),
    }
    data = {name: data[name] for name in names}
    if extra is not None:
        data[extra] = np.zeros([ROWS, 1], "float32")
    right = extra is None and dtype.startswith("float")
    right &= all(widths[name] == SIZES[name] for name in names)
    right &= names != "ab" or widths["rows_b"] == ROWS
    if right:
        call(traced, method, data)
        return
    with pytest.raises((TypeError, ValueError)) as caught:
        call(traced, method, data)
    assert "odalit" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.integration
@pytest.mark.parametrize(
    "flag", [pd.Series(FLAGS), list(FLAGS), tuple(FLAGS), tf.constant(FLAGS)], ids=type
)
def test_flags_of_every_kind_of_sequence_are_taken(model, flag):
    expected = model.encode(with_flag(FLAGS))["loc"]
    for method in ("fit", "evaluate", "predict"):
        call(model, method, with_flag(flag))
    assert expected.shape == model.encode(with_flag(flag))["loc"].shape


def test_lists_and_data_frames_of_numbers_are_taken_as_arrays(model):
    expected = model.predict(tiny_batch(), verbose=0)
    for kind in (np.ndarray.tolist, pd.DataFrame, np.ma.masked_array):
        data = {name: kind(value) for name, value in tiny_batch().items()}
        result = model.predict(data, verbose=0)
        np.testing.assert_allclose(result["a"], expected["a"], rtol=1e-6)


def test_no_rows_are_predicted_as_none_and_not_trained_on(model):
    nothing = tiny_batch(rows=0)
    assert model.predict(nothing, verbose=0)["b"].shape == (0, 4)
    assert model.encode(nothing)["loc"].shape == (0, 2)
    for method in ("fit", "evaluate", "train_on_batch", "test_on_batch"):
        with pytest.raises(ValueError, match="must have rows"):
            call(model, method, nothing)


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


SOURCES = {"generator": lambda batches: (x for x in batches), "PyDataset": Batches}
WRONG_LATER = {
    "other keys": ({"a": tiny_batch()["a"]}, "same entries.*'a'.*after.*'a', 'b'"),
    "other width": (with_b(B[:, 1:]), SHAPE_OF_B),
    "other rows": (with_b(B[1:]), "same number of rows"),
    "masked": (with_b(np.ma.masked_greater(B, 0)), "'b' is a masked array"),
    "NaN": (with_b(np.full_like(B, np.nan)), "'b' must hold finite"),
    "labels": ((tiny_batch(), B), "`y` is not supported"),
    "labels and weights": ((tiny_batch(), B, np.ones(8)), "`y` is not supported"),
}


@pytest.mark.integration
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("mistake", WRONG_LATER)
def test_a_wrong_batch_after_right_ones_is_named(traced, source, mistake):
    batch, message = WRONG_LATER[mistake]
    for method in ("fit", "predict"):
        batches = SOURCES[source]([tiny_batch(), tiny_batch(), batch])
        with pytest.raises((TypeError, ValueError), match=message) as caught:
            call(traced, method, batches)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.filterwarnings("ignore:.*input ran out of data")
def test_weights_may_come_with_batches(traced, source):
    batches = [(tiny_batch(), None, np.zeros(8, "float32"))] * 2
    assert call(traced, "evaluate", SOURCES[source](batches))[0] == 0.0


def dataset(data=None, **kwargs):
    return tf.data.Dataset.from_tensor_slices(tiny_batch() if data is None else data)


WRONG_DATASETS = {
    "rows": (dataset, ValueError, r"'a' must have shape .*dataset.batch\(64\)"),
    "labels": (
        lambda: dataset((tiny_batch(), FLAGS)).batch(4), ValueError, "lambda x, y: x",
    ),
    "arrays": (lambda: dataset(B).batch(4), TypeError, "must be a dictionary"),
    "a wrong key": (lambda: dataset({"aa": B}).batch(4), ValueError, "mean 'a'"),
    "pixels": (
        lambda: dataset(with_b(np.ones([8, 4], "uint8"))).batch(4), TypeError, "/ 255",
    ),
    "nothing": (lambda: dataset().batch(4).take(0), ValueError, "must have batches"),
    "nothing, unknown before": (
        lambda: dataset().filter(lambda x: False).batch(4), ValueError, "have batches",
    ),
}  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("mistake", WRONG_DATASETS)
@pytest.mark.filterwarnings("ignore:.*input ran out of data")
def test_wrong_datasets_are_refused(traced, mistake):
    make, error, message = WRONG_DATASETS[mistake]
    for method in ("fit", "evaluate", "predict"):
        with pytest.raises(error, match=message):
            call(traced, method, make())


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_targets_are_refused(model, method):
    with pytest.raises(ValueError, match="`y` is not supported: this model has no"):
        getattr(model, method)(tiny_batch(), B)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "8"])
def test_batch_sizes_that_are_no_counts_are_refused(model, size):
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises((TypeError, ValueError), match="`batch_size` must be a who"):
            method(tiny_batch(), batch_size=size, verbose=0)


@pytest.mark.integration
@pytest.mark.parametrize("jit_compile", [False, True])
def test_values_are_checked_with_and_without_xla(jit_compile):
    model = tiny_model()
    model.compile("sgd", jit_compile=jit_compile)
    wrong = with_b(np.where(np.eye(8, 4) > 0, np.nan, B).astype("float32"))
    before = model.get_weights()
    for method in ("fit", "evaluate", "predict"):
        with pytest.raises(ValueError, match="'b' must hold finite"):
            call(model, method, wrong)
    assert all(np.array_equal(x, y) for x, y in zip(before, model.get_weights()))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("adam", "mse"), ValueError, "`loss` is not for this model"),
        (("adam", None, "mae"), TypeError, "positional arguments"),
        (("adm",), ValueError, "adm"),
    ],
)
def test_wrong_arguments_of_compile_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        tiny_model().compile(*arguments)


def test_objects_of_the_legacy_package_are_refused():
    import tf_keras

    from tests.tiny_models import tiny_modality

    with pytest.raises(TypeError, match="legacy package `tf_keras`"):
        tiny_modality("a", encoder=tf_keras.layers.Dense(2))
    model = tiny_model()
    with pytest.raises(TypeError, match="legacy package `tf_keras`"):
        model.compile(tf_keras.optimizers.Adam())
    model.compile("sgd")
    with pytest.raises(TypeError, match="legacy package `tf_keras`"):
        model.fit(tiny_batch(), callbacks=[tf_keras.callbacks.EarlyStopping()])


@pytest.mark.integration
def test_validation_data_may_have_other_entries_than_training_data(traced):
    flagged = {**tiny_batch(), "present": {"a": FLAGS}}
    batches = tf.data.Dataset.from_tensors(flagged)
    for validation in (dataset().batch(4), tiny_batch(), {"b": B}):
        history = traced.fit(batches, validation_data=validation, verbose=0).history
        assert np.isfinite(history["val_loss"]).all()
