"""Modality-specific latents: their divergence, and where imputation takes them from."""

import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.tiny_models import (
    KINDS,
    experts_of,
    fix_noise,
    losses_and_terms,
    tiny_batch,
    tiny_model,
)

OPTIONS = {"a": {"style_dim": 2, "beta_style": 3.0}, "c": {"style_dim": 1}}
#: Row 0 has all, row 1 lacks "a", row 2 lacks "c", row 3 has "b" alone.
FLAGS = {
    "a": np.array([True, False, True, False]),
    "c": np.array([True, True, False, False]),
}


def styled_model(**kwargs):
    return tiny_model("abc", options=OPTIONS, **kwargs)


def styled_batch():
    batch = tiny_batch("abc", rows=4)
    batch["a"][~FLAGS["a"]] = np.nan
    return {**batch, "present": FLAGS}


def style_of(model, name, values):
    """loc and scale `[B, D_m]` of q(s_m | x_m)."""
    style = model.networks.style_experts[name](model.networks.encoders[name](values))
    return style.loc.numpy(), np.exp(style.log_scale)


def test_loss_is_its_formula_with_styles(monkeypatch):
    fix_noise(monkeypatch)
    model = styled_model(
        beta=2.0, beta_content=0.7, beta_style=0.4, subsets="full", prior_expert="none"
    )
    batch = styled_batch()
    rows, terms = losses_and_terms(
        model, model.unpack_batch(batch), tf.constant([0, 1]), beta=2.0
    )
    clean = {name: np.nan_to_num(batch[name]) for name in "abc"}
    loc, scale = experts_of(model, clean)
    styles = {name: style_of(model, name, clean[name]) for name in "ac"}
    for row in range(4):
        here = np.array([FLAGS["a"][row], True, FLAGS["c"][row]])
        z, spread = closed_forms.product_by_formula(loc[row, here], scale[row, here])
        divergence = 0.7 * closed_forms.gaussian_kl(z, spread)
        expected = 0.0
        for index, name in enumerate("abc"):
            if not here[index]:
                continue
            latent = z
            if name in styles:
                mean, deviation = (field[row] for field in styles[name])
                latent = np.concatenate([z, mean])
                style_kl = closed_forms.gaussian_kl(mean, deviation)
                np.testing.assert_allclose(
                    terms.divergence.styles[name][row], style_kl, rtol=1e-4
                )
                divergence += 0.4 * {"a": 3.0, "c": 1.0}[name] * style_kl
            parameters = model.networks.decoders[name](
                latent[np.newaxis].astype("float32")
            )
            expected -= closed_forms.log_likelihood(
                "normal", clean[name][row : row + 1], parameters
            ).item()
        np.testing.assert_allclose(rows[row], expected + 2.0 * divergence, rtol=1e-4)
    for name in "ac":
        np.testing.assert_array_equal(terms.divergence.styles[name][~FLAGS[name]], 0.0)


@pytest.mark.integration
def test_style_divergences_are_metrics_over_present_rows():
    model = styled_model()
    model.compile("sgd")
    logs = model.test_on_batch(styled_batch(), return_dict=True)
    values = np.nan_to_num(styled_batch()["a"])
    expected = closed_forms.gaussian_kl(*style_of(model, "a", values))[FLAGS["a"]]
    np.testing.assert_allclose(logs["a_style_kl"], expected.mean(), rtol=1e-4)
    assert "b_style_kl" not in logs


def test_styles_are_encoded_where_present_and_the_priors_where_not():
    model = styled_model()
    encoded = model.encode_styles(styled_batch())
    assert list(encoded) == ["a", "c"]
    loc, scale = style_of(model, "a", np.nan_to_num(styled_batch()["a"]))
    for row in range(4):
        present = FLAGS["a"][row]
        np.testing.assert_allclose(
            encoded["a"]["loc"][row], loc[row] if present else 0.0, rtol=1e-5
        )
        np.testing.assert_allclose(
            encoded["a"]["scale"][row], scale[row] if present else 1.0, rtol=1e-5
        )
    without = model.encode_styles({"b": tiny_batch("b", rows=4)["b"]})
    np.testing.assert_array_equal(without["a"]["loc"], np.zeros([4, 2]))
    np.testing.assert_array_equal(without["c"]["scale"], np.ones([4, 1]))


