"""Likelihoods inside models: class indices, learned scales, weights, own kinds."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize
from tensorflow_probability import distributions as tfd

from tests import closed_forms
from tests.tiny_models import LATENT_DIM, tiny_batch, tiny_modality, tiny_model
from tf_mopoe import Modality, MoPoEVAE
from tf_mopoe.distributions import LIKELIHOODS, Likelihood
from tf_mopoe.models.arguments import checked_likelihood, reconstruction_weights

COLUMNS = [("normal", 2), ("poisson", 1), ("zero_inflated_negative_binomial", 2)]


def reload(model, path):
    model.save(path / "model.keras")
    return keras.saving.load_model(path / "model.keras")


@pytest.fixture
def student_t_10(monkeypatch):
    monkeypatch.setitem(
        LIKELIHOODS,
        "student_t_10",
        Likelihood(lambda loc, scale: tfd.StudentT(10.0, loc, scale), scaled=True),
    )


def test_a_likelihood_of_one_s_own_trains_and_survives_saving(student_t_10, tmp_path):
    options = {"likelihood": "student_t_10", "likelihood_scale": 0.5}
    model = tiny_model(options={"a": options})
    model.compile("sgd", run_eagerly=True)
    x = tiny_batch()
    assert np.isfinite(model.fit(x, verbose=0).history["a_log_likelihood"][0])
    loaded = reload(model, tmp_path)
    assert loaded.modalities[0].likelihood == "student_t_10"
    z = np.ones((8, LATENT_DIM), "float32")
    expected = tfd.StudentT(10.0, model.networks.decoders["a"](z), 0.5).log_prob(x["a"])
    log_prob = loaded.likelihood("a", z).log_prob(x["a"])
    np.testing.assert_allclose(log_prob, tf.reduce_sum(expected, axis=-1), rtol=1e-6)


def test_a_saved_model_says_which_likelihood_it_misses(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            LIKELIHOODS, "own", Likelihood(lambda loc, _: tfd.Normal(loc, 1.0))
        )
        tiny_model(options={"a": {"likelihood": "own"}}).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="Modality 'a'.*Received: 'own'"):
        keras.saving.load_model(tmp_path / "m.keras")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"likelihood": "student"}, "Modality 'a'.*Did you mean 'student_t'"),
        ({"likelihood": []}, "`likelihood` of modality 'a' must be a name or a list"),
        ({"likelihood": [("normal", 2)]}, r"Modality 'a'.*add up.*Received: \[2\]"),
        ({"likelihood": [("normal", 1.5), ("normal", 1.5)]}, "must be a name or a li"),
        (
            {"likelihood": [("normal", 1), ("integer_categorical", 2)]},
            "Modality 'a'.*one-hot columns",
        ),
        ({"likelihood": "integer_categorical"}, "Modality 'a': `num_classes` must be"),
        ({"num_classes": 4}, "Modality 'a': `num_classes` must be"),
        ({"likelihood": "integer_categorical", "num_classes": 1}, "`num_classes` of"),
        (
            {"likelihood": "bernoulli", "likelihood_scale": 0.5},
            "Modality 'a': `likelihood_scale` has no effect with .*'bernoulli'",
        ),
        (
            {"likelihood": "poisson", "likelihood_scale": "per_element"},
            "`likelihood_scale` has no effect with .*'poisson'.*'per_element'",
        ),
        (
            {"likelihood": [("poisson", 3)], "likelihood_scale": "per_modality"},
            "`likelihood_scale` has no effect",
        ),
        ({"likelihood_scale": "per_row"}, "`likelihood_scale` of modality 'a'"),
        ({"likelihood_scale": 0.0}, "`likelihood_scale` of modality 'a'.*positive"),
    ],
    ids=str,
)
def test_a_likelihood_that_does_not_fit_is_an_error_of_its_modality(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MoPoEVAE([Modality("a", (3,), **kwargs)], 2)


def indices_model(**kwargs):
    label = Modality("label", (3,), likelihood="integer_categorical", num_classes=5)
    return MoPoEVAE([label, tiny_modality("a")], LATENT_DIM, seed=0, **kwargs)


def indices_batch(dtype="int32"):
    indices = np.random.default_rng(0).integers(5, size=(8, 3)).astype(dtype)
    return {"label": indices, **tiny_batch("a")}


def test_the_default_encoder_embeds_class_indices():
    encoder = indices_model().networks.encoders["label"]
    embedding = encoder.layers[0]
    assert isinstance(embedding, keras.layers.Embedding)
    assert (embedding.input_dim, embedding.output_dim) == (5, 5)
    x = indices_batch()["label"]
    embedded = embedding.embeddings.numpy()[x]  # [B, 3, 5]
    np.testing.assert_allclose(encoder(x), encoder.layers[1](embedded), rtol=1e-5)


@pytest.mark.integration
def test_class_indices_are_fitted_predicted_imputed_and_saved(tmp_path):
    model = indices_model(objective="iwae", num_samples=3)
    model.compile("adam", run_eagerly=True)
    x = indices_batch()
    history = model.fit(x, epochs=2, batch_size=4, verbose=0).history
    assert np.all(np.isfinite(history["label_log_likelihood"]))
    predicted = model.predict(x, verbose=0)["label"]
    imputed = model.impute({"a": x["a"]}, 4, seed=0)["label"]
    z = np.random.default_rng(0).normal(size=(2, 7, LATENT_DIM)).astype("float32")
    decoded = model.decode(z)["label"]
    for value, shape in ((predicted, (8,)), (imputed, (4, 8)), (decoded, (2, 7))):
        assert value.shape == (*shape, 3, 5)
        np.testing.assert_allclose(np.sum(value, axis=-1), 1.0, rtol=1e-5)  # float32
    loaded = reload(model, tmp_path)
    np.testing.assert_array_equal(loaded(x)["label"], model(x)["label"])


@pytest.mark.integration
@pytest.mark.parametrize(
    "dtype", ["int64", "uint8", "int8", "uint16", "float32", "float64"]
)
def test_class_indices_of_every_dtype_mean_the_same(dtype):
    model = indices_model()
    model.compile("sgd", run_eagerly=True)
    x, other = indices_batch(), indices_batch(dtype)
    loss = model.compute_loss(x=x, training=False)
    assert loss == model.compute_loss(x=other, training=False)
    np.testing.assert_array_equal(model(other)["label"], model(x)["label"])
    np.testing.assert_array_equal(
        model.predict(other, verbose=0)["label"], model.predict(x, verbose=0)["label"]
    )
    assert model.test_on_batch(other)[0] == pytest.approx(float(loss), rel=1e-5)


def test_the_int64_that_numpy_makes_of_nan_is_no_class():
    batch = indices_batch("int64")
    batch["label"][2, 1] = np.iinfo("int64").min
    with pytest.raises(ValueError, match="'label' must hold class indices from 0 to 4"):
        indices_model().posterior(batch)


def zero_decoder(shape):
    return keras.Sequential(
        [
            keras.Input((LATENT_DIM,)),
            keras.layers.Dense(math.prod(shape), kernel_initializer="zeros"),
            keras.layers.Reshape(shape),
        ]
    )


def with_zero_decoder(name, likelihood, learned):
    return Modality(
        name,
        (2,),
        encoder=keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]),
        decoder=zero_decoder((2,)),
        likelihood=likelihood,
        likelihood_scale=learned,
    )


LEARNED = {
    f"{likelihood}_{learned}": (likelihood, learned)
    for likelihood in ("normal", "laplace", "negative_binomial")
    for learned in ("per_modality", "per_element")
    if (likelihood, learned) != ("negative_binomial", "per_modality")
}


def overdispersion_by_search(counts):
    """Maximum likelihood of every column's, its mean known to be 1."""
    return np.exp(
        [
            optimize.minimize_scalar(
                lambda log_scale, column=column: (
                    -np.sum(
                        closed_forms.negative_binomial_log_prob(
                            column, 0.0, np.exp(log_scale)
                        )
                    )
                ),
                bounds=(-5, 5),
            ).x
            for column in counts.T
        ]
    )


