"""Errors and intervals of imputation, against exact answers."""

import functools

import keras
import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from tests import closed_forms
from tests.metrics.shared_models import shared_model
from tests.tiny_models import LATENT_DIM, experts_of, tiny_batch, tiny_model
from tf_mopoe import Modality, MoPoEVAE
from tf_mopoe.metrics import imputation
from tf_mopoe.metrics.imputation import ALPHAS, imputation_error
from tf_mopoe.metrics.interval_coverage import interval_coverage

SIZES = {"a": 3, "b": 4, "c": 2}
SCALES = {"a": 0.8, "b": 0.6, "c": 0.5}
STYLE_DIM = 2  # of "c", which is imputed only
RNG = np.random.default_rng(7)
#: W_m [D, n_m] with orthogonal rows, so that the true posterior is diagonal.
KERNELS = {
    name: (np.linalg.qr(RNG.normal(size=(size, size)))[0] * 1.3)[:LATENT_DIM]
    for name, size in SIZES.items()
}
OFFSETS = {name: RNG.normal(size=size) for name, size in SIZES.items()}
STYLE_KERNEL = 0.7 * RNG.normal(size=(STYLE_DIM, SIZES["c"]))


@functools.cache
def exact_model(scale_factor=1.0):
    """x_m = z W_m + s_m V_m + b_m + scale_m noise, its encoders the true posterior."""
    modalities = [
        Modality(
            name,
            (size,),
            encoder=keras.layers.Flatten(),
            decoder=keras.layers.Dense(size),
            likelihood_scale=scale_factor * SCALES[name],
            style_dim=STYLE_DIM if name == "c" else 0,
        )
        for name, size in SIZES.items()
    ]
    model = MoPoEVAE(modalities, LATENT_DIM, prior_expert="every_subset", seed=0)
    for name, expert, decoder in zip(
        SIZES,
        model.networks.experts.values(),
        model.networks.decoders.values(),
        strict=True,
    ):
        kernel = KERNELS[name]
        precision = np.sum(kernel**2, axis=1) / SCALES[name] ** 2
        to_z = kernel.T / SCALES[name] ** 2 / precision
        expert.loc.set_weights([to_z, -OFFSETS[name] @ to_z])
        expert.log_variance.set_weights([np.zeros_like(to_z), -np.log(precision)])
        if name == "c":
            kernel = np.concatenate([kernel, STYLE_KERNEL])
        decoder.set_weights([kernel, OFFSETS[name]])
    return model


def draws_of_the_exact_model(rows, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, LATENT_DIM))
    data = {
        name: z @ KERNELS[name]
        + OFFSETS[name]
        + SCALES[name] * rng.normal(size=(rows, size))
        for name, size in SIZES.items()
    }
    data["c"] += rng.normal(size=(rows, STYLE_DIM)) @ STYLE_KERNEL
    return {name: value.astype("float32") for name, value in data.items()}


def conditional(x, given, target):
    """Mean `[B, n]` and standard deviations `[n]` of x_t given x_S, by covariances."""
    names = [*given, target]
    kernel = np.concatenate([KERNELS[name] for name in names], axis=1)
    noise = np.repeat([SCALES[n] ** 2 for n in names], [SIZES[n] for n in names])
    covariance = kernel.T @ kernel + np.diag(noise)
    size = SIZES[target]
    if target == "c":
        covariance[-size:, -size:] += STYLE_KERNEL.T @ STYLE_KERNEL
    gain = covariance[-size:, :-size] @ np.linalg.inv(covariance[:-size, :-size])
    centred = np.concatenate([x[name] - OFFSETS[name] for name in given], axis=1)
    left = covariance[-size:, -size:] - gain @ covariance[:-size, -size:]
    return centred @ gain.T + OFFSETS[target], np.sqrt(np.diag(left))


def rmse(actual, predicted):
    return np.sqrt(np.mean((actual - predicted) ** 2))


def test_error_of_the_exact_model_is_that_of_the_conditional_mean():
    test = draws_of_the_exact_model(50)
    errors = imputation_error(exact_model(), test, test, batch_size=20)
    assert list(errors) == ["a", "b", "c", "a+b", "a+c", "b+c"]
    assert [list(by_target) for by_target in errors.values()][:4] == [
        ["b", "c"],
        ["a", "c"],
        ["a", "b"],
        ["c"],
    ]
    for given, target in [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("ab", "c")]:
        expected = rmse(test[target], conditional(test, given, target)[0])
        result = errors["+".join(given)][target]
        np.testing.assert_allclose(result["model"], expected, rtol=1e-4)


def test_error_of_the_training_mean_on_training_rows_is_their_standard_deviation():
    train = tiny_batch("abc", rows=30)
    errors = imputation_error(shared_model("abc"), train, train)
    for by_target in errors.values():
        for target, result in by_target.items():
            expected = np.sqrt(train[target].var(axis=0).mean())
            np.testing.assert_allclose(result["mean"], expected, rtol=1e-5)


