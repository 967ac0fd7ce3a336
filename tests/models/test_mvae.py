"""MVAE: the further bounds of its loss, each network run once."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.tiny_models import (
    FAMILY,
    KINDS,
    experts_of,
    fix_noise,
    losses_and_terms,
    tiny_batch,
    tiny_model,
)
from tf_mopoe import MVAE, MoPoEVAE
from tf_mopoe.models.mvae import random_subsets


def bound_of(model, batch, loc, scale, row, members, beta):
    """Negative ELBO of one row with the product of some experts, z its mean."""
    z, spread = closed_forms.product_by_formula(
        loc[row, members], scale[row, members], prior_expert=True
    )
    value = beta * closed_forms.gaussian_kl(z, spread)
    for member in members:
        name = model.modality_names[member]
        parameters = model.networks.decoders[name](z[np.newaxis].astype("float32"))
        value -= closed_forms.log_likelihood(
            "normal", batch[name][row : row + 1], parameters
        ).item()
    return value


@pytest.mark.parametrize("unimodal", [True, False])
def test_loss_is_the_joint_bound_and_one_of_each_modality(unimodal, monkeypatch):
    fix_noise(monkeypatch)
    model = tiny_model("abc", cls=MVAE, beta=2.5, unimodal_elbos=unimodal)
    batch = tiny_batch("abc", rows=4)
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    flags = {name: present[:, index] for index, name in enumerate("abc")}
    rows, _ = losses_and_terms(
        model,
        model.unpack_batch({**batch, "present": flags}),
        tf.constant([0, 1]),
        beta=2.5,
    )
    loc, scale = experts_of(model, batch)
    expected = []
    for row, here in enumerate(present):
        members = np.flatnonzero(here)
        terms = [members] if len(members) else []
        if unimodal:
            terms += [members[i : i + 1] for i in range(len(members))]
        expected.append(
            sum(bound_of(model, batch, loc, scale, row, term, 2.5) for term in terms)
        )
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.integration
def test_random_subsets_add_their_bounds(monkeypatch):
    fix_noise(monkeypatch)
    options = {"unimodal_elbos": False, "cls": MVAE}
    batch = tiny_batch("abc", rows=150)
    plain = tiny_model("abc", **options)
    more = tiny_model("abc", random_subset_elbos=2, **options)
    seed = tf.constant([0, 1])
    added = (
        losses_and_terms(more, more.unpack_batch(batch), seed)[0]
        - losses_and_terms(plain, plain.unpack_batch(batch), seed)[0]
    ).numpy()
    loc, scale = experts_of(more, batch)
    pairs = [np.array(pair) for pair in itertools.combinations(range(3), 2)]
    seen = collections.Counter()
    for row in range(150):
        bounds = [bound_of(more, batch, loc, scale, row, pair, 1.0) for pair in pairs]
        sums = {(i, j): bounds[i] + bounds[j] for i in range(3) for j in range(i, 3)}
        closest = min(sums, key=lambda pair: abs(sums[pair] - added[row]))
        assert abs(sums[closest] - added[row]) < 1e-3 * abs(added[row])
        seen.update(closest)
    # 300 draws of three pairs: standard error 0.027.
    for pair in range(3):
        assert abs(seen[pair] / 300 - 1 / 3) < 0.11


@pytest.mark.parametrize("count", [3, 4, 6])
def test_random_subsets_are_uniform_over_two_to_all_but_one(count):
    rows = 40_000
    drawn = random_subsets(tf.constant(rows), count, tf.constant([0, 1])).numpy()
    codes, counts = np.unique(drawn @ 2 ** np.arange(count), return_counts=True)
    possible = [c for c in range(2**count) if 2 <= c.bit_count() < count]
    assert codes.tolist() == possible
    expected = rows / len(possible)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("cls", "kwargs", "objective"),
    [
        *((cls, {}, objective) for cls, objective in KINDS),
        (MVAE, {"random_subset_elbos": 2}, "elbo"),
    ],
)
def test_each_network_runs_once_a_step(cls, kwargs, objective, monkeypatch):
    model = tiny_model("abc", cls=cls, objective=objective, num_samples=2, **kwargs)
    calls = collections.Counter()
    for network in (
        *model.networks.encoders.values(),
        *model.networks.decoders.values(),
    ):
        original = network.call

        def counted(*args, _name=network.name, _original=original, **kw):
            calls[_name] += 1
            return _original(*args, **kw)

        monkeypatch.setattr(network, "call", counted)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=tiny_batch("abc"), training=False)
    assert all(
        gradient is not None
        for gradient in tape.gradient(loss, model.trainable_variables)
    )
    networks = [
        network.name
        for network in (
            *model.networks.encoders.values(),
            *model.networks.decoders.values(),
        )
    ]
    assert calls == dict.fromkeys(networks, 1)


def test_wrong_numbers_of_random_subsets_are_refused():
    with pytest.raises(ValueError, match="`random_subset_elbos` must be a whole"):
        tiny_model("abc", cls=MVAE, random_subset_elbos=-1)
    with pytest.raises(ValueError, match="at least three modalities"):
        tiny_model("ab", cls=MVAE, random_subset_elbos=1)


def test_fixed_arguments_are_neither_taken_nor_saved():
    for cls in FAMILY:
        config = tiny_model(cls=cls).get_config()
        if cls is MoPoEVAE:
            assert {"subsets", "prior_expert"} <= set(config)
            continue
        assert not {"subsets", "prior_expert"} & set(config)
        with pytest.raises(TypeError, match="subsets"):
            tiny_model(cls=cls, subsets="full")