@pytest.mark.integration
def test_learned_scales_are_those_of_the_residuals(tmp_path):
    model = tiny_model(
        [with_zero_decoder(name, *kind) for name, kind in LEARNED.items()],
        subsets="full",
        seed=None,
    )
    for network in (
        *model.networks.encoders.values(),
        *model.networks.decoders.values(),
    ):
        network.trainable = False  # the decoders stay at 0: z does not matter
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 2)) * [0.2, 3.0]
    counts = rng.poisson(rng.gamma([2.0, 0.3], [0.5, 3.0], (1000, 2)))
    batch = {
        name: (counts if kind == "negative_binomial" else x).astype("float32")
        for name, (kind, _) in LEARNED.items()
    }
    model.compile(keras.optimizers.Adam(0.05))
    data = tf.data.Dataset.from_tensors(batch).repeat()
    model.fit(data, steps_per_epoch=250, shuffle=False, verbose=0)
    variables = [id(variable) for variable in model.trainable_variables]
    for name, (likelihood, learned) in LEARNED.items():
        log_scale = model.networks.log_likelihood_scales[name]
        assert id(log_scale) in variables
        axis = 0 if learned == "per_element" else None
        expected = {
            "normal": np.sqrt(np.mean(x**2, axis=axis)),
            "laplace": np.mean(np.abs(x), axis=axis),
            "negative_binomial": overdispersion_by_search(counts),
        }[likelihood]
        assert log_scale.shape == expected.shape
        # Adam's last steps move a log-scale by some 1e-3.
        np.testing.assert_allclose(np.exp(log_scale), expected, rtol=1e-2, err_msg=name)
    loaded = reload(model, tmp_path)
    for index, (name, (_, learned)) in enumerate(LEARNED.items()):
        log_scale = model.networks.log_likelihood_scales[name]
        assert loaded.modalities[index].likelihood_scale == learned
        np.testing.assert_array_equal(
            loaded.networks.log_likelihood_scales[name], log_scale
        )
        np.testing.assert_allclose(
            loaded.networks.likelihood_scale(name), np.exp(log_scale), rtol=1e-6
        )


