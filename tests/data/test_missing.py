"""Marking of missing rows, and rates of rows dropped at random."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import tiny_batch, tiny_model
from tf_mopoe.data import drop_at_random, mark_missing

NAN = np.nan


def views(rows=4000):
    return {"a": np.ones([rows, 2]), "b": np.ones([rows, 3]), "c": np.ones([rows, 1])}


def assert_same_data(actual, expected):
    assert list(actual) == list(expected)
    for name, value in expected.items():
        if name == "present":
            assert_same_data(actual[name], value)
        else:
            np.testing.assert_array_equal(actual[name], value)


def kept(data):
    """Flags bool [N, M], in the order of the modalities."""
    return np.stack([data["present"][name] for name in data if name != "present"], -1)


def test_rows_of_nan_become_zeros_and_flags():
    image = np.arange(16, dtype=np.float32).reshape(4, 2, 2, 1)
    holed = image.copy()
    holed[[0, 3]] = NAN
    marked = mark_missing({"image": holed, "table": np.ones([4, 3])})
    assert marked["image"].dtype == np.float32
    np.testing.assert_array_equal(marked["image"][1:3], image[1:3])
    np.testing.assert_array_equal(marked["image"][[0, 3]], np.zeros([2, 2, 2, 1]))
    assert list(marked["present"]) == ["image"]
    np.testing.assert_array_equal(marked["present"]["image"], [0, 1, 1, 0])


def test_complete_data_pass_without_flags():
    data = {"a": np.ones([3, 2]), "b": np.full([3, 2], np.finfo(float).max)}
    assert_same_data(mark_missing(data), data)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integer_and_bool_arrays_are_returned_unchanged(dtype):
    counts = np.ones([3, 2], dtype)
    flags = {"counts": np.array([True, False, True])}
    marked = mark_missing({"counts": counts, "present": flags})
    assert marked["counts"] is counts
    np.testing.assert_array_equal(marked["present"]["counts"], flags["counts"])


def test_given_flags_are_combined_with_nan():
    a = np.array([[1.0, 1.0], [NAN, NAN], [NAN, 3.0], [5.0, 5.0]])
    flags = {"a": np.array([True, True, False, False]), "b": np.ones(4, bool)}
    marked = mark_missing({"a": a, "b": np.ones([4, 1]), "present": flags})
    # Row 2 is broken, but said to be missing: no error.
    np.testing.assert_array_equal(marked["present"]["a"], [1, 0, 0, 0])
    np.testing.assert_array_equal(marked["present"]["b"], np.ones(4))
    np.testing.assert_array_equal(marked["a"], [[1, 1], [0, 0], [0, 0], [0, 0]])


def test_marking_twice_is_marking_once():
    data = {"a": np.array([[NAN, NAN], [1.0, 2.0]]), "b": np.ones([2, 1])}
    once = mark_missing(data)
    assert_same_data(mark_missing(once), once)


@pytest.mark.parametrize(
    "function", [mark_missing, lambda x: drop_at_random(x, 1, seed=0)]
)
def test_the_input_is_not_modified(function):
    data = {"a": np.array([[NAN, NAN], [1.0, 2.0]]), "b": np.ones([2, 1])}
    data["present"] = {"a": np.array([True, True]), "b": np.array([True, False])}
    before = {
        **{name: data[name].copy() for name in "ab"},
        "present": {name: flag.copy() for name, flag in data["present"].items()},
    }
    function(data)
    assert_same_data(data, before)


def test_a_row_that_is_nan_in_part_is_an_error_that_says_where_and_what_to_do():
    table = np.ones([6, 4])
    table[2, :3] = NAN
    table[4, 0] = NAN
    table[5] = NAN
    with pytest.raises(
        ValueError, match=r"'table'.*row 2 .*3 of 4 values \(and 1 more rows\)"
    ) as error:
        mark_missing({"table": table})
    for advice in ("Drop", "impute the column", "partial='missing'"):
        assert advice in str(error.value)


def test_a_row_that_is_nan_in_part_can_count_as_missing():
    table = np.array([[1.0, NAN], [2.0, 3.0], [NAN, NAN]])
    marked = mark_missing({"table": table}, partial="missing")
    np.testing.assert_array_equal(marked["table"], [[0, 0], [2, 3], [0, 0]])
    np.testing.assert_array_equal(marked["present"]["table"], [0, 1, 0])


@pytest.mark.parametrize("partial", ["error", "missing"])
def test_no_rows_and_single_values_are_fine(partial):
    assert_same_data(
        mark_missing({"a": np.zeros([0, 3])}, partial=partial),
        {"a": np.zeros([0, 3])},
    )
    marked = mark_missing({"a": np.array([NAN, 1.0])}, partial=partial)
    np.testing.assert_array_equal(marked["present"]["a"], [False, True])


@pytest.mark.integration
def test_a_model_fit_on_marked_data_equals_one_with_explicit_flags():
    rows = np.arange(8)
    flags = {"a": rows % 2 == 0, "b": rows % 4 != 1}
    batch = tiny_batch("ab")
    holed = {name: np.where(flags[name][:, None], batch[name], NAN) for name in "ab"}
    weights = []
    for data in (mark_missing(holed), {**batch, "present": flags}):
        model = tiny_model("ab")
        model.compile("sgd")
        model.fit(data, batch_size=4, epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for marked, explicit in zip(*weights, strict=True):
        np.testing.assert_array_equal(marked, explicit)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    # f - f^n / n with n = 3, by hand.
    [(0.0, 0.0), (0.3, 0.291), (0.9, 0.657), (1.0, 2 / 3)],
)
def test_views_are_missing_as_often_as_the_docstring_says(fraction, expected):
    present = kept(drop_at_random(views(), fraction, seed=0))
    # 4000 rows: standard error at most 0.008.
    np.testing.assert_allclose(1 - present.mean(axis=0), expected, atol=0.025)
    assert present.any(axis=1).all()


def test_without_keep_one_the_fraction_is_exact_and_views_are_independent():
    present = kept(drop_at_random(views(), 0.6, seed=0, keep_one=False))
    np.testing.assert_allclose(1 - present.mean(axis=0), 0.6, atol=0.025)
    nothing = ~present.any(axis=1)
    np.testing.assert_allclose(nothing.mean(), 0.6**3, atol=0.025)
    np.testing.assert_allclose(np.corrcoef(present.T), np.eye(3), atol=0.06)


def test_keep_one_changes_only_rows_that_would_lose_everything():
    one, none = (
        kept(drop_at_random(views(), 0.8, seed=3, keep_one=keep))
        for keep in (True, False)
    )
    saved = ~none.any(axis=1)
    assert saved.any()
    np.testing.assert_array_equal(one[~saved], none[~saved])
    np.testing.assert_array_equal(one[saved].sum(axis=1), 1)
    # Of three views each is saved as often: standard error 0.011 in 2048 rows.
    np.testing.assert_allclose(one[saved].mean(axis=0), 1 / 3, atol=0.035)


def test_missing_modalities_stay_missing_and_are_never_the_one_kept():
    had = np.random.default_rng(0).random([4000, 2]) < 0.5
    data = {**views(), "present": {"a": had[:, 0], "b": had[:, 1]}}
    data["present"]["c"] = np.zeros(4000, bool)
    present = kept(drop_at_random(data, 0.9, seed=0))
    had = np.stack([*data["present"].values()], axis=-1)
    assert not (present & ~had).any()
    np.testing.assert_array_equal(present.any(axis=1), had.any(axis=1))


def test_the_seed_decides_and_the_order_of_modalities_does_not():
    first = drop_at_random(views(), 0.5, seed=0)
    assert_same_data(drop_at_random(views(), 0.5, seed=0), first)
    turned = drop_at_random(dict(reversed(views().items())), 0.5, seed=0)
    for name, flag in first["present"].items():
        np.testing.assert_array_equal(turned["present"][name], flag)
    assert (kept(drop_at_random(views(), 0.5, seed=1)) != kept(first)).any()


@pytest.mark.parametrize(
    "function", [mark_missing, lambda x: drop_at_random(x, 0.5, seed=0)]
)
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({}, ValueError, "at least one array"),
        ({"a": np.float32(1.0)}, ValueError, r"Received shapes.*\(\)"),
        ({"a": np.ones([2, 1]), "b": np.ones([3, 1])}, ValueError, "number of rows"),
        ({"a": np.array([["x"]])}, TypeError, "'a'.*numbers"),
        ({"a": np.array([[None]])}, TypeError, "'a'.*astype"),
        ({"a": [[1.0, 2.0], [3.0]]}, ValueError, r"`data\['a'\]`.*different lengths"),
        ({"a": [[1.0], [[2.0]]]}, ValueError, r"`data\['a'\]`.*different lengths"),
        (
            {"a": np.ones([2, 1]), "present": {"a": [[True], [True, False]]}},
            ValueError,
            r"`present\['a'\]` must be an array.*different lengths",
        ),
        (
            {"a": np.ones([2, 1]), "present": {"b": np.ones(2, bool)}},
            ValueError,
            r"flag for 'b'.*\['a'\]",
        ),
        (
            {"a": np.ones([2, 1]), "present": {"a": np.ones(3, bool)}},
            ValueError,
            r"present\['a'\].*\(3,\)",
        ),
        (
            {"a": np.ones([2, 1]), "present": {"a": np.ones(2)}},
            TypeError,
            r"present\['a'\].*bool.*float64",
        ),
    ],
)
def test_data_that_are_not_as_described_are_refused(function, data, error, message):
    with pytest.raises(error, match=message):
        function(data)


@pytest.mark.parametrize("fraction", [-0.1, 1.5, NAN])
def test_an_impossible_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match="`fraction` must be from 0 to 1"):
        drop_at_random(views(2), fraction, seed=0)


def test_an_unknown_treatment_is_refused():
    with pytest.raises(ValueError, match=r"`partial`.*'error', 'missing'.*'drop'"):
        mark_missing({"a": np.ones([2, 1])}, partial="drop")


def test_batches_of_a_dataset_are_marked_as_arrays_are():
    rng = np.random.default_rng(0)
    data = {
        "a": rng.normal(size=(12, 3)).astype("float32"),
        "b": rng.normal(size=(12, 2, 2)).astype("float32"),
        "count": np.arange(12).reshape(12, 1),
        "present": {"b": np.arange(12) != 5},
    }
    data["a"][::3] = np.nan
    data["b"][5, 0] = np.nan  # known to be missing: may be NaN in part
    expected = mark_missing(data)
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(4).map(mark_missing)
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == 3
    for name in ("a", "b", "count"):
        joined = np.concatenate([batch[name] for batch in batches])
        np.testing.assert_array_equal(joined, expected[name])
    for name in ("a", "b"):
        joined = np.concatenate([batch["present"][name] for batch in batches])
        np.testing.assert_array_equal(joined, expected["present"][name])
    assert "count" not in batches[0]["present"]


def test_rows_that_are_nan_in_part_are_an_error_in_a_dataset_too():
    table = np.array([[1.0, np.nan], [2.0, 3.0]])
    dataset = tf.data.Dataset.from_tensor_slices({"table": table}).batch(2)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="table.* has rows that are NaN"
    ):
        list(dataset.map(mark_missing))
    marked = next(iter(dataset.map(lambda x: mark_missing(x, partial="missing"))))
    np.testing.assert_array_equal(marked["present"]["table"], [False, True])
    np.testing.assert_array_equal(marked["table"], [[0.0, 0.0], [2.0, 3.0]])


def test_single_rows_and_datasets_are_refused_with_what_to_do():
    rows = tf.data.Dataset.from_tensor_slices(
        {"a": np.ones([4, 2]), "present": {"a": np.ones(4, bool)}}
    )
    with pytest.raises(ValueError, match=r"dataset\.batch\(64\)\.map\(mark_missing\)"):
        rows.map(mark_missing)
    with pytest.raises(TypeError, match="must be a dictionary.*over the batches"):
        mark_missing(rows)
    batch = next(iter(rows.batch(4).map(mark_missing)))
    np.testing.assert_array_equal(batch["present"]["a"], np.ones(4, bool))
