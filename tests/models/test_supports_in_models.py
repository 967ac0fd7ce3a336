"""Values outside a likelihood's support: one readable error, or a flag beside them."""

import numpy as np
import pytest

from tests.tiny_models import LATENT_DIM
from tf_mopoe import Modality, MoPoEVAE

ROWS = 6
COUNTS = "whole numbers from 0"
#: Modality name to (shape, likelihood, what its values must be).
KINDS = {
    "image": ((2, 2, 1), "bernoulli", r"numbers in \[0, 1\]"),
    "grey": ((3,), "continuous_bernoulli", r"numbers in \[0, 1\]"),
    "count": ((3,), "poisson", COUNTS),
    "wide": ((3,), "negative_binomial", COUNTS),
    "sparse": ((3,), "zero_inflated_negative_binomial", COUNTS),
    "onehot": ((2, 4), "categorical", r"one-hot \(or probabilities\)"),
    "label": ((2,), "integer_categorical", "class indices from 0 to 3"),
    "table": (
        (4,),
        [("normal", 1), ("poisson", 1), ("categorical", 2)],
        f"1 columns of finite numbers; 1 columns of {COUNTS}; 2 columns of one-hot",
    ),
}
#: (modality, index within a row, value); each in a row of its own below.
WRONG = {
    "bernoulli 255": ("image", (1, 0, 0), 255.0),
    "continuous bernoulli below 0": ("grey", 1, -0.25),
    "negative count": ("count", 2, -1.0),
    "fraction of a count": ("wide", 0, 2.5),
    "infinite count": ("count", 0, np.inf),
    "negative inflated count": ("sparse", 0, -3.0),
    "class C": ("label", 1, 4),
    "negative class": ("label", 0, -1),
    "not one-hot": ("onehot", (1, 2), 1.0),
    "NaN": ("onehot", (1, 2), np.nan),
    "table's count": ("table", 1, 0.5),
    "table's NaN": ("table", 0, np.nan),
    "table's category": ("table", 3, 1.0),
}


def good_batch():
    batch = {
        name: np.zeros((ROWS, *shape), "float32")
        for name, (shape, _, _) in KINDS.items()
    }
    batch["onehot"][:, :, 0] = 1.0
    batch["table"][:, 2] = 1.0
    batch["label"] = batch["label"].astype("int64")
    return batch


def wrong_batch(case, row=3):
    name, index, value = WRONG[case]
    batch = good_batch()
    index = index if isinstance(index, tuple) else (index,)
    batch[name][(row, *index)] = value
    return batch


def message_of(case):
    name = WRONG[case][0]
    return rf"^Modality '{name}' must hold {KINDS[name][2]}.*'present' flags"


@pytest.fixture(scope="module")
def model():
    modalities = [
        Modality(
            name,
            shape,
            likelihood=likelihood,
            num_classes=4 if likelihood == "integer_categorical" else None,
        )
        for name, (shape, likelihood, _) in KINDS.items()
    ]
    model = MoPoEVAE(modalities, LATENT_DIM, subsets="full", seed=0)
    model.compile("sgd")
    return model


def test_values_inside_are_accepted(model):
    batch = good_batch()
    batch["image"][0], batch["grey"][0] = 1.0, 0.5
    batch["count"][0], batch["wide"][0], batch["sparse"][0] = 1e6, 3.0, 1e6
    batch["onehot"][0] = 0.25
    batch["label"][0] = 3
    batch["table"][0] = [-1e3, 1e4, 0.4, 0.6]
    assert np.isfinite(model.compute_loss(x=batch, training=False))


@pytest.mark.parametrize("case", WRONG)
def test_values_outside_are_an_eager_error_that_names_the_modality(case, model):
    batch = wrong_batch(case)
    for method in (
        model.posterior,
        model.encode,
        model.impute,
        lambda x: model.compute_loss(x=x, training=False),
    ):
        with pytest.raises(ValueError, match=message_of(case)) as caught:
            method(batch)
        message = str(caught.value)
        assert message.count("must hold") == 1
        # A vector that is not one-hot is wrong from its first element on.
        if "one-hot" not in message:
            assert f"Received: {float(WRONG[case][2])}" in message


@pytest.mark.integration
@pytest.mark.parametrize("case", WRONG)
def test_values_outside_are_an_error_of_a_compiled_step(case, model):
    # Several times: an embedding's own error must not come first.
    for method in (model.train_on_batch, model.test_on_batch) * 2:
        with pytest.raises(ValueError, match=message_of(case)) as caught:
            method(wrong_batch(case))
        assert str(caught.value).count("must hold") == 1
        assert "\n" not in str(caught.value)


@pytest.mark.integration
@pytest.mark.parametrize("case", ["negative count", "table's NaN"])
def test_a_step_that_is_refused_leaves_the_weights_alone(case, model):
    before = model.get_weights()
    for _ in range(4):
        with pytest.raises(ValueError, match="must hold"):
            model.train_on_batch(wrong_batch(case))
    for left, right in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.integration
@pytest.mark.parametrize("case", ["bernoulli 255", "class C"])
def test_values_outside_are_an_error_of_fit_evaluate_and_predict(case, model):
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match=message_of(case)):
            method(wrong_batch(case), verbose=0)


def test_two_wrong_modalities_are_one_error(model):
    batch = {
        **wrong_batch("negative count"),
        "wide": wrong_batch("fraction of a count")["wide"],
    }
    for method in (model.posterior, model.train_on_batch):
        with pytest.raises(ValueError, match="^Modality '(count|wide)' must") as caught:
            method(batch)
        assert str(caught.value).count("must hold") == 1


@pytest.mark.integration
def test_missing_rows_may_hold_anything(model):
    wrong, present = good_batch(), {}
    for row, name in enumerate(KINDS):
        row %= ROWS
        values = wrong[name][row].astype("float64")
        values[...] = -7 if name == "label" else np.nan
        wrong[name][row] = values
        present[name] = np.arange(ROWS) != row
    expected = model.evaluate({**good_batch(), "present": present}, verbose=0)
    wrong["present"] = present
    assert model.evaluate(wrong, verbose=0) == expected
    np.testing.assert_array_equal(
        model.encode(wrong)["loc"],
        model.encode({**good_batch(), "present": present})["loc"],
    )
    assert np.isfinite(model.train_on_batch(wrong)[0])
    assert all(np.all(np.isfinite(w)) for w in model.get_weights())


@pytest.mark.parametrize("case", WRONG)
def test_one_missing_row_does_not_excuse_another(case, model):
    flags = {WRONG[case][0]: np.arange(ROWS) != 2}
    with pytest.raises(ValueError, match=message_of(case)):
        model.posterior({**wrong_batch(case), "present": flags})
