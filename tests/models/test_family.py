"""What all members of the family do: missing modalities, and their posteriors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tests import closed_forms
from tests.tiny_models import (
    FAMILY,
    KINDS,
    experts_of,
    fix_noise,
    losses_and_terms,
    tiny_batch,
    tiny_model,
    train_logs,
)
from tf_mopoe import MMJSD, MMVAE, MVAE, Modality, MoPoEVAE
from tf_mopoe.distributions import LIKELIHOODS, Likelihood
from tf_mopoe.distributions.likelihoods import POSITIVE
from tf_mopoe.subsets import SubsetSampler

every_member = pytest.mark.parametrize("cls", FAMILY)
every_kind = pytest.mark.parametrize(("cls", "objective"), KINDS)
SUBSETS = {
    MoPoEVAE: ([(0,), (1,), (0, 1)], "full_set"),
    MVAE: ([(0, 1)], "every_subset"),
    MMVAE: ([(0,), (1,)], "none"),
    MMJSD: ([(), (0,), (1,)], "none"),
}


@every_member
def test_posterior_is_the_members_own_mixture(cls):
    model, batch = tiny_model(cls=cls), tiny_batch()
    loc, scale = experts_of(model, batch)
    posterior = model.posterior(batch)
    for row in range(8):
        components = closed_forms.subset_posteriors(loc[row], scale[row], *SUBSETS[cls])
        mean, spread = closed_forms.mixture_moments(*components)
        np.testing.assert_allclose(posterior.mean()[row], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(posterior.stddev()[row], spread, rtol=1e-4)


@pytest.mark.parametrize("present", [[True, True], [True, False], [False, False]])
def test_jensen_shannon_form_is_its_formula(present):
    """Divergences by quadrature-free closed forms from the explicit dynamic prior."""
    model = tiny_model(cls=MMJSD)
    batch = tiny_batch(rows=1)
    loc, scale = experts_of(model, batch)
    flags = {name: np.array([here]) for name, here in zip("ab", present, strict=True)}
    _, terms = losses_and_terms(
        model, model.unpack_batch({**batch, "present": flags}), tf.constant([0, 1])
    )
    here = np.array(present)
    means = np.concatenate([loc[0, here], np.zeros([1, 2])])
    scales = np.concatenate([scale[0, here], np.ones([1, 2])])
    precision = np.mean(scales**-2.0, axis=0)
    center = np.mean(means * scales**-2.0, axis=0) / precision
    expected = closed_forms.gaussian_kl(means, scales, center, precision**-0.5).mean()
    np.testing.assert_allclose(
        terms.divergence.content, [expected], rtol=1e-4, atol=1e-6
    )


@pytest.mark.integration
@every_kind
def test_losses_and_gradients_are_finite_whatever_is_missing(cls, objective):
    model = tiny_model(cls=cls, objective=objective, num_samples=2)
    complete, nothing = {}, {"a": [False] * 3, "b": [False] * 3}
    patterns = {"a": [True, False, False], "b": [True, True, False]}
    for flags in (complete, patterns, nothing):
        batch = tiny_batch(rows=3)
        batch["present"] = {name: np.array(flag) for name, flag in flags.items()}
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=batch, training=False)
        assert np.isfinite(loss)
        for gradient in tape.gradient(loss, model.trainable_variables):
            assert gradient is None or np.all(np.isfinite(gradient))
        if flags is nothing:
            np.testing.assert_allclose(loss, 0.0, atol=1e-6)


@pytest.mark.integration
@every_kind
def test_an_absent_key_is_a_column_of_false_flags(cls, objective):
    model = tiny_model(cls=cls, objective=objective, num_samples=2)
    batch = tiny_batch(rows=6)
    flagged = {**batch, "present": {"b": np.zeros(6, bool)}}
    losses = [
        model.compute_loss(x=x, training=False) for x in ({"a": batch["a"]}, flagged)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for method in (model.posterior, model.encode, model.impute, model.encode_styles):
        assert method({"a": batch["a"]}) is not None
    np.testing.assert_allclose(
        model.encode({"a": batch["a"]})["loc"], model.encode(flagged)["loc"], rtol=1e-5
    )


@pytest.mark.integration
@every_kind
def test_one_row_and_one_modality_train(cls, objective):
    if cls is MMJSD:
        with pytest.raises(ValueError, match="must be at least two"):
            tiny_model("a", cls=cls, objective=objective)
        return
    model = tiny_model("a", cls=cls, objective=objective, num_samples=2)
    model.compile(keras.optimizers.SGD(0.01))
    logs = train_logs(model, tiny_batch("a", rows=1))
    assert np.isfinite(logs["loss"])
    assert model.impute(tiny_batch("a", rows=1), 2)["a"].shape == (2, 1, 3)


@every_member
def test_loss_of_rows_with_holes_is_the_mean_of_the_rows_alone(cls, monkeypatch):
    """With one component a row, so that no draw depends on the rows beside it."""
    fix_noise(monkeypatch)
    monkeypatch.setattr(
        "tf_mopoe.layers.MixtureOfExperts._draw_components",
        lambda self, loc, present, seed, drawn, num_draws, replica: tf.zeros(
            [num_draws, tf.shape(loc)[0]], tf.int32
        ),
    )
    model = tiny_model("abc", cls=cls)
    batch = tiny_batch("abc", rows=6)
    flags = np.random.default_rng(0).random((6, 3)) < 0.5
    flags[0] = False
    present = {name: flags[:, index] for index, name in enumerate("abc")}
    rows, _ = losses_and_terms(
        model, model.unpack_batch({**batch, "present": present}), tf.constant([0, 1])
    )
    for row in range(1, 6):
        kept = {n: batch[n][row : row + 1] for n in "abc" if present[n][row]}
        if not kept:
            continue
        alone, _ = losses_and_terms(
            model,
            model.unpack_batch(
                {**kept, "present": {n: np.array([True]) for n in kept}}
            ),
            tf.constant([0, 1]),
        )
        np.testing.assert_allclose(rows[row], alone[0], rtol=1e-4)
    np.testing.assert_allclose(rows[0], 0.0, atol=1e-6)


@pytest.mark.slow
def test_twenty_modalities_train_with_sampled_subsets():
    names = [f"m{index}" for index in range(20)]
    model = MoPoEVAE(
        [
            Modality(
                name,
                (2,),
                encoder=keras.layers.Dense(4),
                decoder=keras.layers.Dense(2),
            )
            for name in names
        ],
        latent_dim=3,
        subsets=SubsetSampler(8, always=[names]),
        seed=0,
    )
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(64, 1))
    x = {name: np.repeat(hidden, 2, axis=1).astype("float32") + 0.1 for name in names}
    x["present"] = {"m3": rng.random(64) < 0.5}
    model.compile(keras.optimizers.Adam(0.02))
    losses = model.fit(x, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert model.posterior(x).mixture_weights.shape == (64, 8)
    assert model.encode({"m0": x["m0"]})["loc"].shape == (64, 3)
    with pytest.raises(ValueError, match="all subsets of 20 modalities are too many"):
        model.subset_posteriors(x)


@pytest.mark.integration
def test_sampled_loss_has_the_exact_loss_for_its_mean(monkeypatch):
    fix_noise(monkeypatch, 0.7)
    options = {"names": "abc", "beta": 2.0}
    exact, sampled = (
        tiny_model(**options),
        tiny_model(**options, subsets=SubsetSampler(2, [["a", "b", "c"]])),
    )
    batch = tiny_batch("abc", rows=4)

    def losses(model):
        @tf.function
        def every_seed():
            seeds = tf.stack([tf.ones(4000, tf.int32), tf.range(4000)], axis=1)
            checked = model.unpack_batch(batch)
            return tf.map_fn(
                lambda seed: losses_and_terms(model, checked, seed, beta=2.0)[0],
                seeds,
                fn_output_signature=tf.float32,
            )

        return every_seed().numpy()

    one, other = losses(exact), losses(sampled)
    error = np.hypot(one.std(axis=0), other.std(axis=0)) / np.sqrt(4000)
    assert np.all(np.abs(one.mean(axis=0) - other.mean(axis=0)) < 4.5 * error)


def test_too_many_modalities_to_mix_are_refused_with_the_way_out():
    modalities = [
        Modality(
            f"m{index}",
            (1,),
            encoder=keras.layers.Dense(1),
            decoder=keras.layers.Dense(1),
        )
        for index in range(13)
    ]
    with pytest.raises(ValueError, match=r"13 modalities.*SubsetSampler\(16\)"):
        MoPoEVAE(modalities, latent_dim=1)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("objective", "elb0"),
        ("num_samples", 0),
        ("num_samples", 1.5),
        ("beta_content", -1.0),
        ("beta_style", float("nan")),
        ("beta", "0.5"),
        ("beta", None),
        ("beta_content", [1, 2]),
        ("seed", 2**40),
        ("seed", -1),
    ],
)
def test_wrong_arguments_are_named(argument, value):
    right_type = isinstance(value, float) and argument != "num_samples"
    right_type |= isinstance(value, int) or argument == "objective"
    with pytest.raises(
        ValueError if right_type else TypeError, match=f"`{argument}` must be"
    ):
        tiny_model(**{argument: value})


def test_class_weights_are_refused():
    model = tiny_model()
    model.compile("sgd")
    with pytest.raises(ValueError, match="`class_weight` is not for this model"):
        model.fit(tiny_batch(), class_weight={0: 1.0}, verbose=0)


@pytest.mark.integration
@pytest.mark.parametrize("objective", ["elbo", "dreg"])
def test_float64_policies_work(objective):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        model = tiny_model(objective=objective, options={"a": {"style_dim": 1}})
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.SGD(0.01))
    assert np.isfinite(train_logs(model, tiny_batch())["loss"])
    assert model.encode(tiny_batch())["loc"].dtype == tf.float64


@pytest.mark.integration
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_refused_first_batch_leaves_a_model_that_trains(jit):
    """In the same way as one that had never seen it."""
    model, other = tiny_model(), tiny_model()
    for each in (model, other):
        each.compile(keras.optimizers.Adam(0.01), jit_compile=jit)
    for method in (model.train_on_batch, model.fit):
        with pytest.raises(ValueError, match="Unknown modality 'aa'"):
            method({"aa": tiny_batch()["a"]})
    for each in (model, other):
        each.train_on_batch(tiny_batch())
        each.fit(tiny_batch(), shuffle=False, verbose=0)
    assert model.optimizer.iterations == other.optimizer.iterations == 2
    for left, right in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_missing_rows_of_a_positive_likelihood_are_filled_inside_its_support(
    monkeypatch,
):
    """Zero has log-density minus infinity there, and its gradient is NaN."""
    likelihood = Likelihood(
        lambda loc, scale: tfd.LogNormal(loc, scale), POSITIVE, scaled=True
    )
    monkeypatch.setitem(LIKELIHOODS, "log_normal", likelihood)

    class Log(keras.layers.Layer):
        def call(self, x):
            return keras.ops.log(x)

    options = {"a": {"likelihood": "log_normal", "encoder": Log()}}
    model = tiny_model(options=options)
    batch = tiny_batch(rows=4)
    batch["a"] = np.exp(batch["a"])
    batch["present"] = {"a": np.array([True, False, True, False])}
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=batch, training=False)
    assert np.isfinite(loss)
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert np.all(np.isfinite(gradient))
    batch["a"][0] = -1.0
    with pytest.raises(ValueError, match="'a' must hold positive numbers"):
        model.posterior(batch)


def test_regularisers_of_every_precision_add_up():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        encoder = keras.layers.Dense(
            4, kernel_regularizer="l2", activity_regularizer="l2"
        )
        model = tiny_model(options={"a": {"encoder": encoder}})
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(model.compute_loss(x=tiny_batch(), training=False))


def test_values_too_large_for_the_models_precision_are_refused():
    with pytest.raises(ValueError, match="'a' must hold finite numbers"):
        tiny_model().encode({"a": np.full([2, 3], 1e300)})


@pytest.mark.parametrize(
    "kwargs",
    [
        {"objective": "dreg", "num_samples": 2},
        {"objective": "iwae"},
        {"subsets": SubsetSampler(2)},
    ],
)
def test_a_fixed_split_is_refused_where_draws_must_be_random(kwargs):
    with pytest.raises(ValueError, match="`component_draw='contiguous'` is for"):
        tiny_model(component_draw="contiguous", **kwargs)


@pytest.mark.parametrize(
    "subsets",
    [5, None, [0, 1], [[None]], [[0.9]], ["a"], [["a", "z"]], [[2]]],
    ids=str,
)
def test_wrong_subsets_are_refused(subsets):
    with pytest.raises(ValueError, match="`subsets`"):
        tiny_model(subsets=subsets)


@pytest.mark.parametrize("always", [["ab"], "ab", [0], [[[0]]], 5], ids=str)
def test_wrong_lists_of_marked_subsets_are_refused(always):
    with pytest.raises(ValueError, match="`always` must list subsets"):
        SubsetSampler(3, always)


def test_networks_that_do_not_fit_are_refused_by_name():
    wrong = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"encoder of modality 'a' must take .*3"):
        tiny_model(options={"a": {"encoder": wrong}})
    wrong = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"decoder of modality 'a' must take"):
        tiny_model(options={"a": {"decoder": wrong}})


def test_weights_of_styles_without_a_style_are_refused():
    with pytest.raises(ValueError, match="`beta_style` has no effect"):
        tiny_model(beta_style=2.0)
    with pytest.raises(ValueError, match="`beta_style` of modality 'x' has no effect"):
        Modality("x", (3,), beta_style=2.0)