def test_ridge_uses_the_source_with_the_smallest_training_error():
    """In the training rows "c" follows "a", in the test rows "b"."""
    train, test = tiny_batch("abc", rows=60), tiny_batch("abc", rows=40, seed=2)
    train["c"] = train["a"][:, :2] + 0.3 * train["c"]
    test["c"] = 4 * test["b"][:, :2] + 3
    errors = imputation_error(shared_model("abc"), train, test, num_train=50)
    by_hand = {}
    for source in "ab":
        scaler = StandardScaler().fit(train[source][:50])
        ridge = RidgeCV(alphas=ALPHAS)
        ridge.fit(scaler.transform(train[source][:50]), train["c"][:50])
        predicted = ridge.predict(scaler.transform(test[source]))
        by_hand[source] = rmse(test["c"], predicted)
        np.testing.assert_allclose(
            errors[source]["c"]["ridge"], by_hand[source], rtol=1e-5
        )
    assert abs(by_hand["a"] - by_hand["b"]) > 0.1
    assert errors["a+b"]["c"]["ridge"] == errors["a"]["c"]["ridge"]


@pytest.mark.integration
def test_many_inputs_are_reduced_to_principal_components():
    rng = np.random.default_rng(0)
    model = tiny_model(["a", wide_modality()])
    wide = rng.normal(size=(300, 130)).astype("float32")
    data = {"wide": wide, "a": wide[:, :3] + 0.1 * rng.normal(size=(300, 3))}
    train = {name: value[:200] for name, value in data.items()}
    test = {name: value[200:] for name, value in data.items()}
    scaler = StandardScaler().fit(train["wide"])
    # All of them span what the solver finds, whichever it takes.
    pca = PCA(100, svd_solver="full").fit(scaler.transform(train["wide"]))
    features = [pca.transform(scaler.transform(x["wide"])) for x in (train, test)]
    ridge = RidgeCV(alphas=ALPHAS).fit(features[0], train["a"])
    expected = rmse(test["a"], ridge.predict(features[1]))
    result = imputation_error(model, train, test)["wide"]["a"]["ridge"]
    np.testing.assert_allclose(result, expected, rtol=1e-2)
    whole = RidgeCV(alphas=ALPHAS).fit(scaler.transform(train["wide"]), train["a"])
    unreduced = rmse(test["a"], whole.predict(scaler.transform(test["wide"])))
    assert abs(unreduced - expected) > 0.05 * expected


def test_penalty_is_chosen_on_some_of_many_outputs(monkeypatch):
    monkeypatch.setattr(imputation, "MAX_OUTPUTS", 2)
    train, test = tiny_batch("ab", rows=30), tiny_batch("ab", rows=30, seed=2)
    train["a"][:, 1] += 5 * train["b"][:, 0]  # between the two that are looked at
    scaler = StandardScaler().fit(train["b"])
    inputs, outputs = scaler.transform(train["b"]), train["a"]
    few = RidgeCV(alphas=ALPHAS).fit(inputs, outputs[:, [0, 2]])
    assert few.alpha_ != RidgeCV(alphas=ALPHAS).fit(inputs, outputs).alpha_
    ridge = Ridge(few.alpha_).fit(inputs, outputs)
    expected = rmse(test["a"], ridge.predict(scaler.transform(test["b"])))
    result = imputation_error(shared_model("ab"), train, test)["b"]["a"]["ridge"]
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def wide_modality():
    return Modality(
        "wide", (130,), keras.layers.Dense(3, "tanh"), keras.layers.Dense(130)
    )


def test_mixture_decodes_the_mean_over_subsets_of_the_given_modalities():
    model, test = shared_model("abc"), tiny_batch("abc")
    errors = imputation_error(model, test, test, posterior="mixture")
    loc, scale = experts_of(model, test)
    z = [
        np.mean(
            [
                closed_forms.product_by_formula(loc[row, s], scale[row, s])[0]
                for s in ([0], [1], [0, 1])
            ],
            axis=0,
        )
        for row in range(8)
    ]
    expected = rmse(
        test["c"], model.networks.decoders["c"](np.array(z, "float32")).numpy()
    )
    np.testing.assert_allclose(errors["a+b"]["c"]["model"], expected, rtol=1e-4)
    product = imputation_error(model, test, test)
    assert abs(product["a+b"]["c"]["model"] - expected) > 1e-3
    assert product["a"]["c"] == pytest.approx(errors["a"]["c"])


