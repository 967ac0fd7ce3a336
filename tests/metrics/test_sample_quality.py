"""Sample quality: which samples are compared, and with what."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tests.metrics.shared_models import shared_model
from tests.tiny_models import (
    experts_of,
    fix_noise,
    tiny_batch,
    tiny_modality,
    tiny_model,
)
from tf_mopoe.distributions import noise as random_noise
from tf_mopoe.metrics import (
    frechet_distance,
    inception_features,
    max_f_beta,
    precision_recall_distribution,
    sample_quality,
)


def same(values):
    """A feature model: the values, flat."""
    return np.reshape(values, (len(values), -1))


def test_unconditional_samples_are_the_models_own():
    model = tiny_model(options={"a": {"style_dim": 1}, "b": {"style_dim": 2}})
    data = tiny_batch(rows=30)
    actual = sample_quality(model, data, {"b": same}, num_samples=25, seed=7)
    z_seed, style_seed = random_noise.split_seed(random_noise.stateless_seed(7))
    z = random_noise.standard_normal([25, 2], z_seed)
    style_seed = random_noise.fold_in(style_seed, 1)
    style = random_noise.standard_normal([25, 2], style_seed)
    drawn = model.decode(z, {"b": style})["b"]
    expected = frechet_distance(drawn, data["b"])
    assert list(actual) == ["b"]
    assert actual["b"]["frechet_distance"] == pytest.approx(expected, rel=1e-4)
    assert actual["b"]["num_samples"] == 25
    curve = precision_recall_distribution(drawn, data["b"], seed=7)
    assert actual["b"]["f8"] == pytest.approx(max_f_beta(curve, 8), rel=1e-4)
    assert actual["b"]["f1_8"] == pytest.approx(max_f_beta(curve, 1 / 8), rel=1e-4)


def test_decoded_latents_of_the_data_are_of_full_quality():
    model = shared_model()
    z = np.random.default_rng(0).normal(size=(40, 2))
    data = {name: value.numpy() for name, value in model.decode(z).items()}
    actual = sample_quality(model, data, {"a": same, "b": same}, latents=z)
    for result in actual.values():
        assert result["frechet_distance"] < 1e-6
        assert result["f8"] == pytest.approx(1)
        assert result["f1_8"] == pytest.approx(1)
        assert result["num_samples"] == 40


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_conditional_samples_are_from_the_product_of_what_is_given(monkeypatch, noise):
    """z = loc + noise scale of the product, style = noise, as of the prior."""
    model = shared_model("abc", style_dim_of_b=1)
    data = tiny_batch("abc", rows=30)
    loc, scale = (x[:, [0, 2]] for x in experts_of(model, data))
    products = [
        closed_forms.product_by_formula(*row) for row in zip(loc, scale, strict=True)
    ]
    z = np.stack([mean + noise * deviation for mean, deviation in products])
    generated = model.decode_modality("b", z.astype("float32"), np.full((30, 1), noise))
    fix_noise(monkeypatch, noise)
    actual = sample_quality(
        model, data, dict.fromkeys("abc", same), given=["c", "a"], num_samples=99
    )
    assert list(actual) == ["b"]
    assert actual["b"]["num_samples"] == 30
    assert actual["b"]["frechet_distance"] == pytest.approx(
        frechet_distance(generated, data["b"]), rel=1e-4
    )


def test_rows_conditioned_on_are_distinct_and_from_all_of_the_data(monkeypatch):
    model, data = shared_model(), tiny_batch(rows=200)
    fix_noise(monkeypatch, 0.0)
    loc = model.subset_posteriors({"a": data["a"]}).loc[:, 0]
    of_rows = model.decode_modality("b", loc).numpy()  # [200, 4]
    seen = []
    features = {"b": lambda values: seen.append(np.asarray(values)) or same(values)}
    sample_quality(model, data, features, given=["a"], num_samples=50)
    generated = [
        x for x in np.concatenate(seen) if not np.any(np.all(x == data["b"], axis=1))
    ]
    distances = np.abs(np.array(generated)[:, np.newaxis] - of_rows).max(axis=-1)
    rows = distances.argmin(axis=1)
    assert distances.min(axis=1).max() < 1e-5
    assert len(rows) == len(set(rows)) == 50
    assert max(rows) > 100


@pytest.mark.integration
@pytest.mark.parametrize("given", [None, ["a"]])
def test_result_does_not_depend_on_the_size_of_batches_but_on_the_seed(given):
    model = shared_model(style_dim_of_b=1)
    data = tiny_batch(rows=30)
    sizes = []

    def features(values):
        sizes.append(len(values))
        return same(values)

    small, large, other = (
        sample_quality(
            model, data, {"b": features}, given=given, num_samples=25, **options
        )["b"]["frechet_distance"]
        for options in ({"batch_size": 4}, {"batch_size": 64}, {"seed": 1})
    )
    assert small == pytest.approx(large, rel=1e-4)
    assert abs(other - large) > 1e-3 * large
    assert sizes[:7] == [4] * 6 + [1]


def test_feature_models_see_real_and_generated_values_as_classifiers_do():
    """uint8 images in [0, 1], words as one-hot vectors."""
    shapes = {"image": (2, 2, 1), "text": (3,)}
    text = tiny_modality(
        "text",
        (3,),
        likelihood="integer_categorical",
        num_classes=4,
        encoder=keras.Sequential(
            [keras.layers.Embedding(4, 2), keras.layers.Flatten()]
        ),
        decoder=keras.Sequential(
            [keras.layers.Dense(12), keras.layers.Reshape((3, 4))]
        ),
    )
    model = tiny_model([tiny_modality("image", shapes["image"]), text])
    rng = np.random.default_rng(0)
    data = {
        "image": rng.integers(256, size=(30, 2, 2, 1), dtype="uint8"),
        "text": rng.integers(4, size=(30, 3)),
    }
    seen = {"image": [], "text": []}
    features = {
        name: lambda values, name=name: seen[name].append(values) or same(values)
        for name in seen
    }
    sample_quality(model, data, features, num_samples=20)
    images = {len(values): np.asarray(values) for values in seen["image"]}
    np.testing.assert_allclose(images[30], data["image"] / 255, rtol=1e-6)
    z_seed, _ = random_noise.split_seed(random_noise.stateless_seed(0))
    drawn = model.decode(random_noise.standard_normal([20, 2], z_seed))
    np.testing.assert_allclose(images[20], drawn["image"], rtol=1e-4)
    texts = {len(values): np.asarray(values) for values in seen["text"]}
    np.testing.assert_array_equal(texts[30], np.eye(4)[data["text"]])
    words = np.argmax(drawn["text"], axis=-1)
    np.testing.assert_array_equal(texts[20], np.eye(4)[words])


def test_progress_sees_every_batch():
    seen = []

    def progress(batches):
        for batch in batches:
            seen.append(1)
            yield batch

    sample_quality(
        shared_model(),
        tiny_batch(rows=30),
        {"a": same},
        num_samples=20,
        batch_size=10,
        progress=progress,
    )
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"given": ["z"]}, "`given` must list names"),
        ({"given": "a"}, "`given` must list names"),
        ({"given": []}, "`given` must list names"),
        ({"given": ["b"]}, "at least one of them not given"),
        ({"feature_models": {}}, "`feature_models` must name"),
        ({"feature_models": {"z": same, "b": same}}, "`feature_models` must name"),
        ({"feature_models": {"b": np.ravel}}, r"features \(30, 'F'\)"),
        ({"feature_models": {"b": lambda x: same(x)[:1]}}, r"features \(30, 'F'\)"),
        ({"latents": np.zeros((5, 3))}, r"`latents` must have shape \('N', 2\)"),
        ({"latents": np.zeros((5, 2)), "given": ["a"]}, "exclude each other"),
        ({"data": {"a": np.zeros((3, 3))}}, r"`data` must hold \['b'\]"),
        ({"data": {**tiny_batch(), "present": {}}}, "without flags"),
        ({"num_samples": 1}, "`num_samples`"),
        ({"batch_size": 0}, "`batch_size`"),
    ],
)
def test_invalid_comparisons_are_refused(options, message):
    arguments = {
        "data": tiny_batch(rows=30),
        "feature_models": {"b": same},
        "num_samples": 30,
        **options,
    }
    with pytest.raises(ValueError, match=message):
        sample_quality(shared_model(), **arguments)


def test_inception_sees_grey_and_coloured_images_of_its_size_from_minus_one_to_one(
    monkeypatch,
):
    seen = {}

    def network(images, training):
        seen.update(images=images, training=training)
        return tf.reduce_mean(images, axis=[1, 2])

    def build(**kwargs):
        seen.update(kwargs)
        return network

    monkeypatch.setattr(keras.applications, "InceptionV3", build)
    features = inception_features("weights.h5")
    assert {key: seen[key] for key in ("weights", "include_top", "pooling")} == {
        "weights": "weights.h5",
        "include_top": False,
        "pooling": "avg",
    }
    levels = np.array([0.0, 0.25, 1.0, -3.0, 9.0], "float32")  # the last two clipped
    for channels in (1, 3):
        images = np.broadcast_to(levels[:, None, None, None], (5, 28, 28, channels))
        actual = features(images)
        assert seen["images"].shape == (5, 299, 299, 3)
        assert seen["training"] is False
        expected = np.repeat([[-1], [-0.5], [1], [-1], [1]], 3, axis=1)
        np.testing.assert_allclose(actual, expected, atol=1e-4)
