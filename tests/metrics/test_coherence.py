"""Coherence: exact counts, a model that is right, and models that are wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from tests import closed_forms
from tests.metrics.coherence_models import (
    NAMES,
    STYLE,
    decoded_by_hand,
    linear_classifiers,
    logits_by_hand,
    random_model,
    shared_random_model,
)
from tests.tiny_models import LATENT_DIM, experts_of, fix_noise, tiny_batch
from tf_mopoe import Modality, MoPoEVAE, nets
from tf_mopoe.metrics.attribute_coherence import attribute_coherence
from tf_mopoe.metrics.coherence import (
    conditional_coherence,
    joint_coherence,
    mean_by_number_given,
)
from tf_mopoe.metrics.subset_samples import subset_latents

SUBSETS = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
SUBSET_NAMES = ["a", "b", "c", "a+b", "a+c", "b+c", "a+b+c"]
CLASSES, SIZE = 4, 6
ROWS = 203  # no multiple of the batch size


def bases():
    """Modality name to 6 orthonormal rows: 4 that classes, 2 that a style decode to."""
    return {
        name: stats.ortho_group.rvs(SIZE, random_state=seed).astype("float32")
        for seed, name in enumerate(NAMES)
    }


def good_data():
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=ROWS)
    data = {
        name: basis[labels] + 0.05 * rng.normal(size=(ROWS, SIZE)).astype("float32")
        for name, basis in bases().items()
    }
    return data, labels


def good_model():
    """z is 3 times the class, one-hot; it reads and writes each basis. "b" has a style,
    which the classes don't show."""
    sizes = {"a": 0, "b": STYLE, "c": 0}
    model = MoPoEVAE(
        [
            Modality(
                name,
                (SIZE,),
                encoder=keras.layers.Dense(CLASSES, use_bias=False),
                decoder=keras.layers.Dense(SIZE),
                style_dim=size,
            )
            for name, size in sizes.items()
        ],
        CLASSES,
        seed=0,
    )
    for name, basis in bases().items():
        model.networks.encoders[name].set_weights([basis[:CLASSES].T])
        rows = basis[: CLASSES + sizes[name]]
        model.networks.decoders[name].set_weights([rows, np.zeros(SIZE)])
        model.networks.experts[name].loc.set_weights(
            [3 * np.eye(CLASSES), np.zeros(CLASSES)]
        )
        log_variance = np.full(CLASSES, 2 * np.log(0.3))
        model.networks.experts[name].log_variance.set_weights(
            [np.zeros([CLASSES, CLASSES]), log_variance]
        )
    return model


def good_classifiers():
    """Classifiers that are accurate in inference mode only, because of dropout."""
    classifiers = {}
    for name, basis in bases().items():
        layers = [keras.layers.Dropout(0.8, seed=0), keras.layers.Dense(CLASSES)]
        classifiers[name] = keras.Sequential([keras.Input((SIZE,)), *layers])
        layers[1].set_weights([basis[:CLASSES].T, np.zeros(CLASSES)])
    return classifiers


def values_of(table):
    return np.array([[table[s][name] for name in NAMES] for s in SUBSET_NAMES])


def make_decoders_ignore_z(model, shown):
    """Each decodes the class `shown[m]`, whatever z is."""
    for decoder, basis, k in zip(
        model.networks.decoders.values(), bases().values(), shown, strict=True
    ):
        decoder.set_weights([0 * decoder.get_weights()[0], 2 * basis[k]])


@pytest.mark.integration
def test_a_good_model_has_coherence_near_one_though_classifiers_have_dropout():
    data, labels = good_data()
    model, classifiers = good_model(), good_classifiers()
    batches = []
    table = conditional_coherence(
        model,
        data,
        labels,
        classifiers,
        progress=lambda each: (batches.append(len(each)), each)[1],
    )
    assert list(table) == SUBSET_NAMES
    assert all(list(row) == list(NAMES) for row in table.values())
    assert values_of(table).min() > 0.99
    assert batches == [4]
    assert joint_coherence(model, classifiers, num_samples=400) == 1.0
    # What classifiers left in training mode would say, as in the published code.
    for name, classifier in classifiers.items():
        logits = np.asarray(classifier(data[name], training=True))
        assert np.mean(np.argmax(logits, axis=-1) == labels) < 0.9


