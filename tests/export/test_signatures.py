"""The signatures as functions: the mathematics, rows and edge cases."""

import keras
import numpy as np
import pytest
from scipy import stats

from export.errors import UsageError
from export.signatures.signatures import check_names, make_signatures
from export.verification.examples import make_inputs, missing_patterns
from tests.export.signature_calls import as_batch, ask, assert_same, request_of
from tests.tiny_models import FAMILY, SIZES, tiny_batch, tiny_modality, tiny_model
from tf_mopoe import Modality, MoPoEVAE
from tf_mopoe.models import log_likelihood, row_draws
from tf_mopoe.subsets import SubsetSampler

#: Modalities with every kind of likelihood.
KINDS = {
    "normal": {"likelihood": "normal", "style_dim": 2},
    "laplace": {"likelihood": "laplace", "likelihood_scale": "per_element"},
    "student_t": {"likelihood": "student_t"},
    "bernoulli": {"likelihood": "bernoulli"},
    "continuous_bernoulli": {"likelihood": "continuous_bernoulli"},
    "categorical": {"likelihood": "categorical"},
    "integer": {"likelihood": "integer_categorical", "num_classes": 4},
    "poisson": {"likelihood": "poisson"},
    "negative_binomial": {"likelihood": "negative_binomial"},
    "zinb": {"likelihood": "zero_inflated_negative_binomial"},
    "table": {"likelihood": [("normal", 1), ("poisson", 1), ("categorical", 2)]},
}


def kind_model(kind, cls=MoPoEVAE, **kwargs):
    """A model of one modality of a kind and one of reals."""
    return cls(
        [Modality("x", (4,), **KINDS[kind]), tiny_modality("a")],
        latent_dim=2,
        seed=0,
        **kwargs,
    )


@pytest.mark.parametrize("cls", FAMILY)
def test_reconstruct_and_encode_answer_as_the_model_for_every_pattern(cls):
    options = {"a": {"style_dim": 2}}
    model = tiny_model("abc", cls=cls, options=options)
    patterns = missing_patterns(3, np.random.default_rng(0))
    assert len({tuple(pattern) for pattern in patterns}) == 8
    request = request_of(
        model, tiny_batch("abc"), **dict(zip("abc", patterns.T, strict=True))
    )
    batch = as_batch(model, request)
    assert_same(ask(model, "serving_default", request), model(batch))
    assert_same(ask(model, "encode", request), model.encode(batch))


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
def test_every_likelihood_is_served_as_the_model_answers(kind):
    model = kind_model(kind)
    signatures = make_signatures(model)
    patterns = missing_patterns(2, np.random.default_rng(0))
    request = make_inputs(model, signatures, patterns, np.random.default_rng(1))
    batch = as_batch(model, request)
    assert_same(ask(model, "serving_default", request), model(batch))
    assert_same(ask(model, "encode", request), model.encode(batch))
    estimate = model.log_likelihood_estimate(batch, num_samples=500, seed=3)
    served = ask(model, "log_likelihood", request, num_samples=500)["log_likelihood"]
    error = np.sqrt(2) * estimate.standard_error + 1e-6
    np.testing.assert_array_less(
        np.abs(served - estimate.log_likelihood), 5 * error + 1e-4
    )


def latent_model(cls, **kwargs):
    """Models whose first modality is decoded to z itself, the second to its style."""
    identity = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    style = keras.Sequential([keras.Input((4,)), keras.layers.Identity()])
    modalities = [
        tiny_modality("z", (2,), decoder=identity),
        tiny_modality("s", (4,), decoder=style, style_dim=2),
    ]
    return tiny_model(modalities, cls=cls, **kwargs)


def posterior_cdf(model, batch, dimension):
    """CDF of one dimension of a row's posterior, from components and weights."""
    q = model.posterior(batch)
    weights = q.mixture_weights[0].numpy()
    loc = q.components_distribution.mean()[0, :, dimension].numpy()
    scale = q.components_distribution.stddev()[0, :, dimension].numpy()
    if not weights.any():  # nothing is present: the prior
        weights, loc, scale = np.ones(1), np.zeros(1), np.ones(1)

    def cdf(x):
        return (weights * stats.norm.cdf((x[:, None] - loc) / scale)).sum(axis=1)

    return cdf


