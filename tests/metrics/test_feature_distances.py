"""Distances of feature sets, against closed forms and their definitions."""

import numpy as np
import pytest
from scipy import linalg

from tf_mopoe.metrics import (
    PrecisionRecall,
    frechet_distance,
    max_f_beta,
    precision_recall_distribution,
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
    """The first rows alone would be of one mode only."""
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
