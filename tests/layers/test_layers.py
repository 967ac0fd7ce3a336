"""The layers: agreement with the distribution, configs, dtypes, draws, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.sampling import random_experts
from tf_mopoe.distributions import (
    DiagonalGaussian,
    MixtureOfProductsOfExperts,
)
from tf_mopoe.distributions.components import contiguous_components
from tf_mopoe.layers import GaussianExpert, MixtureOfExperts, SubsetProductOfExperts
from tf_mopoe.layers.gaussian_expert import soft_bound

PRESENT = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=bool)


def gaussian(*shape, seed=0):
    loc, scale = random_experts(*shape, seed=seed, dtype="float32")
    return DiagonalGaussian(tf.constant(loc), tf.math.log(scale))


def rebuilt(layer):
    return type(layer).from_config(layer.get_config())


@pytest.fixture
def mixed_float16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(policy)


# --- soft_bound


def test_soft_bound_is_exactly_the_identity_from_minus_10_to_10():
    x = np.linspace(-10, 10, 2001, dtype=np.float32)
    np.testing.assert_array_equal(soft_bound(tf.constant(x)), x)


def test_soft_bound_is_odd_increasing_and_bounded_by_20():
    x = np.linspace(-60, 60, 4001)
    y = soft_bound(tf.constant(x)).numpy()
    assert np.all(np.diff(y) > 0)
    np.testing.assert_allclose(y, -y[::-1], rtol=1e-12)
    far = soft_bound(tf.constant([1e2, 1e30, np.inf, -1e30, -np.inf]))
    np.testing.assert_allclose(far, [20, 20, 20, -20, -20], rtol=1e-6)
    assert np.all(np.abs(far) <= 20)


def test_soft_bound_has_a_continuous_derivative_within_0_and_1():
    x = tf.constant(np.linspace(-40, 40, 8001))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = soft_bound(x)
    slope = tape.gradient(y, x).numpy()
    inside = np.abs(x) <= 10
    np.testing.assert_array_equal(slope[inside], 1.0)
    assert np.all((slope[~inside] < 1) & (slope[~inside] > 0))
    # The second derivative is at most 0.077 (of 10 tanh(x / 10)); the step is 0.01.
    assert np.abs(np.diff(slope)).max() < 0.08 * 0.01
    np.testing.assert_allclose(np.gradient(y, x)[1:-1], slope[1:-1], atol=1e-3)


# --- GaussianExpert


def test_gaussian_expert_halves_the_log_variance_of_its_head():
    layer = GaussianExpert(2)
    features = np.random.default_rng(0).normal(size=(5, 3, 2)).astype("float32")
    layer(features)
    weights = [
        np.random.default_rng(i).normal(size=w.shape)
        for i, w in enumerate(layer.weights)
    ]
    layer.set_weights(weights)
    output = layer(features)
    loc_kernel, loc_bias, kernel, bias = weights
    flat = features.reshape(5, 6)
    np.testing.assert_allclose(output.loc, flat @ loc_kernel + loc_bias, rtol=1e-4)
    log_variance = flat @ kernel + bias
    assert np.abs(log_variance).max() < 20  # within the bound's identity
    np.testing.assert_allclose(
        np.exp(2 * output.log_scale), np.exp(log_variance), rtol=1e-4
    )


def test_gaussian_expert_bounds_its_log_scale():
    layer = GaussianExpert(1)
    layer(np.zeros([1, 1], "float32"))
    layer.set_weights([np.ones([1, 1]), np.zeros(1), np.ones([1, 1]), np.zeros(1)])
    output = layer(np.array([[1e9], [-1e9], [4.0]], "float32"))
    np.testing.assert_allclose(output.log_scale[:, 0], [20.0, -20.0, 2.0], rtol=1e-6)


def test_gaussian_expert_is_rebuilt_from_its_config():
    layer = GaussianExpert(3, name="expert")
    x = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    expected, again = layer(x), rebuilt(layer)
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    assert again.name == "expert"
    np.testing.assert_array_equal(again(x), expected)


@pytest.mark.parametrize("latent_dim", [0, -1])
def test_gaussian_expert_refuses_a_latent_without_dimensions(latent_dim):
    with pytest.raises(
        ValueError, match=f"`latent_dim` must be .*Received: {latent_dim}"
    ):
        GaussianExpert(latent_dim)


# --- SubsetProductOfExperts


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"subsets": "powerset", "prior_expert": "every_subset"},
        {"subsets": "full", "prior_expert": "none"},
        {"subsets": [[0], [1, 2]]},
    ],
    ids=str,
)
@pytest.mark.parametrize("present", [None, PRESENT], ids=["all", "some"])
def test_products_are_the_distributions_components(kwargs, present):
    experts = gaussian(4, 3, 2)
    layer = SubsetProductOfExperts(**kwargs)
    products = layer(experts, present)
    q = MixtureOfProductsOfExperts(
        experts.loc, tf.exp(experts.log_scale), present, **kwargs
    )
    expected = q.components_distribution
    assert isinstance(products, DiagonalGaussian)
    np.testing.assert_allclose(products.loc, expected.mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tf.exp(products.log_scale), expected.stddev(), rtol=1e-5)
    again = rebuilt(layer)(experts, present)
    np.testing.assert_array_equal(again, products)


def test_products_by_default_have_the_prior_in_the_full_set_alone():
    experts = gaussian(1, 2, 3)
    products = SubsetProductOfExperts()(experts)
    expected = closed_forms.subset_posteriors(
        experts.loc[0].numpy(),
        np.exp(experts.log_scale[0]),
        [(0,), (1,), (0, 1)],
        "full_set",
    )
    np.testing.assert_allclose(products.loc[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(np.exp(products.log_scale[0]), expected[1], rtol=1e-5)


def test_products_ignore_the_values_of_missing_experts():
    experts = gaussian(4, 3, 2)
    hole = tf.constant(np.where(PRESENT[..., np.newaxis], 0.0, np.nan), tf.float32)
    layer = SubsetProductOfExperts()
    outcomes = []
    for held in (experts, [x + hole for x in experts]):
        held = [tf.identity(x) for x in held]
        with tf.GradientTape() as tape:
            tape.watch(held)
            products = layer(held, PRESENT)
            total = tf.add_n([tf.reduce_sum(x**2) for x in products])
        outcomes.append([*products, *tape.gradient(total, held)])
    for actual, expected in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_products_refuse_an_unknown_prior_expert():
    with pytest.raises(ValueError, match="`prior_expert` must be .*Received: 'maybe'"):
        SubsetProductOfExperts(prior_expert="maybe")


# --- MixtureOfExperts


@pytest.mark.parametrize("component_draw", ["stratified", "contiguous"])
def test_the_same_seed_gives_the_same_draw(component_draw):
    components = gaussian(9, 7, 2)
    layer = MixtureOfExperts(component_draw=component_draw)
    first, again, other = (
        layer(components, seed=tf.constant(seed)) for seed in ([0, 1], [0, 1], [0, 2])
    )
    again_rebuilt = rebuilt(layer)(components, seed=tf.constant([0, 1]))
    for z, component in (again, again_rebuilt):
        np.testing.assert_array_equal(z, first[0])
        np.testing.assert_array_equal(component, first[1])
    assert np.all(np.not_equal(other[0], first[0]))


def test_without_a_seed_each_call_draws_anew_and_the_layers_seed_fixes_the_sequence():
    components = gaussian(9, 7, 2)
    layer, twin = MixtureOfExperts(seed=3), MixtureOfExperts(seed=3)
    draws = [layer(components)[0] for _ in range(2)]
    assert np.all(np.not_equal(*draws))
    np.testing.assert_array_equal(draws, [twin(components)[0] for _ in range(2)])
    assert rebuilt(layer).seed == 3


def test_stratified_draw_is_stratified_within_rows_of_equal_modalities():
    components = gaussian(16, 7, 2)
    present = tf.constant(np.tile(PRESENT[:2], [8, 1]))
    _, component = MixtureOfExperts()(components, seed=tf.constant([0, 1]))
    assert set(np.bincount(component, minlength=7)) == {2, 3}
    _, component = MixtureOfExperts()(components, present, seed=tf.constant([0, 1]))
    assert set(np.bincount(component[::2], minlength=7)) == {1, 2}
    # Of the second rows modality 1 is missing: {0}, {2}, {0, 2} remain.
    counts = np.bincount(component[1::2], minlength=7)
    assert set(counts[[0, 2, 4]]) == {2, 3}
    assert counts.sum() == counts[[0, 2, 4]].sum()


def test_contiguous_draw_is_the_published_split():
    components = gaussian(16, 7, 2)
    layer = MixtureOfExperts(component_draw="contiguous")
    _, component = layer(components, seed=tf.constant([0, 1]))
    np.testing.assert_array_equal(component, contiguous_components(16, 7))


def test_draws_are_reparameterised_by_the_component_drawn():
    components = gaussian(6, 3, 2)
    with tf.GradientTape() as tape:
        tape.watch(components)
        z, component = MixtureOfExperts()(components, seed=tf.constant([0, 1]))
        total = tf.reduce_sum(z)
    by_loc, by_log_scale = tape.gradient(total, components)
    chosen = tf.one_hot(component, 3)[..., tf.newaxis].numpy() * np.ones(2)
    np.testing.assert_allclose(by_loc, chosen)  # dz/dloc = 1
    noise = z - tf.gather(components.loc, component, batch_dims=1)  # dz/dlog_scale
    np.testing.assert_allclose(by_log_scale, chosen * noise[:, np.newaxis], rtol=1e-4)


def test_draws_have_the_moments_of_their_component():
    loc, log_scale = (tf.tile(x, [6000, 1, 1]) for x in gaussian(1, 3, 2))
    z, component = MixtureOfExperts()((loc, log_scale), seed=tf.constant([0, 1]))
    residual = z - tf.gather(loc, component, batch_dims=1)
    residual /= tf.exp(tf.gather(log_scale, component, batch_dims=1))
    for s in range(3):
        alone = residual.numpy()[component == s]
        assert len(alone) == 2000
        # Four standard errors of a mean, 1 / sqrt(n), and of a variance, sqrt(2 / n).
        np.testing.assert_allclose(alone.mean(axis=0), 0.0, atol=4 / np.sqrt(2000))
        np.testing.assert_allclose(alone.var(axis=0), 1.0, atol=4 * np.sqrt(2 / 2000))


def test_a_contiguous_draw_refuses_missing_modalities():
    layer = MixtureOfExperts(component_draw="contiguous")
    with pytest.raises(
        ValueError, match="'contiguous'.* without missing.*'stratified'"
    ):
        layer(gaussian(4, 7, 2), PRESENT, seed=tf.constant([0, 1]))


def test_an_unknown_component_draw_is_refused():
    with pytest.raises(ValueError, match="`component_draw` must be .*Received: 'best'"):
        MixtureOfExperts(component_draw="best")


# --- All three together


@pytest.mark.usefixtures("mixed_float16")
def test_latent_arithmetic_stays_in_float32_under_mixed_precision():
    features = tf.random.stateless_normal([4, 5], seed=[0, 1], dtype=tf.float16)
    expert = GaussianExpert(2)
    outputs = expert(features)
    stacked = DiagonalGaussian(*(tf.stack([x, x], axis=1) for x in outputs))
    products = SubsetProductOfExperts()(stacked)
    z, component = MixtureOfExperts()(products, seed=tf.constant([0, 1]))
    assert {x.dtype for x in (*outputs, *products, z)} == {tf.float32}
    assert {weight.dtype for weight in expert.weights} == {"float32"}
    assert component.dtype == tf.int32
    for layer in (expert, SubsetProductOfExperts(), MixtureOfExperts()):
        assert rebuilt(layer).compute_dtype == "float32"


def test_a_functional_model_of_all_three_runs_and_survives_saving(tmp_path):
    inputs = [keras.Input((4,), name="a"), keras.Input((5,), name="b")]
    present = keras.Input((2,), dtype="bool", name="present")
    experts = [GaussianExpert(2, name=f"{x.name}_expert")(x) for x in inputs]
    stacked = [keras.ops.stack(field, axis=1) for field in zip(*experts, strict=True)]
    products = SubsetProductOfExperts(name="products")(stacked, present=present)
    z, component = MixtureOfExperts(seed=1)(products, present=present)
    assert products.loc.shape == (None, 3, 2)
    assert z.shape == (None, 2)
    assert component.shape == (None,)
    assert component.dtype == "int32"
    model = keras.Model([*inputs, present], [*products, z, component])

    rng = np.random.default_rng(0)
    batch = [rng.normal(size=(6, size)).astype("float32") for size in (4, 5)]
    batch.append(np.tile([[True, True], [True, False]], [3, 1]))
    loc, log_scale, z, component = model(batch)
    assert np.all(component.numpy()[1::2] == 0)
    moved = (z - tf.gather(loc, component, batch_dims=1)) / tf.exp(
        tf.gather(log_scale, component, batch_dims=1)
    )
    assert np.all(np.abs(moved) < 6)  # noise of order 1 around the component's mean

    model.save(tmp_path / "layers.keras")
    loaded = keras.saving.load_model(tmp_path / "layers.keras")
    again = loaded(batch)
    np.testing.assert_array_equal(again[0], loc)
    np.testing.assert_array_equal(again[1], log_scale)
    assert again[2].shape == (6, 2)