@pytest.mark.integration
@pytest.mark.parametrize(
    ("cls", "present"),
    [(cls, (True, False)) for cls in FAMILY]
    + [(MoPoEVAE, (True, True)), (MoPoEVAE, (False, False))],
)
def test_impute_draws_from_the_posterior_and_styles_from_theirs(cls, present):
    model = latent_model(cls)
    generator = np.random.default_rng(1)
    row = {"z": generator.normal(size=(1, 2)), "s": generator.normal(size=(1, 4))}
    flags = dict(zip("zs", present, strict=True))
    single = as_batch(model, request_of(model, row, **flags))
    rows = {name: np.repeat(value, 4000, axis=0) for name, value in row.items()}
    answer = ask(model, "impute", request_of(model, rows, seed=-2000, **flags))
    # z is what "z" shows, and the first half of "s".
    np.testing.assert_allclose(answer["z"], answer["s"][:, :2], rtol=1e-5, atol=1e-6)
    for dimension in range(2):
        cdf = posterior_cdf(model, single, dimension)
        assert stats.kstest(answer["z"][:, dimension], cdf).pvalue > 1e-3
        style = model.encode_styles(single)["s"]
        loc, scale = (float(style[k][0, dimension]) for k in ("loc", "scale"))
        drawn = answer["s"][:, 2 + dimension]
        assert stats.kstest(drawn, stats.norm(loc, scale).cdf).pvalue > 1e-3


@pytest.mark.integration
def test_sample_draws_from_the_prior_and_all_modalities_from_one_z():
    model = latent_model(MoPoEVAE)
    answer = ask(model, "sample", {"seed": np.arange(4000) - 2000})
    np.testing.assert_array_equal(answer["z"], answer["s"][:, :2])
    for column in np.concatenate([answer["z"], answer["s"][:, 2:]], axis=1).T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    correlation = np.corrcoef(answer["s"].T) - np.eye(4)
    assert np.abs(correlation).max() < 0.06


def test_draws_of_a_row_depend_on_its_seed_not_its_position():
    model = tiny_model("ab", options={"a": {"style_dim": 2}})
    batch = tiny_batch("ab", rows=6)
    request = request_of(model, batch)
    request["seed"] = np.array([0, 1, -1, 2**62, -(2**63), 2**32])
    for name in ("impute", "sample", "log_likelihood"):
        together = ask(model, name, request)
        order = np.array([3, 0, 5])
        picked = {key: value[order] for key, value in request.items()}
        assert_same(
            ask(model, name, picked),
            {key: value[order] for key, value in together.items()},
        )
    same = {**request, **{k: np.repeat(v[:1], 6, axis=0) for k, v in batch.items()}}
    # Of one row, 6 seeds: 6 answers. (0 and 2**32 differ in their upper half alone.)
    assert len(np.unique(ask(model, "impute", same)["b"], axis=0)) == 6
    assert len(np.unique(ask(model, "sample", same)["b"], axis=0)) == 6


@pytest.mark.integration
def test_log_likelihood_counts_what_is_present_and_nothing_is_0():
    model = tiny_model("ab")
    batch = tiny_batch("ab", rows=3)
    request = request_of(model, batch, a=[True, True, False], b=[True, False, False])
    served = ask(model, "log_likelihood", request, num_samples=2000)["log_likelihood"]
    assert served.dtype == np.float64
    assert served[2] == pytest.approx(0.0, abs=1e-6)
    first = {name: value[:1] for name, value in batch.items()}
    second = {"a": batch["a"][1:2]}
    for row, given in enumerate([first, second]):
        estimate = model.log_likelihood_estimate(given, num_samples=2000, seed=1)
        error = float(estimate.standard_error[0])
        assert abs(served[row] - float(estimate.log_likelihood[0])) < 6 * error


@pytest.mark.integration
def test_many_samples_are_decoded_in_parts_with_the_same_result(monkeypatch):
    model = tiny_model("ab")
    request = request_of(model, tiny_batch("ab", rows=4))
    whole = ask(model, "log_likelihood", request, num_samples=7)
    # 2 samples at a time: three components of two dimensions are the largest tensor.
    monkeypatch.setattr(row_draws, "MAX_ELEMENTS", 64 * 6 * 2)
    seen = []
    component_at = log_likelihood.component_at
    monkeypatch.setattr(
        log_likelihood,
        "component_at",
        lambda weights, points: (
            seen.append(points.shape[0]) or component_at(weights, points)
        ),
    )
    assert_same(ask(model, "log_likelihood", request, num_samples=7), whole)
    assert set(seen) == {2}