@pytest.mark.integration
def test_labels_at_random_have_chance_coherence():
    data, _ = good_data()
    labels = np.random.default_rng(5).integers(CLASSES, size=ROWS)
    table = conditional_coherence(good_model(), data, labels, good_classifiers())
    # All 21 numbers are binomial, whatever was decoded.
    low, high = stats.binom.interval(1 - 1e-5, ROWS, 1 / CLASSES)
    assert np.all((low <= ROWS * values_of(table)) & (ROWS * values_of(table) <= high))


@pytest.mark.integration
def test_decoders_that_ignore_z_have_the_frequency_of_the_class_they_show():
    """That is chance level; the joint coherence of constants is 0 or 1."""
    data, labels = good_data()
    model, classifiers = good_model(), good_classifiers()
    make_decoders_ignore_z(model, (2, 2, 1))
    table = conditional_coherence(model, data, labels, classifiers)
    shares = [np.mean(labels == k) for k in (2, 2, 1)]
    np.testing.assert_allclose(values_of(table), np.tile(shares, [7, 1]))
    assert max(shares) < 0.35
    assert joint_coherence(model, classifiers, num_samples=50) == 0.0
    make_decoders_ignore_z(model, (2, 2, 2))
    assert joint_coherence(model, classifiers, num_samples=50) == 1.0


def subset_moments(model, data):
    """loc and scale of the products, `[N, S, D]`."""
    rows = [
        closed_forms.subset_posteriors(loc, scale, SUBSETS, "full_set")
        for loc, scale in zip(*experts_of(model, data), strict=True)
    ]
    return (np.stack(field) for field in zip(*rows, strict=True))


#: The value of all noise, where the test fixes it.
NOISE = 0.7
KINDS = [
    ("product", "sample"),
    pytest.param("product", "mean", marks=pytest.mark.integration),
    pytest.param("mixture", "mean", marks=pytest.mark.integration),
]


def logits_of_all(model, data, classifiers, posterior, latent):
    """Modality name to logits `[N, S, O]`, from NumPy."""
    loc, scale = subset_moments(model, data)
    if latent == "sample":
        z = loc + NOISE * scale
    elif posterior == "product":
        z = loc
    else:
        inside = [[set(t) <= set(s) for t in SUBSETS] for s in SUBSETS]
        z = np.stack([loc[:, row].mean(axis=1) for row in np.array(inside)], axis=1)
    style = np.full([len(loc), STYLE], NOISE if latent == "sample" else 0.0)
    return {
        name: np.stack(
            [
                logits_by_hand(
                    classifiers[name],
                    decoded_by_hand(decoder, z[:, s], style if name == "b" else None),
                )
                for s in range(len(SUBSETS))
            ],
            axis=1,
        )
        for name, decoder in zip(NAMES, model.networks.decoders.values(), strict=True)
    }


@pytest.mark.parametrize(("posterior", "latent"), KINDS)
def test_counts_are_those_of_numpy_for_every_subset_and_target(
    monkeypatch, posterior, latent
):
    fix_noise(monkeypatch, NOISE)
    model, data = shared_random_model(), tiny_batch(NAMES, rows=300)
    labels = np.random.default_rng(2).integers(3, size=300)
    classifiers = linear_classifiers({"a": (3,), "b": (4,), "c": (2,)}, 3)
    options = {"posterior": posterior, "latent": latent, "batch_size": 128}
    table = conditional_coherence(model, data, labels, classifiers, **options)
    expected = logits_of_all(model, data, classifiers, posterior, latent)
    shown = np.stack([np.argmax(expected[n], axis=-1) for n in NAMES], axis=-1)
    hits = (shown == labels[:, np.newaxis, np.newaxis]).mean(axis=0)  # [S, M]
    np.testing.assert_allclose(values_of(table), hits, rtol=1e-12)
    assert len(np.unique(hits)) > 10  # the numbers tell the places apart