def test_learned_scales_of_a_table_reach_their_own_columns():
    modality = Modality(
        "x",
        (5,),
        decoder=zero_decoder((7,)),
        likelihood=COLUMNS,
        likelihood_scale="per_element",
    )
    model = tiny_model([modality], seed=None)
    model.networks.log_likelihood_scales["x"].assign(np.log([0.2, 3.0, 9.0, 0.5, 2.0]))
    x = np.array([[0.1, -4.0, 2.0, 0.0, 6.0]], np.float32)
    log_prob = model.likelihood("x", np.zeros((1, LATENT_DIM))).log_prob(x)
    blocks = [
        ("normal", x[:, :2], np.zeros((1, 2)), np.array([0.2, 3.0])),
        ("poisson", x[:, 2:3], np.zeros((1, 1)), 1.0),
        (COLUMNS[2][0], x[:, 3:], np.zeros((1, 2, 2)), np.array([0.5, 2.0])),
    ]
    expected = sum(closed_forms.log_likelihood(*block) for block in blocks)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)  # float32


@pytest.mark.integration
def test_a_table_trains_with_several_samples_and_survives_saving(tmp_path):
    modality = Modality(
        "x", (5,), likelihood=COLUMNS, likelihood_scale="per_modality", style_dim=1
    )
    model = MoPoEVAE(
        [modality, tiny_modality("a")],
        LATENT_DIM,
        objective="dreg",
        num_samples=4,
        seed=0,
    )
    model.compile("adam", run_eagerly=True)
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(8, 2)), rng.poisson(3, (8, 3))], axis=1)
    batch = {"x": x.astype("float32"), **tiny_batch("a")}
    history = model.fit(batch, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    assert model.predict(batch, verbose=0)["x"].shape == (8, 5)
    assert model.impute({"a": batch["a"]}, 3)["x"].shape == (3, 8, 5)
    assert model.networks.log_likelihood_scales["x"] != 0.0
    loaded = reload(model, tmp_path)
    assert loaded.modalities[0].likelihood == tuple(COLUMNS)
    np.testing.assert_array_equal(loaded(batch)["x"], model(batch)["x"])
    assert (
        loaded.networks.log_likelihood_scales["x"]
        == model.networks.log_likelihood_scales["x"]
    )


def weights(*modalities):
    likelihoods = [checked_likelihood(modality) for modality in modalities]
    return reconstruction_weights(modalities, likelihoods)


def test_dimension_weighs_by_variables_as_mnist_svhn_text_was():
    options = {"reconstruction_weight": "dimension"}
    assert weights(
        Modality("mnist", (28, 28, 1), likelihood="laplace", **options),
        Modality("svhn", (32, 32, 3), likelihood="laplace", **options),
        Modality("text", (8, 71), likelihood="categorical", **options),
    ) == pytest.approx({"mnist": 3072 / 784, "svhn": 1.0, "text": 384.0})


def test_dimension_counts_the_variables_of_every_kind_and_of_weights_given():
    options = {"reconstruction_weight": "dimension"}
    indices = {"likelihood": "integer_categorical", "num_classes": 71}
    inflated = {"likelihood": "zero_inflated_negative_binomial"}
    table = {"likelihood": [*COLUMNS, ("categorical", 4)]}
    assert weights(
        Modality("largest", (24,), reconstruction_weight=0.5),
        Modality("indices", (8,), **indices, **options),
        Modality("inflated", (4, 3), **inflated, **options),
        Modality("table", (9,), **table, **options),
    ) == pytest.approx({"largest": 0.5, "indices": 3.0, "inflated": 2.0, "table": 4.0})


def test_dimension_multiplies_the_loss_and_survives_saving(tmp_path):
    modalities = [
        tiny_modality("a", reconstruction_weight="dimension"),
        tiny_modality("c", reconstruction_weight="dimension"),
    ]
    model = tiny_model(modalities, beta=0.0)
    batch = tiny_batch("ac")
    loss = model.compute_loss(x=batch, training=False)
    a, c = (model.get_metrics_result()[f"{name}_log_likelihood"] for name in "ac")
    np.testing.assert_allclose(loss, -a - 1.5 * c, rtol=1e-5)
    loaded = reload(model, tmp_path)
    assert loaded.modalities[1].reconstruction_weight == "dimension"
    assert loaded.reconstruction_weights == {"a": 1.0, "c": 1.5}