def test_class_indices_are_scored_by_the_fraction_of_wrong_ones():
    text = Modality(
        "text",
        (4,),
        encoder=keras.Sequential(
            [keras.layers.Embedding(3, 2), keras.layers.Flatten()]
        ),
        likelihood="integer_categorical",
        num_classes=3,
    )
    model = tiny_model(["a", text])
    rng = np.random.default_rng(0)
    text = rng.choice(3, p=[0.1, 0.3, 0.6], size=(50, 4))
    train = {**tiny_batch("a", rows=30), "text": text[:30]}
    test = {**tiny_batch("a", rows=20), "text": text[30:]}
    for data in (train, test):  # nothing that the indices' size would tell
        data["a"] += 3 * (data["text"][:, :3] == 1)
    errors = imputation_error(model, train, test)
    loc, _ = model.networks.experts["a"](model.networks.encoders["a"](test["a"]))
    decoded = np.argmax(model.networks.decoders["text"](loc), axis=-1)
    frequent = stats.mode(train["text"], axis=0).mode
    assert errors["a"]["text"] == {
        "model": pytest.approx(np.mean(decoded != test["text"])),
        "mean": pytest.approx(np.mean(frequent != test["text"])),
        "ridge": None,
    }
    inputs = [np.eye(3)[x["text"]].reshape(-1, 12) for x in (train, test)]
    scaler = StandardScaler().fit(inputs[0])
    ridge = RidgeCV(alphas=ALPHAS).fit(scaler.transform(inputs[0]), train["a"])
    expected = rmse(test["a"], ridge.predict(scaler.transform(inputs[1])))
    np.testing.assert_allclose(errors["text"]["a"]["ridge"], expected, rtol=1e-5)


@pytest.mark.integration
def test_uint8_counts_from_0_to_1():
    rng = np.random.default_rng(0)
    images = {name: rng.integers(256, size=(20, SIZES[name])) for name in "abc"}
    images = {name: value.astype("uint8") for name, value in images.items()}
    scaled = {name: (value / 255).astype("float32") for name, value in images.items()}
    model = shared_model("abc")
    result = imputation_error(model, images, images)["a+b"]["c"]
    assert result == pytest.approx(imputation_error(model, scaled, scaled)["a+b"]["c"])
    assert result["mean"] < 0.5
    options = {"max_rows": 6, "num_samples": 39}
    coverage = [interval_coverage(model, x, **options) for x in (images, scaled)]
    assert coverage[0] == coverage[1]


def test_rows_count_only_if_target_and_subset_are_present():
    model = shared_model("abc")
    data = tiny_batch("abc", rows=40)
    flags = {
        "a": np.arange(40) % 4 != 0,
        "c": np.arange(40) % 3 != 0,
    }
    holes = {name: value.copy() for name, value in data.items()}
    for name, flag in flags.items():
        holes[name][~flag] = np.nan
    holes["present"] = flags
    errors = imputation_error(model, holes, holes, batch_size=16)
    both = flags["a"] & flags["c"]
    few = {name: value[both] for name, value in data.items()}
    alone = imputation_error(model, few, few)
    for subset in ("a", "a+b"):
        assert errors[subset]["c"]["model"] == pytest.approx(
            alone[subset]["c"]["model"]
        )
    mean = data["c"][flags["c"]].mean(axis=0)
    assert errors["a"]["c"]["mean"] == pytest.approx(rmse(few["c"], mean))
    known = {name: value[flags["c"]] for name, value in data.items()}
    scaler = StandardScaler().fit(data["a"][flags["a"]])  # on all that have it
    ridge = RidgeCV(alphas=ALPHAS).fit(scaler.transform(few["a"]), few["c"])
    expected = rmse(few["c"], ridge.predict(scaler.transform(few["a"])))
    assert errors["a"]["c"]["ridge"] == pytest.approx(expected, rel=1e-5)
    assert errors["b"]["c"]["mean"] == pytest.approx(rmse(known["c"], mean))


def test_results_without_rows_are_nan():
    data = tiny_batch("ab", rows=10)
    first = np.arange(10) < 5
    data["present"] = {"a": first, "b": ~first}
    model = shared_model("ab")
    result = imputation_error(model, data, data)["a"]["b"]
    assert np.isnan(result["model"])
    assert np.isnan(result["mean"])
    assert result["ridge"] is None
    coverage = interval_coverage(model, data, num_samples=39)
    assert np.isnan(coverage["a"]["b"]["0.9"]["coverage"])


