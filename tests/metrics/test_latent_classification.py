"""Linear probes, against scikit-learn on latents from NumPy."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from tests import closed_forms
from tests.metrics.shared_models import shared_model
from tests.tiny_models import experts_of, tiny_batch
from tf_mopoe.metrics.latent_classification import linear_probe

NAMES = ("a", "b")
SUBSETS = {"a": (0,), "b": (1,), "a+b": (0, 1)}
ROWS, TRAIN, KEPT = 700, 300, 200  # more than one batch; not all are fitted


def means(model, data):
    """Subset name to means of its products, `[N, D]`."""
    rows = [
        closed_forms.subset_posteriors(loc, scale, SUBSETS.values(), "full_set")[0]
        for loc, scale in zip(*experts_of(model, data), strict=True)
    ]
    return dict(zip(SUBSETS, np.stack(rows, axis=1), strict=True))


@pytest.fixture(scope="module")
def case():
    """A model, its data, and a noisy signal for classes and attributes."""
    model, data = shared_model("ab"), tiny_batch(NAMES, ROWS)
    rng = np.random.default_rng(3)
    joint = means(model, data)["a+b"]
    signal = joint / joint.std(axis=0) + 0.5 * rng.normal(size=joint.shape)
    return model, data, signal


def split(data, labels):
    first = {name: x[: ROWS // 2 + 100] for name, x in data.items()}
    last = {name: x[ROWS // 2 + 100 :] for name, x in data.items()}
    return (first, labels[: ROWS // 2 + 100]), (last, labels[ROWS // 2 + 100 :])


def fitted(latents, labels):
    """A probe on standardised columns; a function of other latents."""
    mean, scale = latents.mean(axis=0), latents.std(axis=0)
    probe = LogisticRegression(max_iter=1000).fit((latents - mean) / scale, labels)
    return lambda other: probe.decision_function((other - mean) / scale)


@pytest.mark.parametrize("protocol", ["per_subset", "joint"])
def test_accuracies_are_those_of_scikit_learn_by_hand(case, protocol):
    model, data, signal = case
    labels = (signal[:, 0] > 0).astype(int)
    train, test = split(data, labels)
    actual = linear_probe(model, train, test, protocol=protocol, num_train=KEPT)
    x, others = (
        means(model, {n: v[:KEPT] for n, v in data.items()}),
        means(model, test[0]),
    )
    assert list(actual) == list(SUBSETS)
    for subset in SUBSETS:
        score = fitted(x["a+b" if protocol == "joint" else subset], labels[:KEPT])
        expected = np.mean((score(others[subset]) > 0) == test[1])
        assert actual[subset] == pytest.approx(expected)
    assert actual["a+b"] > 0.75


def test_protocols_agree_only_for_the_full_subset(case):
    model, data, signal = case
    train, test = split(data, (signal[:, 0] > 0).astype(int))
    per_subset, joint = (
        linear_probe(model, train, test, protocol=protocol)
        for protocol in ("per_subset", "joint")
    )
    assert per_subset["a+b"] == joint["a+b"]
    assert per_subset["a"] != joint["a"]


@pytest.mark.integration
def test_attributes_have_the_mean_average_precision_of_those_defined(case):
    model, data, signal = case
    flags = np.stack(
        [
            signal[:, 0] > 0,
            signal[:, 1] > 0.8,
            np.arange(ROWS) == ROWS - 1,  # in no training row
            np.arange(ROWS) == 0,  # in no test row
        ],
        axis=1,
    )
    train, test = split(data, flags)
    x, others = means(model, train[0]), means(model, test[0])
    for protocol in ("per_subset", "joint"):
        actual = linear_probe(model, train, test, protocol=protocol, num_train=None)
        for subset in SUBSETS:
            fit_on = x["a+b" if protocol == "joint" else subset]
            scores = [
                average_precision_score(
                    test[1][:, k], fitted(fit_on, train[1][:, k])(others[subset])
                )
                for k in range(2)
            ]
            # The latents differ in the last digits of float32.
            assert actual[subset] == pytest.approx(np.mean(scores), rel=1e-3)
    nothing = (test[0], np.zeros_like(test[1]))
    assert np.isnan(linear_probe(model, train, nothing)["a"])
    assert np.isnan(linear_probe(model, (train[0], np.zeros_like(train[1])), test)["a"])


def test_random_labels_are_predicted_at_chance_level(case):
    model, data, _ = case
    labels = np.random.default_rng(1).integers(2, size=ROWS)
    train, test = split(data, labels)
    for protocol in ("per_subset", "joint"):
        actual = linear_probe(model, train, test, protocol=protocol)
        error = 5 * 0.5 / np.sqrt(ROWS - TRAIN)
        assert all(abs(value - 0.5) < error for value in actual.values())


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, TypeError, r"`train\[1\]` must be an array of one type.*None"),
        ([0, None] * 350, TypeError, r"`train\[1\]` must be an array of one type"),
        ([0, 1] * 349, ValueError, "entry for each of the 700 rows. Received: 698"),
        ([], ValueError, r"classes, int \[N\]"),
        (np.zeros(0, int), ValueError, "at least one row. Received: none"),
        (3, ValueError, r"classes, int \[N\]. Received: int64 of shape \(\)"),
        ([[0], [1, 2]], ValueError, r"`train\[1\]`.*different lengths"),
        ([[0], [1]] * 350, ValueError, r"bool \[N, A\].*int64 of shape \(700, 1\)"),
        (["cat", "dog"] * 350, ValueError, "Received: <U3 .*np.unique"),
        ([0.0, np.nan] * 350, ValueError, "Received: float64 .*label is NaN"),
        ([0, -1] * 350, ValueError, "classes from 0. Received: from -1 to 0"),
        (np.zeros([700, 0], bool), ValueError, r"bool \[N, A\]"),
    ],
)
def test_labels_of_other_kinds_are_refused(case, labels, error, message):
    model, data, signal = case
    good = (data, (signal[:, 0] > 0).astype(int))
    with pytest.raises(error, match=message):
        linear_probe(model, (data, labels), good)
    with pytest.raises(error, match=message.replace("train", "test")):
        linear_probe(model, good, (data, labels))


def test_splits_that_are_no_pairs_are_refused(case):
    model, data, signal = case
    good = (data, (signal[:, 0] > 0).astype(int))
    for split, kind in ((data, "dict"), ((data,), "tuple of 1"), (None, "NoneType")):
        message = f"must be a pair of data and labels.*Received: {kind}"
        with pytest.raises(TypeError, match=f"`train` {message}"):
            linear_probe(model, split, good)
        with pytest.raises(TypeError, match=f"`test` {message}"):
            linear_probe(model, good, split)


def test_wrong_arguments_are_named(case):
    model, data, signal = case
    labels = (signal[:, 0] > 0).astype(int)
    good = (data, labels)
    for train, test, message in (
        (({"a": data["a"]}, labels), good, "all of the model's modalities"),
        (good, ({**data, "present": {}}, labels), "complete rows"),
        (good, (data, labels[:-1]), "700 rows. Received: 699"),
        (good, (data, signal), "bool"),
    ):
        with pytest.raises(ValueError, match=message):
            linear_probe(model, train, test)
    with pytest.raises(ValueError, match="`protocol` must be one of"):
        linear_probe(model, good, good, protocol="full")
    with pytest.raises(ValueError, match="both"):
        linear_probe(model, good, (data, signal > 0))
