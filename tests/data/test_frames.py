"""pandas tables: numbers, categories, missing values, errors."""

import datetime
import pathlib
import re

import numpy as np
import pytest

from tests.tiny_models import loss_and_gradients, tiny_modality, tiny_model
from tf_mopoe.data import annotated, frames
from tf_mopoe.data.frames import from_frame

pd = pytest.importorskip("pandas", reason="pandas is optional")

NAN = np.nan


def frame():
    return pd.DataFrame(
        {
            "age": [31, 54, 7],
            "weight": [80.5, NAN, 22.0],
            "smokes": [True, False, False],
            "colour": pd.Categorical(
                ["red", None, "blue"], categories=["red", "green", "blue"]
            ),
        },
        index=[7, 7, 3],
    )


def test_numbers_and_bools_become_float32_columns_in_the_order_given():
    data = from_frame(frame(), {"a": ["smokes", "age"], "b": ("age",)})
    assert data["a"].dtype == data["b"].dtype == np.float32
    np.testing.assert_array_equal(data["a"], [[1, 31], [0, 54], [0, 7]])
    np.testing.assert_array_equal(data["b"], [[31], [54], [7]])
    assert list(data) == ["a", "b"]  # no holes: no flags


def test_categories_become_one_hot_columns_in_pandas_order_used_or_not():
    data = from_frame(frame(), {"colour": ["colour"]})
    np.testing.assert_array_equal(data["colour"], [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(data["present"]["colour"], [True, False, True])
    mixed = from_frame(frame().iloc[[0, 2]], {"all": ["weight", "colour", "age"]})
    np.testing.assert_array_equal(mixed["all"], [[80.5, 1, 0, 0, 31], [22, 0, 0, 1, 7]])


def test_a_row_without_any_of_its_columns_is_missing():
    data = from_frame(frame(), {"a": ["weight", "colour"], "b": ["weight"]})
    np.testing.assert_array_equal(data["a"], [[80.5, 1, 0, 0], [0] * 4, [22, 0, 0, 1]])
    np.testing.assert_array_equal(data["b"], [[80.5], [0], [22]])
    for name in "ab":
        np.testing.assert_array_equal(data["present"][name], [True, False, True])


def test_a_row_that_is_missing_in_part_is_an_error_or_missing():
    modalities = {"a": ["age", "weight"]}
    with pytest.raises(ValueError, match="'a'.*row 1 with NaN in 1 of 2 values"):
        from_frame(frame(), modalities)
    data = from_frame(frame(), modalities, partial="missing")
    np.testing.assert_array_equal(data["a"], [[31, 80.5], [0, 0], [7, 22]])
    np.testing.assert_array_equal(data["present"]["a"], [True, False, True])
    with pytest.raises(ValueError, match=r"`partial`.*'drop'"):
        from_frame(frame(), modalities, partial="drop")


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("Int64", [1, None, 3], [1, 0, 3]),
        ("UInt8", [1, None, 3], [1, 0, 3]),
        ("Float64", [1.5, None, 3], [1.5, 0, 3]),
        ("boolean", [True, None, False], [1, 0, 0]),
        ("Sparse[float]", [1.0, NAN, 0.0], [1, 0, 0]),
        ("float16", [1.0, NAN, 0.5], [1, 0, 0.5]),
    ],
)
def test_other_dtypes_of_numbers_may_have_missing_values(dtype, values, expected):
    table = pd.DataFrame({"x": pd.Series(values, dtype=dtype)})
    data = from_frame(table, {"x": ["x"]})
    assert data["x"].dtype == np.float32
    np.testing.assert_array_equal(data["x"][:, 0], expected)
    np.testing.assert_array_equal(data["present"]["x"], [True, False, True])


def test_columns_may_have_any_names_and_be_given_as_an_index():
    table = pd.DataFrame(np.arange(6.0).reshape(2, 3), columns=[10, ("a", "b"), "c"])
    data = from_frame(table, {"x": table.columns[1:], "y": [10]})
    np.testing.assert_array_equal(data["x"], [[1, 2], [4, 5]])
    np.testing.assert_array_equal(data["y"], [[0], [3]])


def test_the_frame_is_not_modified_and_shares_no_memory():
    table = frame()
    data = from_frame(table, {"age": ["age"], "weight": ["weight"]})
    data["age"][:] = -1
    data["weight"][:] = -1
    pd.testing.assert_frame_equal(table, frame())
    same = pd.DataFrame({"x": np.ones(3, np.float32)})
    from_frame(same, {"x": ["x"]})["x"][:] = -1
    assert (same["x"] == 1).all()