@pytest.mark.integration
def test_intervals_of_the_exact_model_hold_their_level():
    rows, model = 2000, exact_model()
    data = draws_of_the_exact_model(rows, seed=1)
    options = {"max_rows": None, "batch_size": 1000, "subsets": [["a"], ["b", "a"]]}
    result = interval_coverage(model, data, **options)
    assert {name: list(x) for name, x in result.items()} == {
        "a": ["b", "c"],
        "a+b": ["c"],
    }
    narrow = interval_coverage(exact_model(0.5), data, levels=[0.8], **options)
    for given, target in [("a", "b"), ("a", "c"), ("ab", "c")]:
        by_level = result["+".join(given)][target]
        assert list(by_level) == ["0.5", "0.8", "0.9", "0.95"]
        _, deviation = conditional(data, given, target)
        for level in (0.5, 0.8, 0.9, 0.95):
            coverage, width = by_level[f"{level:g}"].values()
            # Elements of a row depend on each other: count the rows, 4 standard errors.
            error = 4 * np.sqrt(level * (1 - level) / rows)
            assert abs(coverage - level) < error
            rank = 201 * (1 - level) // 2
            end = stats.norm.ppf((rank - 0.375) / 200.25)  # Blom's, of order statistics
            expected = -2 * end * deviation.mean()
            np.testing.assert_allclose(
                width, expected, rtol=0.004
            )  # 2000 rows, 200 draws each
        assert narrow["+".join(given)][target]["0.8"]["coverage"] < 0.77


@pytest.mark.integration
def test_intervals_of_counts_include_their_ends():
    """Poisson(3): 80 % lie from 1 to 5, and with the ends 87 %."""
    counts = Modality("counts", (3,), likelihood="poisson")
    model = tiny_model(["a", counts])
    last = model.networks.decoders["counts"].layers[-2]
    last.set_weights([np.zeros_like(last.kernel), np.full(3, np.log(3.0))])
    x = np.random.default_rng(0).poisson(3, size=(60, 3))
    data = {**tiny_batch("a", rows=60), "counts": x.astype("float32")}
    # So many draws that the 10th and 90th percentiles are not in doubt.
    options = {"levels": [0.8], "num_samples": 2000, "subsets": [["a"]]}
    result = interval_coverage(model, data, **options)["a"]["counts"]["0.8"]
    assert result == {
        "coverage": pytest.approx(np.mean((x >= 1) & (x <= 5)), abs=0.01),
        "width": pytest.approx(4, abs=0.05),
    }


@pytest.mark.integration
def test_elements_without_an_order_are_left_out_of_intervals():
    table = Modality("table", (5,), likelihood=[("categorical", 3), ("normal", 2)])
    text = Modality("text", (2,), likelihood="integer_categorical", num_classes=3)
    one_hot = Modality("one_hot", (3,), likelihood="categorical")
    model = tiny_model(["a", table, text, one_hot])
    rng = np.random.default_rng(0)
    classes = np.eye(3, dtype="float32")[rng.integers(3, size=20)]
    far = np.full([20, 2], 1e6, "float32")  # never inside; one-hot columns always are
    data = {
        **tiny_batch("a", rows=20),
        "table": np.concatenate([classes, far], axis=1),
        "text": rng.integers(3, size=(20, 2)),
        "one_hot": classes,
    }
    result = interval_coverage(model, data, num_samples=39, subsets=[["a"]])
    assert list(result["a"]) == ["table"]
    assert result["a"]["table"]["0.95"]["coverage"] == 0.0


@pytest.mark.integration
def test_intervals_are_of_singles_and_of_all_but_one_and_of_the_first_rows():
    model, data = shared_model("abc"), tiny_batch("abc", rows=12)
    options = {"num_samples": 39, "levels": [0.9]}
    result = interval_coverage(model, data, max_rows=8, seed=1, **options)
    assert list(result) == ["a", "b", "c", "a+b", "a+c", "b+c"]
    first = {name: value[:8] for name, value in data.items()}
    assert result == interval_coverage(model, first, seed=1, **options)
    other = interval_coverage(model, first, seed=2, **options)
    assert result["a"]["b"]["0.9"]["width"] != other["a"]["b"]["0.9"]["width"]


def test_errors_say_what_was_expected():
    model, data = shared_model("ab"), tiny_batch("ab")
    with pytest.raises(ValueError, match="`posterior` must be one of.*'average'"):
        imputation_error(model, data, data, posterior="average")
    with pytest.raises(ValueError, match=r"`test` must hold all.*none of: \['b'\]"):
        imputation_error(model, data, {"a": data["a"]})
    never = {**data, "present": {"b": np.zeros(8, bool)}}
    with pytest.raises(ValueError, match="`train` must have rows of 'b'"):
        imputation_error(model, never, data)
    for levels, samples in [([1.0], 100), ([0.0], 100), ([0.9, 0.95], 38)]:
        with pytest.raises(ValueError, match=r"`levels` must be in \(0, 1\)"):
            interval_coverage(model, data, levels=levels, num_samples=samples)
    for subset in ("a", ["x"], [], ["a", "b"]):
        with pytest.raises(ValueError, match="`subsets` must list some of"):
            interval_coverage(model, data, subsets=[subset])
