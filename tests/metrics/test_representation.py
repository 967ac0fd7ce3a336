"""Shares of the posterior's precision, swapped styles, traversals."""

import functools

import keras
import numpy as np
import pytest

from tests import closed_forms
from tests.metrics.shared_models import shared_model
from tests.tiny_models import LATENT_DIM, experts_of, tiny_batch
from tf_mopoe import MVAE, Modality, MoPoEVAE
from tf_mopoe.metrics.representation import (
    latent_traversal,
    precision_share,
    swap_styles,
)

#: Modalities of rows 0 to 5: all, without "a", without "b", "c" alone, nothing, all.
FLAGS = {
    "a": np.array([True, False, True, False, False, True]),
    "b": np.array([True, True, False, False, False, True]),
    "c": np.array([True, True, True, True, False, True]),
}


def shares_by_hand(model, data, prior_expert, flags=None):
    """`[4, D]`: modalities a, b, c and the prior, row by row."""
    _, scale = experts_of(model, data)
    shares = []
    for row in range(len(scale)):
        present = [flags is None or flags[name][row] for name in "abc"]
        precision = [s**-2.0 if h else 0 * s for h, s in zip(present, scale[row])]
        with_prior = {"full_set": all(present), "every_subset": True, "none": False}
        prior = with_prior[prior_expert] or not any(present)
        precision = np.array([*precision, np.full(LATENT_DIM, float(prior))])
        shares.append(precision / precision.sum(axis=0))
    return np.mean(shares, axis=0)


@pytest.mark.parametrize(
    ("prior_expert", "flags"),
    [("full_set", None)] + [(p, FLAGS) for p in ("full_set", "every_subset", "none")],
    ids=["complete", "full_set", "every_subset", "none"],
)
def test_shares_are_those_of_the_experts_precisions(prior_expert, flags):
    model = shared_model("abc", prior_expert=prior_expert)
    data = tiny_batch("abc", rows=6)
    expected = shares_by_hand(model, data, prior_expert, flags)
    if flags is not None:
        for name, flag in flags.items():
            data[name][~flag] = np.nan
        data["present"] = flags
    actual = precision_share(model, data, batch_size=4)  # the last batch is smaller
    assert list(actual.by_dimension) == ["a", "b", "c", "prior"]
    np.testing.assert_allclose([*actual.by_dimension.values()], expected, rtol=1e-5)
    np.testing.assert_allclose([*actual.mean.values()], expected.mean(1), rtol=1e-5)
    assert all(type(share) is float for share in actual.mean.values())


def test_a_modality_that_is_not_given_has_no_share():
    model = shared_model("abc", cls=MVAE)
    data = tiny_batch("ac")
    actual = precision_share(model, data)
    np.testing.assert_array_equal(actual.by_dimension["b"], np.zeros(LATENT_DIM))
    flags = {"a": [True] * 8, "b": [False] * 8, "c": [True] * 8}
    full = {**data, **tiny_batch("b")}
    expected = shares_by_hand(model, full, "every_subset", flags)
    np.testing.assert_allclose([*actual.by_dimension.values()], expected, rtol=1e-5)


@functools.cache
def adding_model():
    """A model whose decoders return 3 z + s; one modality has no style."""
    modalities = [
        Modality(
            name,
            (LATENT_DIM,),
            encoder=keras.layers.Dense(4, "tanh"),
            decoder=keras.layers.Dense(LATENT_DIM),
            style_dim=LATENT_DIM if name != "plain" else 0,
        )
        for name in ("left", "right", "plain")
    ]
    model = MoPoEVAE(modalities, LATENT_DIM, seed=0)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    for decoder in model.networks.decoders.values():
        parts = [3 * np.eye(LATENT_DIM), np.eye(LATENT_DIM)]
        kernel = np.concatenate(parts)[: decoder.kernel.shape[0]]
        decoder.set_weights([kernel, np.zeros(LATENT_DIM)])
    return model


def batch_of(model, rows, seed):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(rows, LATENT_DIM)).astype("float32")
        for name in model.modality_names
    }


