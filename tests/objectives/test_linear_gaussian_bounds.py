"""Bounds of every model where log p(x) is known: a linear-Gaussian decoder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.tiny_models import FAMILY, losses_and_terms
from tf_mopoe import MMJSD, MVAE, Modality, MoPoEVAE
from tf_mopoe.subsets import SubsetSampler

SIZES = {"a": 3, "b": 2, "c": 1}
SCALES = {"a": 0.8, "b": 0.6, "c": 1.1}
STYLES = {"a": 1, "b": 0, "c": 2}
LATENT_DIM, ROWS, COPIES = 2, 3, 1000
#: Samples K with which all gaps are small.
MANY, SMALL_GAP = 200, 0.05


def linear_model(cls, styles=False, **kwargs):
    """A model with affine networks, whose posteriors are not the true one."""
    modalities = [
        Modality(
            name,
            (size,),
            encoder=keras.layers.Dense(4, "tanh"),
            decoder=keras.layers.Dense(size),
            likelihood_scale=SCALES[name],
            style_dim=STYLES[name] if styles else 0,
        )
        for name, size in SIZES.items()
    ]
    model = cls(modalities, LATENT_DIM, seed=0, **kwargs)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(0.4 * rng.normal(size=variable.shape))
    for (
        expert
    ) in model.networks.experts.values():  # wide, so that no importance weight is huge
        expert.log_variance.bias.assign_add(np.full(LATENT_DIM, 1.5))
    return model


def data():
    rng = np.random.default_rng(1)
    return {
        name: rng.normal(size=(ROWS, size)).astype("float32")
        for name, size in SIZES.items()
    }


def log_evidence(model, x):
    kernels, offsets, styles = {}, {}, {}
    for modality, decoder in zip(
        model.modalities, model.networks.decoders.values(), strict=True
    ):
        kernel, offset = (w.astype(np.float64) for w in decoder.get_weights())
        kernels[modality.name], offsets[modality.name] = kernel[:LATENT_DIM], offset
        if modality.style_dim:
            styles[modality.name] = kernel[LATENT_DIM:]
    return closed_forms.linear_gaussian_log_evidence(
        x, kernels, offsets, SCALES, styles
    )


def bounds(model, x, seed=0):
    """Each row's bound and its standard error, over independent copies of the rows."""

    copied = {name: np.tile(value, [COPIES, 1]) for name, value in x.items()}
    # One call in eager mode is faster than tracing a graph for it.
    rows, _ = losses_and_terms(model, copied, tf.constant([0, seed]))
    values = -rows.numpy().reshape(COPIES, ROWS)
    return values.mean(axis=0), values.std(axis=0) / np.sqrt(COPIES)


def single_bound(cls):
    """MVAE without its further bounds, so that there is one log p(x) to compare."""
    return {"unimodal_elbos": False} if cls is MVAE else {}


@pytest.mark.parametrize(
    ("cls", "styles"),
    [(MoPoEVAE, False), *((cls, True) for cls in FAMILY)],
    ids=lambda value: getattr(value, "__name__", f"styles={value}"),
)
def test_bounds_lie_below_the_log_evidence_and_rise_with_k_towards_it(cls, styles):
    x, gaps, errors = data(), [], []
    for num_samples in (1, 4, MANY):
        model = linear_model(
            cls, styles, objective="iwae", num_samples=num_samples, **single_bound(cls)
        )
        mean, error = bounds(model, x)
        gaps.append(log_evidence(model, x) - mean)
        errors.append(error)
    gaps, errors = np.array(gaps), np.array(errors)
    assert np.all(gaps > -4 * errors), "a bound above what it bounds"
    # These posteriors are poor.
    assert np.all(gaps[0] > gaps[1] + 4 * errors[0])
    assert np.all(gaps[1] > gaps[2] + 4 * errors[1])
    assert np.all(gaps[2] < SMALL_GAP)


@pytest.mark.parametrize("cls", [cls for cls in FAMILY if cls is not MMJSD])
def test_elbo_lies_below_the_bound_of_one_importance_sample(cls):
    """Its divergence is the convexity bound, or the KL itself for one component."""
    x = data()
    elbo, error = bounds(linear_model(cls, **single_bound(cls)), x)
    one, other = bounds(linear_model(cls, objective="iwae", **single_bound(cls)), x)
    assert np.all(elbo < one + 4 * np.hypot(error, other))


@pytest.mark.integration
@pytest.mark.parametrize("cls", FAMILY)
def test_bounds_with_missing_modalities_are_bounds_of_the_present_ones(cls):
    x = data()
    model = linear_model(
        cls, styles=True, objective="iwae", num_samples=MANY, **single_bound(cls)
    )
    # Every copy of row r has the same modalities: row 0 all, row 1 "b", row 2 "a, c".
    present = np.array([[True, True, True], [False, True, False], [True, False, True]])
    flags = {
        name: np.tile(present[:, index], [COPIES]) for index, name in enumerate("abc")
    }
    copied = {name: np.tile(value, [COPIES, 1]) for name, value in x.items()}
    batch = model.unpack_batch({**copied, "present": flags})
    rows, _ = losses_and_terms(model, batch, tf.constant([0, 0]))
    values = -rows.numpy().reshape(COPIES, ROWS)
    error = values.std(axis=0) / np.sqrt(COPIES)
    for row, kept in enumerate(present):
        here = {n: x[n][row : row + 1] for n, k in zip("abc", kept, strict=True) if k}
        gap = log_evidence(model, here).item() - values[:, row].mean()
        assert -4 * error[row] < gap < SMALL_GAP


def test_bounds_with_sampled_subsets_are_bounds():
    x = data()
    model = linear_model(
        MoPoEVAE, objective="iwae", num_samples=MANY, subsets=SubsetSampler(2, [[0, 1]])
    )
    mean, error = bounds(model, x)
    gap = log_evidence(model, x) - mean
    assert np.all((-4 * error < gap) & (gap < SMALL_GAP))


def test_mvae_adds_the_bounds_of_single_modalities():
    """With many samples each is near its log-evidence: they add up."""
    x = data()
    model = linear_model(MVAE, objective="iwae", num_samples=MANY)
    mean, _ = bounds(model, x)
    expected = log_evidence(model, x)
    for name, value in x.items():
        expected = expected + log_evidence(model, {name: value})
    np.testing.assert_allclose(mean, expected, atol=4 * SMALL_GAP)  # four gaps