def average_precision_by_hand(scores, flags):
    """Mean over the positives of the precision at their rank."""
    ranked = flags[np.argsort(-scores)]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return precision[ranked].mean()


def test_attributes_have_the_average_precisions_of_numpy():
    model, data = shared_random_model(), tiny_batch(NAMES, rows=50)
    flags = np.random.default_rng(2).random((50, 3)) < 0.4
    flags[:, 2] = False
    classifiers = linear_classifiers({"a": (3,), "b": (4,), "c": (2,)}, 3)
    table = attribute_coherence(model, data, flags, classifiers, latent="mean")
    logits = logits_of_all(model, data, classifiers, "product", "mean")
    for s, subset in enumerate(SUBSET_NAMES):
        for name in NAMES:
            actual = table[subset][name]
            expected = [
                average_precision_by_hand(logits[name][:, s, k], flags[:, k])
                for k in range(2)
            ]
            np.testing.assert_allclose(actual[:2], expected, rtol=1e-6)
            assert np.isnan(actual[2])  # no row has it
    means = mean_by_number_given(table, targets="given")
    np.testing.assert_allclose(
        means["1"], np.mean([table[name][name][:2] for name in NAMES])
    )


def test_a_draw_from_the_mixture_is_one_of_its_subsets_products_with_equal_chance(
    monkeypatch,
):
    fix_noise(monkeypatch)  # a draw from a product is its mean
    model, rows = shared_random_model(), 2000
    data = {name: np.repeat(x, rows, 0) for name, x in tiny_batch(NAMES, 1).items()}
    seed = tf.constant([0, 1])
    z = subset_latents(model, data, posterior="mixture", latent="sample", seed=seed)
    loc = model.subset_posteriors(data).loc[0]  # [S, D]
    same = np.all(np.isclose(z[:, :, np.newaxis], loc), axis=-1)  # [N, S, S]
    shares = same.mean(axis=0)
    for s, subset in enumerate(SUBSETS):
        inside = np.array([set(other) <= set(subset) for other in SUBSETS])
        assert np.all(shares[s][~inside] == 0)
        chance = 1 / inside.sum()
        error = np.sqrt(chance * (1 - chance) / rows)
        assert np.all(np.abs(shares[s][inside] - chance) <= 5 * error)


def test_draws_of_latents_follow_the_products_and_the_seed():
    model, rows = shared_random_model(), 4000
    data = {name: np.repeat(x, rows, 0) for name, x in tiny_batch(NAMES, 1).items()}
    kind = {"posterior": "product", "latent": "sample"}
    z, again, other = (
        subset_latents(model, data, seed=tf.constant([0, s]), **kind).numpy()
        for s in (1, 1, 2)
    )
    loc, log_scale = (field[0].numpy() for field in model.subset_posteriors(data))
    scale = np.exp(log_scale)
    error = 5 / np.sqrt(rows)
    assert np.all(np.abs(z.mean(axis=0) - loc) < error * scale)
    np.testing.assert_allclose(z.std(axis=0), scale, rtol=error)
    np.testing.assert_array_equal(z, again)
    assert not np.any(z == other)


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["integer_categorical", "categorical"])
def test_classifiers_see_the_most_probable_text(kind):
    """Classifiers of texts are trained on one-hot symbols, not on probabilities."""
    indices = kind == "integer_categorical"
    shape, length, symbols, rows = (3,) if indices else (3, 5), 3, 5, 60
    embedding = [keras.layers.Embedding(symbols, 2)] if indices else []
    text = Modality(
        "text",
        shape,
        encoder=keras.Sequential([*embedding, keras.layers.Flatten()]),
        decoder=nets.dense_decoder(
            (length, symbols), LATENT_DIM, hidden=(5,), activation="tanh"
        ),
        likelihood=kind,
        num_classes=symbols if indices else None,
    )
    model = random_model(["a", text])
    rng = np.random.default_rng(6)
    values = rng.integers(symbols, size=(rows, length), dtype=np.int32)
    if not indices:
        values = np.eye(symbols, dtype="float32")[values]
    data = {**tiny_batch("a", rows), "text": values}
    labels = rng.integers(3, size=rows)
    classifiers = linear_classifiers({"a": (3,), "text": (length, symbols)}, 3)
    table = conditional_coherence(model, data, labels, classifiers, latent="mean")
    z = model.subset_posteriors(data).loc.numpy()[:, 0]  # of "a"
    logits = decoded_by_hand(model.networks.decoders["text"], z).reshape(
        rows, length, symbols
    )
    accuracy = [
        np.mean(np.argmax(logits_by_hand(classifiers["text"], x), axis=-1) == labels)
        for x in (
            np.eye(symbols)[np.argmax(logits, axis=-1)],
            special.softmax(logits, axis=-1),
        )
    ]
    assert table["a"]["text"] == pytest.approx(accuracy[0])
    assert accuracy[0] != accuracy[1]


