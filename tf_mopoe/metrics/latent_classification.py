"""Linear probes: how well a class is read off the latent of each subset."""

import warnings
from collections.abc import Mapping

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_mopoe.data import ordered_batches
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import subset_names


def linear_probe(
    model: MultimodalVAE,
    train: tuple[Mapping[str, np.ndarray], np.ndarray],
    test: tuple[Mapping[str, np.ndarray], np.ndarray],
    *,
    num_train: int | None = 500,
) -> dict[str, float]:
    """Accuracy of a logistic regression on the mean of each subset's product.

    One probe a subset, fitted on standardised means of training rows.

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021 (500 rows).

    Args:
      model: The model.
      train: Modality name to `[N, *event_shape]`, complete, and labels `[N]`.
      test: The same of the rows to score.
      num_train: Number of training rows used, the first ones; None: all.

    Returns:
      Subset name (`"m0+m1"`) to accuracy on `test` in [0, 1].
    """
    images, labels = train
    labels = labels[:num_train]
    latents = _means(model, {name: x[: len(labels)] for name, x in images.items()})
    test_latents = _means(model, test[0])
    accuracy = {}
    for index, subset in enumerate(subset_names(model.modality_names)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        with warnings.catch_warnings():
            # The last digits of the optimum don't move the accuracy.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(latents[:, index], labels)
        accuracy[subset] = float(probe.score(test_latents[:, index], test[1]))
    return accuracy


def _means(model: MultimodalVAE, images: Mapping[str, np.ndarray]) -> np.ndarray:
    """Means of all subsets' products, `[N, S, D]`."""
    batches = ordered_batches(images, 256)
    return np.concatenate([model.subset_posteriors(batch).loc for batch in batches])
