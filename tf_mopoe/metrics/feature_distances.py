"""Distances between the features of generated rows and those of real rows."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from tf_mopoe.checks import whole_number
from tf_mopoe.data.checks import plain_array
from tf_mopoe.metrics.seeds import checked_seed


class PrecisionRecall(NamedTuple):
    """The best precision for each recall, along the angles of a curve.

    Attributes:
      precision: Fraction of the generated rows that look real, `[A]`.
      recall: Fraction of the real rows that are generated, `[A]`.

    Example:
      >>> curve = PrecisionRecall(np.array([1.0, 0.5]), np.array([0.2, 0.5]))
      >>> max_f_beta(curve, 1.0)
      0.5
    """

    precision: np.ndarray
    recall: np.ndarray


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of two Gaussians with the samples' moments.

    |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

    With S_i = R_i^T R_i the trace of the root is the sum of the singular values of
    R_1 R_2^T, also for singular S_i. The estimate is biased upwards for few rows:
    compare distances of equal numbers of rows only.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017.

    Args:
      features: Finite features `[N, F]`, N at least 2.
      reference: Finite features to compare with, `[N', F]`, N' at least 2.

    Returns:
      The distance in float64, 0 or more, in squared units of the features.

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> x = np.array([[0.0], [2.0]])
      >>> frechet_distance(x + 3.0, x)
      9.0
    """
    arrays = _checked_features(features, reference, at_least=2)
    means = [array.mean(axis=0) for array in arrays]
    factors: list[Any] = [
        np.linalg.qr((array - mean) / np.sqrt(len(array) - 1), mode="r")
        for array, mean in zip(arrays, means)
    ]  # [min(N, F), F]
    root = np.linalg.norm(factors[0] @ factors[1].T, "nuc")
    variances = sum(np.sum(np.square(factor)) for factor in factors)
    distance = np.sum(np.square(means[0] - means[1])) + variances - 2 * root
    return max(0.0, float(distance))


def precision_recall_distribution(
    features: np.ndarray,
    reference: np.ndarray,
    *,
    num_clusters: int = 20,
    num_angles: int = 1001,
    num_runs: int = 10,
    seed: int = 0,
) -> PrecisionRecall:
    """Precision and recall of generated features, by histograms over clusters.

    precision(l) = sum_k min(l p_k, q_k),  recall(l) = sum_k min(p_k, q_k / l)

    p is the histogram of the real rows over clusters, q that of the generated rows, and
    the slopes l are the tangents of angles evenly spaced inside (0, 90) degrees. The
    clusters are those of k-means on both sets together, and curves are averaged over
    runs of k-means.

    Source: Sajjadi et al., Assessing Generative Models via Precision and Recall,
    NeurIPS 2018.

    Args:
      features: Finite features of generated rows, `[N, F]`.
      reference: Finite features of real rows, `[N', F]`. The larger set is thinned to
        the size of the smaller one.
      num_clusters: Number of clusters, at most the rows of both sets together.
      num_angles: A, number of angles; odd, to include precision = recall.
      num_runs: Number of runs of k-means.
      seed: Seed of the thinning and of k-means.

    Returns:
      A `PrecisionRecall` of arrays `[A]` in [0, 1].

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> real = np.array([[0.0], [0.0], [9.0], [9.0]])
      >>> curve = precision_recall_distribution(
      ...     np.zeros([4, 1]), real, num_clusters=2, num_runs=1
      ... )  # only one of the two real values is generated
      >>> float(curve.precision.max()), float(curve.recall.max())
      (1.0, 0.5)
    """
    generated, real = _checked_features(features, reference, at_least=1)
    num_angles = whole_number("num_angles", num_angles, minimum=1)
    num_runs = whole_number("num_runs", num_runs, minimum=1)
    seed = checked_seed(seed)
    size = min(len(generated), len(real))
    if whole_number("num_clusters", num_clusters, minimum=1) > 2 * size:
        raise ValueError(
            f"`num_clusters` must be at most {2 * size}, the rows compared of both "
            f"sets. Received: {num_clusters}."
        )
    rng = np.random.default_rng(seed)
    union = np.concatenate(
        [rng.permutation(array)[:size] for array in (generated, real)]
    )
    slopes = np.tan(np.linspace(0, np.pi / 2, num_angles + 2)[1:-1, np.newaxis])
    curves = []
    for state in rng.integers(2**31, size=num_runs):
        kmeans = MiniBatchKMeans(num_clusters, n_init=3, random_state=int(state))
        with threadpool_limits(1):  # its threads wait for one another on busy cores
            labels = kmeans.fit_predict(union)
        q, p = (
            np.bincount(part, minlength=num_clusters) / size
            for part in (labels[:size], labels[size:])
        )
        precision = np.minimum(slopes * p, q).sum(axis=-1)
        curves.append((precision, precision / slopes[:, 0]))
    return PrecisionRecall(*np.mean(curves, axis=0))


def max_f_beta(curve: PrecisionRecall, beta: float) -> float:
    """The curve's largest F_beta, (1 + beta^2) p r / (beta^2 p + r), in [0, 1].

    Args:
      curve: Result of `precision_recall_distribution`.
      beta: Positive weight: 8 emphasises recall, 1/8 precision.

    Example:
      >>> max_f_beta(PrecisionRecall(np.array([1.0]), np.array([1.0])), 8)
      1.0
    """
    precision, recall = curve
    above = (1 + beta**2) * precision * recall
    below = beta**2 * precision + recall
    return float(np.max(np.divide(above, below, out=0 * above, where=below > 0)))


def _checked_features(features, reference, *, at_least: int) -> list[np.ndarray]:
    """Both in float64, `[N, F]` and `[N', F]`."""
    arrays = [
        plain_array(name, array).astype(np.float64)
        for name, array in (("features", features), ("reference", reference))
    ]
    shapes = [array.shape for array in arrays]
    if any(len(s) != 2 or s[0] < at_least for s in shapes) or (
        shapes[0][1:] != shapes[1][1:]
    ):
        raise ValueError(
            "`features` and `reference` must have shapes [N, F] and [N', F], N and N' "
            f"at least {at_least}. Received: {shapes[0]} and {shapes[1]}."
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(
            "`features` and `reference` must be finite. Received: NaN or infinity; "
            "check the feature model and its inputs."
        )
    return arrays
