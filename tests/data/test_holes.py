"""Dropped modalities: rates, dependence, seeds, errors."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from tf_mopoe.data import drop_at_random, drop_by_table, drop_depending_on

N = 4000


def views(rows=N):
    random = np.random.default_rng(0)
    return {"b": random.normal(size=[rows, 3]), "a": random.normal(size=[rows, 2])}


def flags_of(rows):
    parts = [part["present"] for part in rows.batch(1000).as_numpy_iterator()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_fractions_may_differ_between_modalities():
    data = {**views(), "c": np.ones([N, 1])}
    present = drop_at_random(data, {"a": 0.2, "c": 0.7}, seed=0)["present"]
    # Standard errors below 0.008; b is always there, so that no row loses all.
    np.testing.assert_allclose(present["a"].mean(), 0.8, atol=0.03)
    np.testing.assert_allclose(present["c"].mean(), 0.3, atol=0.03)
    assert present["b"].all()


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        ({"d": 0.1}, r"Received: \['d'\]"),
        ({"a": 1.1}, "from 0 to 1. Received: 1.1"),
        (-0.1, "from 0 to 1. Received: -0.1"),
    ],
)
@pytest.mark.parametrize("make", [dict, tf.data.Dataset.from_tensor_slices])
def test_wrong_fractions_are_refused(fraction, message, make):
    with pytest.raises(ValueError, match=message):
        drop_at_random(make(views(3)), fraction, seed=0)


def test_rows_of_a_dataset_are_dropped_as_often_as_those_of_arrays():
    rows = tf.data.Dataset.from_tensor_slices(views())
    present = flags_of(drop_at_random(rows, 0.5, seed=0))
    # f - f^2 / 2, standard error 0.008.
    for name in ("a", "b"):
        np.testing.assert_allclose(1 - present[name].mean(), 0.375, atol=0.03)
    assert (present["a"] | present["b"]).all()
    both = (present["a"] & present["b"]).mean()
    np.testing.assert_allclose(both, 0.25, atol=0.03)
    without = flags_of(drop_at_random(rows, 0.5, seed=0, keep_one=False))
    np.testing.assert_allclose(1 - without["a"].mean(), 0.5, atol=0.03)
    kept = without["a"] | without["b"]
    for name in ("a", "b"):
        np.testing.assert_array_equal(without[name][kept], present[name][kept])


def test_a_row_of_a_dataset_has_the_same_flags_in_every_pass():
    rows = tf.data.Dataset.from_tensor_slices(views(50))
    dropped = drop_at_random(rows, 0.5, seed=1)
    first, again = flags_of(dropped), flags_of(dropped)
    other = flags_of(drop_at_random(rows, 0.5, seed=2))
    np.testing.assert_array_equal(first["a"], again["a"])
    assert not np.array_equal(first["a"], other["a"])
    for row, value in zip(dropped.as_numpy_iterator(), views(50)["a"], strict=True):
        np.testing.assert_array_equal(row["a"], value)


def test_missing_rows_of_a_dataset_stay_missing():
    data = {**views(50), "present": {"a": np.arange(50) % 2 == 0}}
    rows = tf.data.Dataset.from_tensor_slices(data)
    present = flags_of(drop_at_random(rows, 0.5, seed=0))
    assert not present["a"][1::2].any()
    assert present["b"][1::2].all()  # the one that is left is kept


def test_probability_of_dropping_is_logistic_in_the_score_of_the_other_modality():
    data = views(100_000)
    present = drop_depending_on(data, "b", "a", 0.3, seed=0, strength=1.5)["present"]
    dropped = ~present["b"]
    score = data["a"].mean(axis=1)
    score = (score - score.mean()) / score.std()
    np.testing.assert_allclose(dropped.mean(), 0.3, atol=0.006)  # 4 standard errors
    # The offset by Newton's method on the mean, another way than the code's.
    offset = 0.0
    for _ in range(50):
        p = expit(offset + 1.5 * score)
        offset -= (p.mean() - 0.3) / (p * (1 - p)).mean()
    for low in np.arange(-2.0, 2.0, 0.5):
        within = (score >= low) & (score < low + 0.5)
        expected = expit(offset + 1.5 * score[within]).mean()
        # 1600 rows or more: standard errors up to 0.0125.
        np.testing.assert_allclose(dropped[within].mean(), expected, atol=0.05)
    assert set(present) == {"b"}


def test_a_custom_score_decides_which_rows_are_dropped():
    data = views()
    present = drop_depending_on(
        data, "b", "a", 0.5, seed=0, score=lambda a: -a[:, 1], strength=50.0
    )["present"]["b"]
    low = data["a"][:, 1] < np.median(data["a"][:, 1])
    assert present[low].mean() < 0.02
    assert present[~low].mean() > 0.98


def test_nothing_is_dropped_where_the_other_modality_is_missing():
    data = {**views(), "present": {"a": np.arange(N) % 2 == 0}}
    made = drop_depending_on(data, "b", "a", 0.6, seed=0)
    assert made["present"]["b"][1::2].all()
    np.testing.assert_allclose(made["present"]["b"][::2].mean(), 0.4, atol=0.05)
    np.testing.assert_array_equal(made["present"]["a"], data["present"]["a"])
    assert "b" not in data["present"]


def test_values_of_rows_that_are_missing_do_not_count():
    data = views()
    data["a"][::2] = np.nan
    data["present"] = {"a": np.arange(N) % 2 == 1}
    present = drop_depending_on(data, "b", "a", 0.5, seed=0)["present"]["b"]
    np.testing.assert_allclose(present[1::2].mean(), 0.5, atol=0.05)


def test_dependent_dropping_is_reproducible_by_seed():
    first, again, other = (
        drop_depending_on(views(), "b", "a", 0.5, seed=s)["present"]["b"]
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("c", "a", 0.5), "`data` has no modality 'c'. Received: \\['a', 'b'\\]"),
        (("b", "c", 0.5), "no modality 'c'"),
        (("a", "a", 0.5), "`given` must be another modality"),
        (("b", "a", 0.0), r"`fraction` must be in \(0, 1\)"),
        (("b", "a", 1.0), r"`fraction` must be in \(0, 1\)"),
    ],
)
def test_wrong_dependence_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        drop_depending_on(views(), *arguments, seed=0)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda a: np.zeros(len(a)), "the same score in all rows"),
        (lambda a: a, r"one finite number.*Received: shape \(4000, 2\)"),
        (lambda a: np.full(len(a), np.nan), "one finite number"),
    ],
)
def test_useless_scores_are_refused(score, message):
    with pytest.raises(ValueError, match=message):
        drop_depending_on(views(), "b", "a", 0.5, seed=0, score=score)


def test_a_table_decides_which_modalities_are_kept():
    data = {**views(3), "present": {"a": np.array([True, True, False])}}
    table = np.array([[True, False], [False, True], [True, True]])
    made = drop_by_table(data, table)
    np.testing.assert_array_equal(made["present"]["b"], table[:, 0])
    np.testing.assert_array_equal(made["present"]["a"], [False, True, False])
    by_name = drop_by_table(views(3), {"a": table[:, 1]})["present"]
    np.testing.assert_array_equal(by_name["a"], table[:, 1])
    assert by_name["b"].all()


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (np.ones([3, 3], bool), ValueError, r"must have shape \(3, 2\)"),
        (np.ones([2, 2], bool), ValueError, r"must have shape \(3, 2\)"),
        ({"c": np.ones(3, bool)}, ValueError, "Received: 'c'"),
        ({"a": np.ones(2, bool)}, ValueError, r"of shape \(2,\)"),
        (np.ones([3, 2]), TypeError, "must be bool. Received: float64"),
    ],
)
def test_tables_that_do_not_fit_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        drop_by_table(views(3), table)


@pytest.mark.parametrize("make", [dict, tf.data.Dataset.from_tensor_slices])
def test_negative_seeds_are_refused(make):
    with pytest.raises(ValueError, match="`seed` must be a whole number .*: -1"):
        drop_at_random(make(views(3)), 0.5, seed=-1)