def test_swapped_output_is_the_sum_of_its_parts():
    model = adding_model()
    content, style = batch_of(model, 5, seed=1), batch_of(model, 5, seed=2)
    swapped = swap_styles(model, content, style)
    z = model.encode(content)["loc"].numpy()
    np.testing.assert_allclose(swapped["plain"], 3 * z, rtol=1e-5, atol=1e-6)
    for name in ["left", "right"]:
        style_loc = model.networks.style_experts[name](
            model.networks.encoders[name](style[name])
        ).loc
        np.testing.assert_allclose(
            swapped[name], 3 * z + style_loc, rtol=1e-5, atol=1e-6
        )
    assert np.max(np.abs(swapped["left"] - model(content)["left"])) > 0.1


def test_swapping_with_oneself_is_the_reconstruction():
    model = adding_model()
    batch = batch_of(model, 5, seed=1)
    batch["present"] = {"left": np.arange(5) < 3}
    reconstructed = model(batch)
    for name, value in swap_styles(model, batch, batch).items():
        np.testing.assert_allclose(value, reconstructed[name], rtol=1e-5, atol=1e-6)


def test_invalid_swaps_are_refused():
    model = adding_model()
    with pytest.raises(ValueError, match="same number of rows. Received: 5 and 4"):
        swap_styles(model, batch_of(model, 5, seed=1), batch_of(model, 4, seed=1))
    with pytest.raises(ValueError, match="`model` must have styles"):
        swap_styles(shared_model(), tiny_batch(), tiny_batch())


def test_traversal_decodes_the_mean_with_one_dimension_replaced():
    model = adding_model()
    row = batch_of(model, 1, seed=3)
    del row["right"]  # its style is 0
    actual = latent_traversal(model, row, dimensions=[1, 0], values=[-2.0, 0.5, 3.0])
    assert actual.dimensions.tolist() == [1, 0]
    assert actual.values.tolist() == [-2.0, 0.5, 3.0]
    z = model.encode(row)["loc"].numpy()[0]
    style_loc = model.encode_styles(row)["left"]["loc"].numpy()[0]
    assert actual.outputs["left"].shape == (2, 3, LATENT_DIM)
    for t, dimension in enumerate([1, 0]):
        for v, value in enumerate([-2.0, 0.5, 3.0]):
            point = z.copy()
            point[dimension] = value
            for name, style in {
                "left": style_loc,
                "right": 0.0,
                "plain": 0.0,
            }.items():
                np.testing.assert_allclose(
                    actual.outputs[name][t, v], 3 * point + style, rtol=1e-5, atol=1e-6
                )


@pytest.mark.parametrize("given", ["abc", "ac"])
def test_traversal_takes_the_dimensions_that_are_furthest_from_the_prior(given):
    model = wide_model()
    row = tiny_batch("abc", rows=1)
    loc, scale = experts_of(model, row)
    subsets = closed_forms.subsets_by_bit_counting(3)
    locs, scales = closed_forms.subset_posteriors(loc[0], scale[0], subsets, "full_set")
    formed = ["abc"[m] in given for m in range(3)]
    kept = [s for s, members in enumerate(subsets) if all(formed[m] for m in members)]
    kl = closed_forms.gaussian_kl(locs[kept][..., None], scales[kept][..., None])
    expected = np.argsort(-kl.mean(axis=0))
    row = {name: row[name] for name in given}
    actual = latent_traversal(model, row)
    assert actual.dimensions.tolist() == expected[:8].tolist()
    assert actual.values.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    few = latent_traversal(model, row, num_dimensions=2)
    assert few.dimensions.tolist() == expected[:2].tolist()
    assert few.outputs["b"].shape == (2, 7, 4)


@functools.cache
def wide_model():
    """Ten latent dimensions."""
    sizes = {"a": 3, "b": 4, "c": 2}
    modalities = [
        Modality(n, (size,), keras.layers.Dense(5, "tanh"), keras.layers.Dense(size))
        for n, size in sizes.items()
    ]
    model = MoPoEVAE(modalities, 10, seed=0)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model


def test_invalid_traversals_are_refused():
    model = shared_model()
    with pytest.raises(ValueError, match="a batch of one row. Received: 2 rows"):
        latent_traversal(model, tiny_batch(rows=2))
    for dimension in (-1, 2):
        with pytest.raises(
            ValueError, match="`dimensions` must be a whole number from 0 to 1"
        ):
            latent_traversal(model, tiny_batch(rows=1), dimensions=[dimension])