def test_nan_and_infinity_affect_only_their_rows():
    model = tiny_model("ab")
    request = request_of(model, tiny_batch("ab", rows=4), b=[True, True, True, False])
    clean = {name: ask(model, name, request) for name in ("encode", "impute",
             "serving_default", "log_likelihood")}  # fmt: skip
    request["a"][1, 0] = np.nan
    request["b"][2, 1] = -np.inf
    request["b"][3] = np.inf  # absent
    for name, expected in clean.items():
        for key, value in ask(model, name, request).items():
            assert np.isnan(value[[1, 2]]).all()
            np.testing.assert_array_equal(value[[0, 3]], expected[key][[0, 3]])


def test_a_class_that_the_model_does_not_know_counts_as_absent():
    model = kind_model("integer")
    batch = {"x": np.array([[0, 1, 2, 3]] * 3), "a": tiny_batch("a", rows=3)["a"]}
    absent = request_of(model, batch, x=False)
    unknown = request_of(model, batch)
    unknown["x"] = np.array([[0, 1, 2, 4], [-1, 0, 0, 0], [2**31 - 1, 0, 0, 0]])
    for name in ("serving_default", "encode", "impute"):
        assert_same(ask(model, name, unknown), ask(model, name, absent))
    served = ask(model, "log_likelihood", unknown)["log_likelihood"]
    assert (served == -np.inf).all()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("kind", "value"),
    [("bernoulli", 1.5), ("poisson", -1.0), ("categorical", 0.5), ("table", 2.5)],
)
def test_log_likelihood_outside_the_support_is_minus_infinity(kind, value):
    model = kind_model(kind)
    patterns = np.ones([2, 2], bool)
    signatures = make_signatures(model)
    request = make_inputs(model, signatures, patterns, np.random.default_rng(0))
    assert np.isfinite(ask(model, "log_likelihood", request)["log_likelihood"]).all()
    request["x"][1, 1] = value
    served = ask(model, "log_likelihood", request)["log_likelihood"]
    assert np.isfinite(served[0])
    assert served[1] == -np.inf
    for name in ("serving_default", "encode", "impute"):
        for answer in ask(model, name, request).values():
            assert np.isfinite(answer).all()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("cls", "kind"),
    [(cls, "normal") for cls in FAMILY]
    + [(MoPoEVAE, kind) for kind in sorted(KINDS.keys() - {"normal", "integer"})],
)
def test_extreme_values_have_answers_without_nan(cls, kind):
    model = kind_model(kind, cls)
    largest = np.finfo(np.float32).max
    extremes = np.array([largest, -largest, 1e30, -1e20, 1e10, 1e-45, -0.0, 65536.0])
    rows = np.random.default_rng(0).choice(extremes, [40, 4])
    batch = {"x": rows, "a": rows[::-1, : SIZES["a"]]}
    flags = np.random.default_rng(1).random([2, 40]) < 0.7
    request = request_of(model, batch, x=flags[0], a=flags[1])
    for name in ("serving_default", "encode", "impute", "log_likelihood"):
        for key, answer in ask(model, name, request, num_samples=5).items():
            assert not np.isnan(answer).any(), (name, key)


@pytest.mark.integration
def test_sampled_subsets_answer_a_row_the_same_in_any_batch():
    model = tiny_model("abc", subsets=SubsetSampler(3, [["a"]]))
    request = request_of(model, tiny_batch("abc", rows=3))
    for name in ("serving_default", "encode", "impute", "log_likelihood"):
        together = ask(model, name, request)
        for row in range(3):
            alone = {key: value[row : row + 1] for key, value in request.items()}
            assert_same(
                ask(model, name, alone),
                {key: value[row : row + 1] for key, value in together.items()},
            )


@pytest.mark.parametrize(
    "others", [("A", "a"), ("a", "a_bytes"), ("b", "A_BYTES", "a")]
)
def test_names_that_tensorflow_does_not_tell_apart_are_refused(others):
    with pytest.raises(UsageError, match="can't be served together"):
        check_names(others)


@pytest.mark.parametrize("name", ["class", "self", "x-ray", "view.1", "2d"])
def test_names_that_tensorflow_does_not_take_are_refused(name):
    with pytest.raises(UsageError, match=f"modality '{name}' can't be served"):
        check_names([name, "a"])
