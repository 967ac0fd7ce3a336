"""Distances of feature sets, and what is compared by them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import linalg

from tests import closed_forms
from tests.tiny_models import (
    experts_of,
    fix_noise,
    tiny_batch,
    tiny_modality,
    tiny_model,
)
from tf_mopoe.distributions import noise as random_noise
from tf_mopoe.metrics.sample_quality import (
    PrecisionRecall,
    frechet_distance,
    inception_features,
    max_f_beta,
    precision_recall_distribution,
    sample_quality,
)

MODES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])


def normal(rows, columns, seed=0):
    """Correlated normal features with a mean."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(columns, columns))
    return rng.normal(size=(rows, columns)) @ mixing + rng.normal(size=columns)


def at_points(counts, points=MODES):
    """Each point as often as `counts` say."""
    return np.repeat(points[: len(counts)], counts, axis=0)


def scores(features, reference, **kwargs):
    """F_8 and F_1/8."""
    curve = precision_recall_distribution(
        features, reference, num_clusters=4, num_runs=2, **kwargs
    )
    return max_f_beta(curve, 8), max_f_beta(curve, 1 / 8)


def same(values):
    """A feature model: the values, flat."""
    return np.reshape(values, (len(values), -1))


def test_frechet_distance_is_that_of_gaussians_with_the_samples_moments():
    x, y = normal(60, 5, seed=0), normal(40, 5, seed=1)
    first, second = np.cov(x.T), np.cov(y.T)
    expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.trace(
        first + second - 2 * linalg.sqrtm(first @ second).real
    )
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_with_fewer_rows_than_features_is_exact():
    """The root of singular covariances, from their symmetric form."""
    x, y = normal(4, 10, seed=0), normal(6, 10, seed=1)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ np.cov(y.T) @ root)
    expected = (
        np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2)
        + np.trace(np.cov(x.T) + np.cov(y.T))
        - 2 * np.sum(np.sqrt(np.maximum(eigenvalues, 0)))
    )
    # The reference takes roots of its own rounding errors of 1e-15.
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rows", [3, 50])
def test_frechet_distance_of_a_set_to_itself_is_zero(rows):
    x = normal(rows, 8)
    assert 0 <= frechet_distance(x, x[::-1]) < 1e-12 * np.sum(x**2)


def test_frechet_distance_of_a_shifted_set_is_the_squared_shift():
    x = normal(50, 4).astype("float32")
    shift = np.array([1e3, 0.0, -2e3, 1.0])
    distance = frechet_distance(x + shift, x)
    assert distance == pytest.approx(5e6 + 1, rel=1e-12)


def test_frechet_distance_in_one_dimension_is_that_of_means_and_deviations():
    x, y = normal(30, 1, seed=0), 3 * normal(20, 1, seed=1)
    means = (x.mean() - y.mean()) ** 2
    deviations = (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y) == pytest.approx(means + deviations, rel=1e-10)