def test_means_by_number_are_over_subsets_of_one_size_and_chosen_targets():
    table = {
        "a": {"a": 1.0, "b": 0.2},
        "b": {"a": 0.4, "b": 0.9},
        "a+b": {"a": 0.7, "b": 0.8},
    }
    assert mean_by_number_given(table) == pytest.approx({"1": 0.625, "2": 0.75})
    given = mean_by_number_given(table, targets="given")
    assert given == pytest.approx({"1": 0.95, "2": 0.75})
    others = mean_by_number_given(table, targets="not_given")
    assert others == pytest.approx({"1": 0.3})
    probes = {"a": 0.2, "b": 0.4, "a+b": 0.5}
    assert mean_by_number_given(probes) == pytest.approx({"1": 0.3, "2": 0.5})
    with pytest.raises(ValueError, match="`targets` must be left out"):
        mean_by_number_given(probes, targets="given")
    with pytest.raises(ValueError, match="must be one of"):
        mean_by_number_given(table, targets="others")


def test_wrong_arguments_are_named():
    data, labels = good_data()
    model, classifiers = good_model(), good_classifiers()
    flags = labels[:, np.newaxis] == np.arange(CLASSES)
    without = {name: data[name] for name in "ab"}
    for wrong, message in (
        ((without, labels, classifiers), "must hold all of the model's modalities"),
        (({**data, "present": {}}, labels, classifiers), "complete"),
        ((data, labels[:-1], classifiers), "203 rows. Received: 202"),
        ((data, flags, classifiers), "function for attributes"),
        ((data, labels + 1, classifiers), "classes from 0 to 3"),
        ((data, labels, {"a": classifiers["a"]}), "one for each of"),
    ):
        with pytest.raises(ValueError, match=message):
            conditional_coherence(model, *wrong)
    for option in ("posterior", "latent"):
        with pytest.raises(ValueError, match=f"`{option}` must be one of"):
            conditional_coherence(model, data, labels, classifiers, **{option: "x"})
    with pytest.raises(ValueError, match="bool"):
        attribute_coherence(model, data, labels, classifiers)
    with pytest.raises(ValueError, match="each of 3 attributes"):
        attribute_coherence(model, data, flags[:, :3], classifiers)
    with pytest.raises(ValueError, match="`latents` must have shape"):
        joint_coherence(model, classifiers, latents=np.zeros([4, CLASSES + 1]))


def test_logits_of_a_diverged_model_are_an_error():
    data, labels = good_data()
    model = good_model()
    kernel, bias = model.networks.decoders["a"].get_weights()
    model.networks.decoders["a"].set_weights([kernel, bias + np.nan])
    with pytest.raises(ValueError, match="finite logits"):
        conditional_coherence(model, data, labels, good_classifiers())
