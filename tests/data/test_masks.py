"""Masks, flags and other marks of missing values are never read as data."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from tf_mopoe import data as library
from tf_mopoe.data import (
    mark_missing,
    ordered_batches,
    shuffled_batches,
    write_tfrecords,
)
from tf_mopoe.data.checks import plain_array

FILL = -999
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
DTYPES = ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"]


def outcome(function):
    """Result of a call, or the type of its error."""
    try:
        return function()
    except ValueError as error:
        return type(error)


@st.composite
def arrays_and_masks(draw, dtypes=DTYPES):
    shape = draw(SHAPES)
    values = draw(
        hnp.arrays(
            draw(st.sampled_from(dtypes)),
            shape,
            elements=st.integers(0, 1),
        )
    )
    return values, draw(hnp.arrays(bool, shape))


@settings(max_examples=150, deadline=None)
@given(case=arrays_and_masks(), partial=st.sampled_from(["error", "missing"]))
def test_a_mask_counts_as_nan(case, partial):
    values, mask = case
    masked = np.ma.array(values, mask=mask)
    holed = np.where(mask, np.nan, values.astype(float))
    actual = outcome(lambda: mark_missing({"x": masked}, partial=partial))
    expected = outcome(lambda: mark_missing({"x": holed}, partial=partial))
    if expected is ValueError:
        assert actual is ValueError
        return
    assert actual.keys() == expected.keys()
    assert type(actual["x"]) is np.ndarray
    assert actual["x"].dtype == values.dtype
    np.testing.assert_array_equal(actual["x"], expected["x"])
    for name, flag in expected.get("present", {}).items():
        np.testing.assert_array_equal(actual["present"][name], flag)


def test_placeholders_do_not_become_data():
    counts = np.ma.masked_equal([[3, 4], [FILL, FILL], [5, 6]], FILL)
    marked = mark_missing({"counts": counts})
    np.testing.assert_array_equal(marked["counts"], [[3, 4], [0, 0], [5, 6]])
    np.testing.assert_array_equal(marked["present"]["counts"], [True, False, True])
    assert marked["counts"].dtype == counts.dtype
    assert FILL in counts.data  # not modified


def test_a_mask_and_nan_in_one_row_together_are_missing():
    x = np.ma.array([[np.nan, FILL], [1.0, 2.0]], mask=[[0, 1], [0, 0]])
    marked = mark_missing({"x": x})
    np.testing.assert_array_equal(marked["present"]["x"], [False, True])
    np.testing.assert_array_equal(marked["x"], [[0, 0], [1, 2]])


def test_a_row_masked_in_part_is_an_error_that_says_so():
    x = np.ma.array([[1, 2], [3, FILL]], mask=[[0, 0], [0, 1]])
    with pytest.raises(ValueError, match="'x'.*row 1 with masked values in 1 of 2"):
        mark_missing({"x": x})


def test_masked_values_of_rows_flagged_missing_are_ignored():
    x = np.ma.array([[1.0, np.inf], [3.0, 4.0]], mask=[[0, 1], [0, 0]])
    marked = mark_missing({"x": x, "present": {"x": np.array([False, True])}})
    np.testing.assert_array_equal(marked["x"], [[0, 0], [3, 4]])


def test_lists_of_masked_rows_keep_their_masks():
    rows = [np.ma.array([FILL, FILL], mask=True), np.ma.array([1, 2])]
    marked = mark_missing({"x": rows})
    np.testing.assert_array_equal(marked["present"]["x"], [False, True])
    with pytest.raises(ValueError, match="masked values"):
        plain_array("x", rows)


def test_lists_of_masked_rows_of_different_lengths_are_refused():
    rows = [np.ma.array([FILL, FILL], mask=True), np.ma.array([1])]
    with pytest.raises(ValueError, match=r"`data\['x'\]`.*different lengths"):
        mark_missing({"x": rows})


def test_masked_flags_are_refused():
    flags = np.ma.array([True, False], mask=[True, False])
    with pytest.raises(ValueError, match=r"`present\['x'\]` has masked .*filled"):
        mark_missing({"x": np.ones([2, 1]), "present": {"x": flags}})


def test_masked_rows_are_not_written_to_files(tmp_path):
    x = np.ma.array([[FILL], [7]], mask=[[1], [0]])
    files = write_tfrecords({"x": x}, tmp_path / "x")
    rows = library.from_tfrecords(files, {"x": tf.io.FixedLenFeature([1], tf.int64)})
    actual = [(int(r["x"][0]), bool(r["present"]["x"])) for r in rows]
    assert actual == [(0, False), (7, True)]


MASKED = np.ma.array(np.zeros([4, 2]), mask=[[1, 1], [0, 0], [0, 0], [0, 0]])
OTHER = np.arange(8.0).reshape(4, 2)
#: Functions of arrays, each with a value `x` in every place of an array.
REFUSING = {
    "drop_at_random": [lambda x: library.drop_at_random({"a": x}, 0.5, seed=0)],
    "drop_by_table": [
        lambda x: library.drop_by_table({"a": x}, np.ones([4, 1], bool)),
        lambda x: library.drop_by_table({"a": OTHER, "b": OTHER}, x),
        lambda x: library.drop_by_table({"a": OTHER}, {"a": x}),
    ],
    "drop_depending_on": [
        lambda x: library.drop_depending_on(
            {"a": x, "b": OTHER}, "a", "b", 0.5, seed=0
        ),
        lambda x: library.drop_depending_on(
            {"a": x, "b": OTHER}, "b", "a", 0.5, seed=0
        ),
        lambda x: library.drop_depending_on(
            {"a": OTHER, "b": OTHER}, "a", "b", 0.5, seed=0, score=lambda _: x
        ),
    ],
    "num_rows": [lambda x: library.num_rows({"a": x})],
    "ordered_batches": [
        lambda x: library.ordered_batches({"a": x}, 2),
        lambda x: library.ordered_batches({"a": OTHER, "present": {"a": x}}, 2),
        lambda x: library.ordered_batches({"a": {"b": x}}, 2),
    ],
    "shuffled_batches": [
        lambda x: library.shuffled_batches({"a": x}, 2, seed=0),
        lambda x: library.shuffled_batches(
            {"a": OTHER, "present": {"a": x}}, 2, seed=0
        ),
    ],
    "decode_text": [library.decode_text],
    "encode_text": [lambda x: library.encode_text(x, 3)],
}
HONOURING = {"mark_missing", "write_tfrecords", "from_anndata"}
#: Classes, constants, and readers of files and tables, which have no arrays.
WITHOUT_ARRAYS = {
    "ALPHABET",
    "DataError",
    "EncodedImage",
    "ImageFolders",
    "PolyDigits",
    "from_frame",
    "from_image_folders",
    "from_tfrecords",
    "load_polydigits",
}


def test_every_function_of_the_library_is_listed():
    assert set(library.__all__) == {*REFUSING, *HONOURING, *WITHOUT_ARRAYS}


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(function, id=f"{name}-{place}")
        for name, functions in REFUSING.items()
        for place, function in enumerate(functions)
    ],
)
def test_masked_and_sparse_arrays_are_refused_with_what_to_do(function):
    with pytest.raises(ValueError, match="has masked values.*(mark_missing|filled)"):
        function(MASKED)
    with pytest.raises(TypeError, match=r"must be a dense array.*`\.toarray\(\)`"):
        function(sparse.csr_matrix(OTHER))
    with pytest.raises(TypeError, match="must be an array of one type"):
        function(np.array([[None, 1.0]] * 4, object))


def test_masked_arrays_without_masked_values_are_plain():
    x = np.ma.array(OTHER)
    [batch] = library.ordered_batches({"a": x}, 4)
    np.testing.assert_array_equal(batch["a"], OTHER)
    marked = mark_missing({"a": x})
    assert list(marked) == ["a"]
    assert type(marked["a"]) is np.ndarray
    assert library.num_rows({"a": x}) == 4


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (tf.sparse.from_dense(OTHER), "tf.sparse.to_dense"),
        (tf.ragged.constant([[1.0], [2.0, 3.0]]), "to_tensor"),
        (sparse.coo_array(OTHER), "toarray"),
    ],
)
@pytest.mark.parametrize("other", [{}, {"b": tf.ones([4, 1])}])
def test_sparse_and_ragged_values_are_refused(value, hint, other):
    with pytest.raises(TypeError, match=f"must be a dense array.*{hint}"):
        mark_missing({"a": value, **other})
    with pytest.raises(TypeError, match=f"must be a dense array.*{hint}"):
        library.num_rows({"a": value})


def test_tensors_of_integers_and_bools_pass_and_texts_are_refused():
    data = {"a": tf.ones([3, 1], tf.int64), "b": tf.ones([3], tf.bool)}
    marked = mark_missing(data)
    assert marked["a"] is data["a"]
    assert marked["present"] == {}
    with pytest.raises(TypeError, match="'c' must be an array of numbers.*string"):
        mark_missing({**data, "c": tf.constant(["x", "y", "z"])})


@pytest.mark.parametrize("make", [np.asarray, tf.constant])
def test_infinity_is_refused_where_it_is_present(make):
    x = make(np.array([[1.0, 2.0], [np.inf, 4.0]]))
    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError), match="'x' must hold finite"
    ):
        mark_missing({"x": x})
    flags = {"x": np.array([True, False])}
    marked = mark_missing({"x": x, "present": flags})
    np.testing.assert_array_equal(marked["x"], [[1, 2], [0, 0]])


def test_pandas_columns_with_missing_entries_are_marked_or_refused():
    pd = pytest.importorskip("pandas", reason="pandas is optional")
    for dtype in ("Int64", "Float64", "float64"):
        series = pd.Series([1, None, 3], dtype=dtype, index=[5, 5, 2])
        for values in (series, series.to_frame()):
            marked = mark_missing({"x": values})
            np.testing.assert_array_equal(marked["present"]["x"], [1, 0, 1])
            np.testing.assert_array_equal(np.ravel(marked["x"]), [1, 0, 3])
    for series in (
        pd.Series([True, None], dtype="boolean"),
        pd.Series([1.0, None], dtype=object),
        pd.Series([pd.NA, 1.0], dtype=object),
        pd.Series(["x", None], dtype="string"),
        pd.Series(pd.Categorical(["x", None])),
        pd.Series(pd.to_datetime(["2020-01-01", None])),
    ):
        with pytest.raises(TypeError, match="must be an array of"):
            mark_missing({"x": series})


@pytest.mark.parametrize(
    "flags",
    [[True, False, True, True], (True, False, True, True)],
)
def test_flags_may_be_lists(flags):
    [batch] = library.ordered_batches({"a": OTHER, "present": {"a": flags}}, 4)
    np.testing.assert_array_equal(batch["present"]["a"], flags)


@pytest.mark.parametrize(
    ("present", "error", "message"),
    [
        ({"a": np.array([1, 0, 1, 1], np.uint8)}, TypeError, "must be bool.*uint8"),
        ({"b": np.ones(4, bool)}, ValueError, r"flag for 'b'.*\['a'\]"),
        (np.ones([4, 1], bool), TypeError, "must be a dictionary of modality name"),
    ],
)
@pytest.mark.parametrize("make", [dict, tf.data.Dataset.from_tensor_slices])
def test_invalid_flags_are_refused(present, error, message, make):
    rows = make({"a": OTHER, "present": present})
    for function in (
        lambda x: library.shuffled_batches(x, 2, seed=0),
        lambda x: library.ordered_batches(x, 2),
        lambda x: library.drop_at_random(x, 0.5, seed=0),
    ):
        with pytest.raises(error, match=message):
            function(rows)


def test_batches_in_place_of_rows_are_refused():
    rows = tf.data.Dataset.from_tensor_slices({"a": OTHER})
    for function in (
        lambda x: library.shuffled_batches(x, 2, seed=0),
        lambda x: library.ordered_batches(x, 2),
        lambda x: library.drop_at_random(x, 0.5, seed=0),
        library.num_rows,
    ):
        with pytest.raises(ValueError, match="dataset of single rows.*unbatch"):
            function(rows.batch(2))
        with pytest.raises(TypeError, match="dataset of dictionaries"):
            function(tf.data.Dataset.range(4))


def test_pandas_rows_of_another_index_are_refused():
    first = pd.DataFrame({"x": [1.0, 2.0]}, index=["p1", "p2"])
    second = pd.DataFrame({"y": [1.0, 2.0]}, index=["p2", "p1"])
    flag = pd.Series([True, False], index=["p2", "p1"])
    for data in ({"a": first, "b": second}, {"a": first, "present": {"a": flag}}):
        with pytest.raises(ValueError, match="different pandas indexes"):
            mark_missing(data)
    assert mark_missing({"a": first, "b": second.iloc[::-1]})["b"].tolist() == [
        [2],
        [1],
    ]


def test_uint8_of_zeros_and_ones_is_refused():
    masks = {"mask": np.eye(4, dtype=np.uint8)}
    for make in (
        lambda: shuffled_batches(masks, 2, seed=0),
        lambda: ordered_batches(masks, 2),
    ):
        with pytest.raises(ValueError, match="holds 0 and 1 only"):
            make()


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (
            lambda batch, seed: {"a": batch["a"]},
            ValueError,
            r"Missing: \['b', 'present'",
        ),
        (lambda batch, seed: {**batch, "present": {}}, ValueError, "Missing:.*'a'"),
        (lambda batch, seed: batch["a"], TypeError, "`augment` must return the batch"),
    ],
)
def test_augment_functions_that_drop_entries_are_refused(augment, error, message):
    rows = {"a": np.ones([4, 2], "f"), "b": np.ones([4, 1], "f")}
    rows["present"] = {"a": np.array([True, False, True, False])}
    with pytest.raises(error, match=message):
        shuffled_batches(rows, 2, seed=0, augment=augment)


def test_steps_beyond_an_epoch_are_refused():
    rows = {"a": np.ones([5, 2], "f")}
    assert (
        next(iter(shuffled_batches(rows, 2, seed=0, first_step=1)))["a"].shape[0] == 2
    )
    with pytest.raises(ValueError, match="`first_step` must be within the 2 batches"):
        shuffled_batches(rows, 2, seed=0, first_step=3)