def test_imputation_draws_styles_from_the_encoder_or_from_the_prior():
    """A decoder that returns its style shows it."""
    model = tiny_model("ab", options={"a": {"style_dim": 3}})
    model.networks.decoders["a"].layers[-2].set_weights(
        [np.zeros([5, 3], "float32"), np.zeros(3, "float32")]
    )
    drawn = {}
    decode = model.decode

    def spy(z, styles=None, **kwargs):
        drawn.update(styles)
        return decode(z, styles, **kwargs)

    model.decode = spy
    batch = tiny_batch("ab", rows=2)
    batch["present"] = {"a": np.array([True, False])}
    model.impute(batch, num_samples=4000, seed=0)
    loc, scale = style_of(model, "a", batch["a"])
    expected = [(loc[0], scale[0]), (np.zeros(3), np.ones(3))]
    for row, (mean, deviation) in enumerate(expected):
        values = drawn["a"].numpy()[:, row]
        # 4000 draws: five standard errors.
        assert np.all(np.abs(values.mean(axis=0) - mean) < 5 * deviation / 4000**0.5)
        np.testing.assert_allclose(values.std(axis=0), deviation, rtol=0.06)


def test_reconstruction_uses_the_styles_means():
    model = styled_model()
    batch = styled_batch()
    z = model.posterior(batch).mean()
    styles = {name: style["loc"] for name, style in model.encode_styles(batch).items()}
    for name, value in model.decode(z, styles).items():
        np.testing.assert_allclose(model(batch)[name], value, rtol=1e-5, atol=1e-6)


def test_samples_vary_in_style_and_decoding_without_one_takes_its_mean():
    model = styled_model()
    z = np.zeros([3, 2], "float32")
    zeros = {"a": np.zeros([3, 2]), "c": np.zeros([3, 1])}
    for name, value in model.decode(z).items():
        np.testing.assert_allclose(value, model.decode(z, zeros)[name], rtol=1e-6)
    other = model.decode(z, {"a": np.ones([3, 2])})
    assert np.max(np.abs(other["a"] - model.decode(z)["a"])) > 1e-3
    np.testing.assert_array_equal(other["b"], model.decode(z)["b"])
    sampled = model.sample(6, seed=0)
    assert sampled["a"].shape == (6, 3)
    with pytest.raises(ValueError, match="`styles` has 'b'.*'a', 'c'"):
        model.decode(z, {"b": np.zeros([3, 1])})


@pytest.mark.integration
@pytest.mark.parametrize(("cls", "objective"), KINDS)
def test_values_of_missing_rows_do_not_affect_gradients(cls, objective):
    gradients = []
    model = styled_model(cls=cls, objective=objective, num_samples=2)
    for garbage in (np.nan, 0.0, 7.0):
        model.reset_metrics()  # which restarts the noise
        batch = styled_batch()
        batch["a"] = np.where(np.isnan(batch["a"]), np.float32(garbage), batch["a"])
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=batch, training=False)
        gradients.append(tape.gradient(loss, model.trainable_variables))
    for actual in gradients[1:]:
        for left, right in zip(gradients[0], actual, strict=True):
            assert np.all(np.isfinite(left))
            np.testing.assert_array_equal(left, right)


def test_a_decoder_that_does_not_take_the_style_is_refused():
    from tf_mopoe import Modality, nets

    with pytest.raises(ValueError, match=r"'x' must take \('B', 5\)"):
        tiny_model(
            [Modality("x", (3,), decoder=nets.dense_decoder((3,), 2), style_dim=3)]
        )