def test_an_unknown_column_is_named_with_the_nearest_known_one():
    with pytest.raises(ValueError, match="'wieght', which modality 'a' lists. Did you"):
        from_frame(frame(), {"a": ["age", "wieght"]})
    with pytest.raises(ValueError, match=r"'xyz'.*It has \['age', 'weight', 'smo"):
        from_frame(frame(), {"a": ["xyz"]})
    wide = pd.DataFrame(np.zeros([1, 14]), columns=[f"c{i}" for i in range(14)])
    with pytest.raises(ValueError, match="'c9'] and 4 more"):
        from_frame(wide, {"a": ["xyz"]})


@pytest.mark.parametrize(
    ("values", "example"),
    [
        (["x", None, "y"], "'x'"),
        ([None, 1.0, "y"], "object, such as 1.0"),
        ([None, None, None], "object"),
        (pd.Series(["x", None, "y"], dtype="string"), "'x'"),
        (pd.to_datetime(["2020-01-02"] * 3), "datetime64.*2020-01-02"),
        ([datetime.date(2020, 1, 2)] * 3, "2020, 1, 2"),
        (pd.to_timedelta([1, 2, 3], unit="h"), "timedelta"),
        ([1j, 2, 3], "complex"),
    ],
)
def test_columns_of_other_dtypes_are_refused_with_advice(values, example):
    table = pd.DataFrame({"x": values})
    with pytest.raises(TypeError, match=f"Column 'x' of modality 'a'.*{example}") as e:
        from_frame(table, {"a": ["x"]})
    for advice in ("astype('category')", "to_numeric", "days"):
        assert advice in str(e.value)


@pytest.mark.parametrize(
    ("table", "modalities", "error", "message"),
    [
        ({"x": [1]}, {"a": ["x"]}, TypeError, "pandas DataFrame. Received: builtins.d"),
        (np.ones([2, 1]), {"a": [0]}, TypeError, "numpy.ndarray"),
        (pd.Series([1], name="x"), {"a": ["x"]}, TypeError, "Series"),
        (frame().iloc[:0], {"a": ["age"]}, ValueError, "at least one row"),
        (frame(), ["age"], TypeError, "`modalities` must be a dictionary.*list"),
        (frame(), {}, ValueError, "at least one modality"),
        (frame(), {"present": ["age"]}, ValueError, "key of the flags"),
        (frame(), {"a": []}, ValueError, "Modality 'a' must have at least one column"),
        (frame(), {"a": "age"}, TypeError, r"Received: 'age'.*write \['age'\]"),
        (frame(), {"a": 3}, TypeError, "list of names. Received: 3"),
        (frame(), {"a": [["age"]]}, TypeError, r"Received as one of them: \['age'\]"),
        (frame(), {"a": ["age", "age"]}, ValueError, r"Modality 'a' lists.*'age'"),
        (
            pd.DataFrame([[1, 2, 3]], columns=["x", "y", "x"]),
            {"a": ["y", "x"]},
            ValueError,
            r"column 'x', which .* only once.*2 columns of that name, at \[0, 2\]",
        ),
        (
            pd.DataFrame({"x": pd.Categorical([None, None])}),
            {"a": ["x"]},
            ValueError,
            "Column 'x' of modality 'a' has no categories",
        ),
    ],
)
def test_invalid_frames_and_columns_are_refused(table, modalities, error, message):
    with pytest.raises(error, match=message):
        from_frame(table, modalities)


def test_repeated_names_in_the_frame_are_refused_only_if_listed():
    table = pd.DataFrame([[1, 2, 3]], columns=["x", "y", "x"])
    np.testing.assert_array_equal(from_frame(table, {"a": ["y"]})["a"], [[2]])


@pytest.mark.parametrize("module", [frames, annotated])
def test_optional_packages_are_not_imported(module):
    source = pathlib.Path(module.__file__).read_text()
    assert not re.search(r"^\s*(import|from) (pandas|anndata|mudata)", source, re.M)


def test_a_model_takes_a_frame_with_missing_values():
    table = pd.concat([frame()] * 4, ignore_index=True)
    columns = {"a": ["age", "smokes"], "b": ["weight", "colour"]}
    data = from_frame(table, columns)
    model = tiny_model(
        [
            tiny_modality("a", (2,)),
            tiny_modality("b", (4,), likelihood=[("normal", 1), ("categorical", 3)]),
        ]
    )
    loss, gradients = loss_and_gradients(model, data)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_numbers_beyond_float32_are_refused():
    frame = pd.DataFrame({"x": [1.0, 1e300]})
    with pytest.raises(ValueError, match="Column 'x'.*must fit float32.*1e.300"):
        from_frame(frame, {"a": ["x"]})
    with pytest.raises(ValueError, match="'a' must hold finite .*infinity in row 1"):
        from_frame(pd.DataFrame({"x": [1.0, np.inf]}), {"a": ["x"]})
