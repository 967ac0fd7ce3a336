"""The aggregate posterior q(z) = mean_n q(z | X_n), and a mixture fitted to it.

Decoders are trained on draws from q(z), not from the prior. Where the two differ,
latents from a density fitted to q(z) after training give better joint samples.

Source: Ghosh et al., From Variational to Deterministic Autoencoders, ICLR 2020 (ex-post
density estimation).
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from tensorflow_probability import distributions as tfd
from threadpoolctl import threadpool_limits

from tf_mopoe.checks import whole_number
from tf_mopoe.data import ordered_batches
from tf_mopoe.data.checks import plain_array
from tf_mopoe.data.pipelines import Rows
from tf_mopoe.distributions import noise
from tf_mopoe.metrics.seeds import checked_seed
from tf_mopoe.models import MultimodalVAE

#: Minimum number of rows for each component and latent dimension of full covariances.
ROWS_FOR_FULL_COVARIANCES = 10


def aggregate_posterior_samples(
    model: MultimodalVAE, data: Rows, *, seed: int = 0, batch_size: int = 256
) -> np.ndarray:
    """Draws one z_n ~ q(z | X_n) for each row.

    Args:
      model: Model whose posterior is used.
      data: Modality name to `[N, *event_shape]`, uint8 or as in training, optionally
        with `"present"` flags; see `tf_mopoe.data.ordered_batches`.
      seed: Seed of the draws, which also depend on `batch_size`.
      batch_size: Number of rows at a time.

    Returns:
      Latents `[N, D]`, of the model's latent dtype.

    Raises:
      TypeError, ValueError: If the rows do not fit the model.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (2,))], 4, seed=0)
      >>> data = {"a": np.zeros([5, 3], "f"), "b": np.zeros([5, 2], "f")}
      >>> aggregate_posterior_samples(model, data).shape
      (5, 4)
    """
    base = noise.stateless_seed(checked_seed(seed))
    return np.concatenate(
        [
            model.posterior(batch).sample(seed=noise.fold_in(base, step))
            for step, batch in enumerate(ordered_batches(data, batch_size))
        ]
    )


def fit_gaussian_mixture(
    latents: np.ndarray, *, num_components: int = 10, seed: int = 0
) -> tfd.MixtureSameFamily:
    """Fits a mixture of Gaussians by expectation maximisation (scikit-learn's).

    Covariances are full if there are at least `ROWS_FOR_FULL_COVARIANCES` rows for each
    component and latent dimension, N >= 10 K D; otherwise they are diagonal.

    Source: Ghosh et al., ICLR 2020 (10 components).

    Args:
      latents: Finite latents `[N, D]`, such as `aggregate_posterior_samples` returns.
      num_components: K, number of components, at most N.
      seed: Seed of the initial assignment of rows to components.

    Returns:
      A distribution with batch shape `[]` and event shape `[D]`, of the dtype of
      `latents`.

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> latents = np.array([[0.0, 0.1], [0.1, 0.0], [5.0, 5.1], [5.1, 5.0]])
      >>> mixture = fit_gaussian_mixture(latents, num_components=2)
      >>> mixture.sample(3, seed=0).shape
      TensorShape([3, 2])
      >>> np.sort(mixture.components_distribution.mean()[:, 0]).round(2).tolist()
      [0.05, 5.05]
    """
    latents, seed = checked_latents(latents, at_least=2), checked_seed(seed)
    rows, size = latents.shape
    if whole_number("num_components", num_components, minimum=1) > rows:
        raise ValueError(
            f"`num_components` must be at most the {rows} rows of `latents`. "
            f"Received: {num_components}. Take fewer, or encode more rows."
        )
    full = rows >= ROWS_FOR_FULL_COVARIANCES * num_components * size
    mixture = GaussianMixture(
        num_components, covariance_type="full" if full else "diag", random_state=seed
    )
    # On busy cores the threads of linear algebra would wait for one another.
    with warnings.catch_warnings(), threadpool_limits(1):
        # The last digits of the likelihood do not change the samples.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(latents.astype(np.float64))
    loc = mixture.means_.astype(latents.dtype)  # [K, D]
    components: tfd.Distribution
    if full:
        scale_tril = np.linalg.cholesky(mixture.covariances_)  # [K, D, D]
        components = tfd.MultivariateNormalTriL(loc, scale_tril.astype(latents.dtype))
    else:
        scale = np.sqrt(mixture.covariances_)  # [K, D]
        components = tfd.MultivariateNormalDiag(loc, scale.astype(latents.dtype))
    weights = mixture.weights_.astype(latents.dtype)
    return tfd.MixtureSameFamily(tfd.Categorical(probs=weights), components)


def checked_latents(latents: np.ndarray, *, at_least: int) -> np.ndarray:
    """The latents as an array.

    Args:
      latents: Latents `[N, D]`, float32 or float64.
      at_least: Minimum number of rows.

    Raises:
      ValueError: If shape or dtype differ, or values are masked or not finite.
    """
    latents = plain_array("latents", latents)
    if latents.ndim != 2 or len(latents) < at_least or latents.shape[1] < 1:
        raise ValueError(
            f"`latents` must have shape [N, D], N at least {at_least}. "
            f"Received: {latents.shape}."
        )
    if latents.dtype not in (np.float32, np.float64) or not np.isfinite(latents).all():
        raise ValueError(
            "`latents` must be finite, float32 or float64. Received: "
            f"{latents.dtype}, {int(np.sum(~np.isfinite(latents)))} values not finite."
        )
    return latents
