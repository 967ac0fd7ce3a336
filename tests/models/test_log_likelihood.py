"""Importance-sampled log-likelihoods where the truth is known: linear-Gaussian."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from tests import closed_forms
from tests.objectives.test_linear_gaussian_bounds import (
    data,
    linear_model,
    log_evidence,
)
from tests.tiny_models import FAMILY
from tf_mopoe import MMJSD, Modality, MoPoEVAE
from tf_mopoe.models import log_likelihood as module
from tf_mopoe.subsets import SubsetSampler

K = 1000
#: Copies of each row: the estimates' own spread is seen, not only what they say of it.
COPIES = 40
FLAGS = np.array([[True, True, True], [False, True, False], [True, False, True]])


def copied(x, count=COPIES):
    return {name: np.tile(value, [count, 1]) for name, value in x.items()}


def agrees(model, x, *, given=None, flags=None, **kwargs) -> bool:
    """Whether estimates are the closed form to within their standard errors.

    Args:
      model: A model with affine decoders.
      x: One batch of three rows, complete.
      given: See `log_likelihood_estimate`.
      flags: bool `[3, 3]`, of the modalities "a", "b", "c" in the rows.
      **kwargs: Keyword arguments of `log_likelihood_estimate`.
    """
    batch = copied(x)
    flags = np.ones([3, 3], bool) if flags is None else flags
    if not flags.all():
        batch["present"] = {
            name: np.tile(flags[:, m], COPIES) for m, name in enumerate("abc")
        }
    estimate = model.log_likelihood_estimate(
        batch, given, num_samples=K, seed=0, **kwargs
    )
    value, error, size = (np.reshape(field, [COPIES, 3]) for field in estimate)
    for row, kept in enumerate(flags):
        here = {n: x[n][row : row + 1] for n, k in zip("abc", kept, strict=True) if k}
        truth = log_evidence(model, here).item()
        condition = {n: v for n, v in here.items() if n in (given or ())}
        if condition:
            truth -= log_evidence(model, condition).item()
        # The log's bias is of second order: half the squared error.
        bias = abs(value[:, row].mean() - truth) - (error[:, row] ** 2).mean()
        spread = value[:, row].std()
        mean_error = np.sqrt((error[:, row] ** 2).mean())
        if bias > 4 * mean_error / np.sqrt(COPIES):
            return False
        # 40 copies: a spread is known to 11 %.
        if not 0.6 * mean_error < spread < 1.5 * mean_error:
            return False
        if not np.all((size[:, row] >= 1) & (size[:, row] <= K)):
            return False
    return True


@pytest.mark.integration
@pytest.mark.parametrize("cls", FAMILY)
def test_joint_and_conditional_are_the_closed_form(cls):
    model = linear_model(cls, styles=True)
    assert agrees(model, data())
    assert agrees(model, data(), given=["a", "c"])


@pytest.mark.integration
@pytest.mark.parametrize("cls", [MoPoEVAE, MMJSD])
def test_missing_modalities_do_not_change_the_log_likelihood(cls):
    model = linear_model(cls, styles=True)
    assert agrees(model, data(), flags=FLAGS)
    flags = np.array([[True, True, True], [True, True, False], [False, True, True]])
    assert agrees(model, data(), given=["a"], flags=flags)


@pytest.mark.integration
def test_a_subset_and_sampled_subsets_are_proposals_too():
    assert agrees(linear_model(MoPoEVAE), data(), proposal=["a", "b"])
    sampled = linear_model(MoPoEVAE, subsets=SubsetSampler(2, [[0, 1]]))
    assert agrees(sampled, data())


def scale_wrong(model, monkeypatch):
    decode = model.networks.decode
    monkeypatch.setattr(
        model.networks, "decode", lambda *latents, **kw: 1.1 * decode(*latents, **kw)
    )


def density_of_one_component(model, monkeypatch):
    def of_first(components, weights, z):
        first = (field[:, 0] for field in components)
        return module.log_density(module.DiagonalGaussian(*first), z)

    monkeypatch.setattr(module, "log_mixture", of_first)


def prior_forgotten(model, monkeypatch):
    log_mixture = module.log_mixture
    monkeypatch.setattr(
        module,
        "log_mixture",
        lambda components, weights, z: (
            log_mixture(components, weights, z) + module.log_standard_normal(z)
        ),
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    "plant", [scale_wrong, density_of_one_component, prior_forgotten]
)
def test_a_planted_error_fails_the_check(plant, monkeypatch):
    model = linear_model(MoPoEVAE)
    plant(model, monkeypatch)
    assert not agrees(model, data())


def exact_model():
    """One modality, z to x = 2 z + noise: the expert is the true posterior."""
    model = MoPoEVAE(
        [
            Modality(
                "a",
                (1,),
                encoder=keras.layers.Dense(1, "linear"),
                decoder=keras.layers.Dense(1),
                likelihood_scale=0.5,
            )
        ],
        1,
        prior_expert="none",
        seed=0,
    )
    precision = 1 + 4 / 0.25
    expert = model.networks.experts["a"]
    for variable, value in (
        (model.networks.encoders["a"].kernel, 1.0),
        (model.networks.decoders["a"].kernel, 2.0),
        (expert.loc.kernel, 2 / 0.25 / precision),
        (expert.log_variance.kernel, 0.0),
        (expert.log_variance.bias, -np.log(precision)),
    ):
        variable.assign(np.full(variable.shape, value))
    return model


def test_the_true_posterior_as_proposal_leaves_no_error():
    x = {"a": np.array([[0.3], [-1.2], [2.0]], "float32")}
    estimate = exact_model().log_likelihood_estimate(x, num_samples=100, seed=0)
    expected = stats.norm.logpdf(x["a"][:, 0], 0, np.sqrt(4 + 0.25))
    np.testing.assert_allclose(estimate.log_likelihood, expected, rtol=1e-5)
    np.testing.assert_array_less(estimate.standard_error, 1e-5)
    np.testing.assert_allclose(estimate.effective_sample_size, 100, rtol=1e-6)


@pytest.mark.integration
def test_answers_depend_on_seed_and_row_not_on_chunks_or_what_follows(monkeypatch):
    model, x = linear_model(MoPoEVAE, styles=True), data()
    first = model.log_likelihood(x, num_samples=50, seed=3).numpy()
    assert first.dtype == np.float64
    assert np.all(first != model.log_likelihood(x, num_samples=50, seed=4).numpy())
    two = model.log_likelihood({n: v[:2] for n, v in x.items()}, num_samples=50, seed=3)
    np.testing.assert_allclose(two, first[:2], rtol=1e-6)
    monkeypatch.setattr(module, "MAX_ELEMENTS", 200)  # 14 samples of one row
    again = model.log_likelihood(x, num_samples=50, seed=3)
    np.testing.assert_allclose(again, first, rtol=1e-6)
    one = model.log_likelihood_estimate(x, num_samples=1, seed=3)
    assert np.isnan(one.standard_error).all()


@pytest.mark.integration
def test_rows_without_any_modality_have_log_likelihood_0():
    model, x = linear_model(MoPoEVAE), data()
    flags = {name: np.array([True, False, True]) for name in "abc"}
    estimate = model.log_likelihood_estimate(
        {**x, "present": flags}, num_samples=20, seed=0
    )
    np.testing.assert_allclose(estimate.log_likelihood[1], 0, atol=1e-5)
    np.testing.assert_allclose(estimate.standard_error[1], 0, atol=1e-5)
    # Nothing but what is given: nothing to explain.
    flags = {"b": np.array([True, False, True]), "c": np.array([True, False, False])}
    estimate = model.log_likelihood_estimate(
        {**x, "present": flags}, ["a"], num_samples=20, seed=0
    )
    assert [float(field[1]) for field in estimate] == [0.0, 0.0, 20.0]
    assert np.all(estimate.log_likelihood.numpy()[[0, 2]] != 0)
    # A key that is absent is a modality that no row has.
    part = {name: x[name] for name in "ab"}
    flagged = {**x, "present": {"c": np.zeros(3, bool)}}
    np.testing.assert_allclose(
        model.log_likelihood(part, num_samples=20, seed=0),
        model.log_likelihood(flagged, num_samples=20, seed=0),
        rtol=1e-6,
    )


@pytest.mark.integration
def test_published_estimator_reads_samples_of_other_rows():
    model, x = linear_model(MoPoEVAE), data()
    count = 6
    batch = model.unpack_batch(x)
    joint_seed = module.noise.seed_pairs(module.noise.row_seeds(5, 3))
    names = ("a", "b", "c")
    weights = module.log_weights_in_parts(
        model, batch, joint_seed, count, names
    ).numpy()
    expected = special.logsumexp(weights.reshape(3, count), axis=1) - np.log(count)
    estimate = model.log_likelihood_estimate(
        x, num_samples=count, proposal="published", seed=5
    )
    np.testing.assert_allclose(estimate.log_likelihood, expected, rtol=1e-6)
    assert np.isnan(estimate.standard_error).all()
    right = model.log_likelihood(x, num_samples=count, proposal=names, seed=5)
    np.testing.assert_allclose(
        right, special.logsumexp(weights, axis=0) - np.log(count), rtol=1e-6
    )
    assert np.abs(right - expected).max() > 0.1
    # Given a modality it scores the joint, too, with that modality's proposal.
    given = model.log_likelihood(
        x, ["a"], num_samples=count, proposal="published", seed=5
    )
    weights = module.log_weights_in_parts(
        model, batch, joint_seed, count, ("a",)
    ).numpy()
    expected = special.logsumexp(weights.reshape(3, count), axis=1) - np.log(count)
    np.testing.assert_allclose(given, expected, rtol=1e-6)


@pytest.mark.integration
def test_loss_weights_play_no_part():
    x = data()
    plain, weighted = linear_model(MoPoEVAE), linear_model(MoPoEVAE, beta=7.0)
    weighted.__dict__["reconstruction_weights"] = dict.fromkeys("abc", 3.0)
    np.testing.assert_allclose(
        plain.log_likelihood(x, num_samples=10, seed=0),
        weighted.log_likelihood(x, num_samples=10, seed=0),
        rtol=1e-6,
    )


def test_likelihood_is_the_distribution_of_a_modality():
    model, x = linear_model(MoPoEVAE, styles=True), data()
    z, s = np.ones([4, 3, 2], "float32"), np.full([4, 3, 1], 0.5, "float32")
    likelihood = model.likelihood("a", z, s)
    assert (likelihood.batch_shape, likelihood.event_shape) == ((4, 3), (3,))
    kernel, offset = model.networks.decoders["a"].get_weights()
    loc = np.concatenate([z, s], -1) @ kernel + offset
    expected = closed_forms.ELEMENT_LOG_PROBS["normal"](x["a"], loc, 0.8).sum(-1)
    np.testing.assert_allclose(likelihood.log_prob(x["a"]), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`name` must be one of"):
        model.likelihood("d", z)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "`num_samples` must be a whole number from 1"),
        ({"proposal": "best"}, "`proposal` must be one of"),
        ({"proposal": ["d"]}, "`proposal` must be a list of modalities"),
        ({"given": ["d"]}, "`given` must be a list of modalities that the batch has"),
        ({"given": "a"}, "`given` must be a list"),
        ({"given": ["a", "b", "c"]}, "must leave a modality"),
        ({"given": ["a"], "proposal": ["b"]}, "must be within `given`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        linear_model(MoPoEVAE).log_likelihood(data(), **arguments)


def test_a_proposal_that_some_rows_lack_is_refused():
    batch = {**data(), "present": {"a": np.array([True, False, True])}}
    with pytest.raises(ValueError, match="missing in some rows"):
        linear_model(MoPoEVAE).log_likelihood(batch, proposal=["a"], num_samples=2)


@pytest.mark.integration
def test_log_weights_can_be_computed_inside_a_graph():
    model, x = linear_model(MoPoEVAE), data()
    seeds = tf.constant([[0, 1], [0, 2], [0, 3]])
    step = tf.function(
        lambda values, seeds: module.log_weights(
            model, values, None, seeds, steps=2, per_step=3, names=None
        ),
        autograph=False,
    )
    whole = step(x, seeds)
    alone = step({name: value[1:2] for name, value in x.items()}, seeds[1:2])
    np.testing.assert_allclose(alone[:, 0], whole[:, 1], rtol=1e-5)


@pytest.mark.integration
def test_conditional_effective_sample_size_is_the_smaller_of_its_two():
    model, x = linear_model(MoPoEVAE), data()
    joint_seed = module.noise.seed_pairs(module.noise.row_seeds(5, 3))
    given_seed = module.noise.fold_in(joint_seed, 2)
    batch = model.unpack_batch(x)
    part = module._restricted(batch, ("a",), model.modality_names)
    sizes = []
    for each, seed in ((batch, joint_seed), (part, given_seed)):
        weights = np.exp(
            module.log_weights_in_parts(model, each, seed, 50, None).numpy()
        )
        sizes.append(weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0))
    estimate = model.log_likelihood_estimate(x, ["a"], num_samples=50, seed=5)
    assert np.abs(sizes[0] - sizes[1]).min() > 0.5
    np.testing.assert_allclose(
        estimate.effective_sample_size, np.min(sizes, axis=0), rtol=1e-4
    )


def test_product_proposal_has_the_models_prior_expert():
    model, x = linear_model(MoPoEVAE), data()
    batch = model.unpack_batch(x)
    encoded = model.networks.encode(batch)
    loc, log_scale = (field.numpy().astype(float) for field in encoded.experts)
    for names, with_prior in ((("a", "b", "c"), True), (("a", "c"), False)):
        product, _ = module.proposal_components(model, encoded, batch, names)
        members = ["abc".index(name) for name in names]
        for row in range(3):
            expected = closed_forms.product_by_formula(
                loc[row, members],
                np.exp(log_scale[row, members]),
                prior_expert=with_prior,
            )
            np.testing.assert_allclose(product.loc[row, 0], expected[0], rtol=1e-4)
            np.testing.assert_allclose(
                np.exp(product.log_scale[row, 0]), expected[1], rtol=1e-4
            )


@pytest.mark.integration
def test_double_precision_no_rows_and_impossible_values():
    model, x = linear_model(MoPoEVAE, styles=True, dtype="float64"), data()
    assert model.latent_dtype == "float64"
    # The same draws would need the same generator: only the truth is compared.
    estimate = model.log_likelihood_estimate(x, num_samples=K, seed=0)
    error = np.abs(estimate.log_likelihood - log_evidence(model, x))
    assert np.all(error < 5 * estimate.standard_error.numpy())
    assert model.log_likelihood({n: v[:0] for n, v in x.items()}).shape == (0,)
    single = linear_model(MoPoEVAE)
    far = {name: 1e25 * value for name, value in x.items()}
    assert np.all(single.log_likelihood(far, num_samples=5, seed=0) == -np.inf)