@pytest.mark.parametrize(
    ("features", "reference", "message"),
    [
        (np.zeros((1, 2)), np.zeros((3, 2)), "at least 2"),
        (np.zeros((3, 2)), np.zeros((1, 2)), "at least 2"),
        (np.zeros((3, 2)), np.zeros((3, 4)), r"\(3, 2\) and \(3, 4\)"),
        (np.zeros(3), np.zeros(3), r"shapes \[N, F\]"),
        (np.full((3, 2), np.inf), np.zeros((3, 2)), "must be finite"),
        (np.zeros((3, 2)), np.full((3, 2), np.nan), "must be finite"),
    ],
)
def test_features_without_a_distance_are_refused(features, reference, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(features, reference)


def test_curve_is_the_frontier_of_what_a_common_part_explains():
    """By the definition: p >= beta mu and q >= alpha mu, over a grid of all mu."""
    q, p = np.array([20, 20, 60]), np.array([50, 30, 20])
    curve = precision_recall_distribution(
        at_points(q), at_points(p), num_clusters=3, num_angles=5, num_runs=2
    )
    steps = 200
    first, second = np.meshgrid(*[np.arange(steps + 1)] * 2)
    inside = first + second <= steps
    mu = np.stack([first, second, steps - first - second], axis=-1)[inside] / steps
    for angle, precision, recall in zip(np.arange(15, 90, 15), *curve, strict=True):
        slope = np.tan(np.deg2rad(angle))  # alpha / beta
        with np.errstate(divide="ignore"):
            most = np.minimum(q / 100 / mu, slope * p / 100 / mu).min(axis=-1)
        # The grid misses the best mu by at most a part in its steps.
        assert precision == pytest.approx(most.max(), rel=0.03)
        assert precision >= most.max() - 1e-12
        assert recall == pytest.approx(precision / slope)


def test_identical_sets_have_precision_and_recall_one_and_disjoint_ones_zero():
    x = normal(50, 3)
    assert scores(x, x[::-1]) == pytest.approx((1, 1))
    assert scores(at_points([40, 40]), at_points([0, 0, 40, 40])) == (0, 0)


def test_generator_that_drops_modes_lacks_recall_and_one_that_adds_junk_precision():
    two, four = at_points([50, 50]), at_points([25, 25, 25, 25])
    recall, precision = scores(two, four)
    # Half of the real rows; every generated row.
    assert recall == pytest.approx(0.5, abs=0.02)
    assert precision == pytest.approx(1, abs=0.02)
    assert scores(four, two) == pytest.approx((precision, recall))


def test_larger_set_is_thinned_out_at_random():
    """Were its first rows taken, they would be of one mode only."""
    few, many = at_points([10] * 4), at_points([40] * 4)
    for pair in [(few, many), (many, few)]:
        assert min(scores(*pair)) > 0.9


def test_curve_depends_on_its_seed_alone():
    x, y = normal(60, 3, seed=0), normal(60, 3, seed=1)
    options = {"num_clusters": 5, "num_runs": 2}
    first, again, other = (
        precision_recall_distribution(x, y, **options, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_curve_is_the_mean_over_runs_of_k_means_that_differ(monkeypatch):
    """One run puts all rows together, the other each set apart: 1 and 0."""
    states = []

    class Clusters:
        def __init__(self, num_clusters, *, n_init, random_state):
            states.append(random_state)

        def fit_predict(self, rows):
            return np.arange(len(rows)) // 4 if len(states) > 1 else [0] * len(rows)

    namespace = precision_recall_distribution.__globals__  # of its module
    monkeypatch.setitem(namespace, "MiniBatchKMeans", Clusters)
    curve = precision_recall_distribution(
        MODES, MODES, num_clusters=2, num_angles=1, num_runs=2
    )
    np.testing.assert_allclose(curve, [[0.5], [0.5]])
    assert len(set(states)) == 2


def test_more_clusters_than_rows_are_refused():
    with pytest.raises(ValueError, match="at most 8, "):
        precision_recall_distribution(MODES, MODES, num_clusters=9)


def test_largest_f_beta_is_over_the_curve():
    curve = PrecisionRecall(np.array([1, 0.5, 0]), np.array([0.2, 0.5, 0]))
    assert max_f_beta(curve, 8) == pytest.approx(0.5)
    # 1 / (w / precision + (1 - w) / recall), w = 1 / (1 + beta^2).
    weight = 64 / 65
    assert max_f_beta(curve, 1 / 8) == pytest.approx(1 / (weight + (1 - weight) / 0.2))


def test_unconditional_samples_are_the_models_own():
    model = tiny_model(options={"a": {"style_dim": 1}, "b": {"style_dim": 2}})
    data = tiny_batch(rows=30)
    found = sample_quality(model, data, {"b": same}, num_samples=25, seed=7)
    z_seed, style_seed = random_noise.split_seed(random_noise.stateless_seed(7))
    z = random_noise.standard_normal([25, 2], z_seed)
    style_seed = random_noise.fold_in(style_seed, 1)
    style = random_noise.standard_normal([25, 2], style_seed)
    drawn = model.decode(z, {"b": style})["b"]
    expected = frechet_distance(drawn, data["b"])
    assert list(found) == ["b"]
    assert found["b"]["frechet_distance"] == pytest.approx(expected, rel=1e-4)
    assert found["b"]["num_samples"] == 25
    curve = precision_recall_distribution(drawn, data["b"], seed=7)
    assert found["b"]["f8"] == pytest.approx(max_f_beta(curve, 8), rel=1e-4)
    assert found["b"]["f1_8"] == pytest.approx(max_f_beta(curve, 1 / 8), rel=1e-4)


def test_decoded_latents_of_the_data_are_of_full_quality():
    model = tiny_model()
    z = np.random.default_rng(0).normal(size=(40, 2))
    data = {name: value.numpy() for name, value in model.decode(z).items()}
    found = sample_quality(model, data, {"a": same, "b": same}, latents=z)
    for result in found.values():
        assert result["frechet_distance"] < 1e-6
        assert result["f8"] == pytest.approx(1)
        assert result["f1_8"] == pytest.approx(1)
        assert result["num_samples"] == 40


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_conditional_samples_are_from_the_product_of_what_is_given(monkeypatch, noise):
    """z = loc + noise scale of the product, style = noise, as of the prior."""
    model = tiny_model("abc", options={"b": {"style_dim": 1}})
    data = tiny_batch("abc", rows=30)
    loc, scale = (x[:, [0, 2]] for x in experts_of(model, data))
    products = [
        closed_forms.product_by_formula(*row) for row in zip(loc, scale, strict=True)
    ]
    z = np.stack([mean + noise * deviation for mean, deviation in products])
    generated = model.decode_modality("b", z.astype("float32"), np.full((30, 1), noise))
    fix_noise(monkeypatch, noise)
    found = sample_quality(
        model, data, dict.fromkeys("abc", same), given=["c", "a"], num_samples=99
    )
    assert list(found) == ["b"]
    assert found["b"]["num_samples"] == 30
    assert found["b"]["frechet_distance"] == pytest.approx(
        frechet_distance(generated, data["b"]), rel=1e-4
    )


def test_rows_conditioned_on_are_different_ones_from_all_over_the_data(monkeypatch):
    model, data = tiny_model(), tiny_batch(rows=200)
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


@pytest.mark.parametrize("given", [None, ["a"]])
def test_result_does_not_depend_on_the_size_of_batches_but_on_the_seed(given):
    model = tiny_model(options={"b": {"style_dim": 1}})
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
        tiny_model(),
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
        ({"given": ["b"]}, "one at least not given"),
        ({"feature_models": {}}, "`feature_models` must be of"),
        ({"feature_models": {"z": same, "b": same}}, "`feature_models` must be of"),
        ({"feature_models": {"b": np.ravel}}, r"features \(30, 'F'\)"),
        ({"feature_models": {"b": lambda x: same(x)[:1]}}, r"features \(30, 'F'\)"),
        ({"latents": np.zeros((5, 3))}, r"`latents` must have shape \('N', 2\)"),
        ({"latents": np.zeros((5, 2)), "given": ["a"]}, "exclude one another"),
        ({"data": {"a": np.zeros((3, 3))}}, r"`data` must hold \['b'\]"),
        ({"data": {**tiny_batch(), "present": {}}}, "without flags"),
        ({"num_samples": 1}, "`num_samples`"),
        ({"batch_size": 0}, "`batch_size`"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    arguments = {
        "data": tiny_batch(rows=30),
        "feature_models": {"b": same},
        "num_samples": 30,
        **options,
    }
    with pytest.raises(ValueError, match=message):
        sample_quality(tiny_model(), **arguments)


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
        found = features(images)
        assert seen["images"].shape == (5, 299, 299, 3)
        assert seen["training"] is False
        expected = np.repeat([[-1], [-0.5], [1], [-1], [1]], 3, axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-4)
