"""Average precision of classifiers of attributes, on data and on generated values."""

from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

from tf_mopoe.data import num_rows
from tf_mopoe.metrics.attribute_scores import average_precision_of_scores
from tf_mopoe.metrics.classifiers import classifier_logits
from tf_mopoe.metrics.labels import check_attributes
from tf_mopoe.metrics.subset_samples import (
    check_classifiers,
    check_num_attributes,
    complete_data,
    subset_logits,
)
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import subset_names


def average_precision(
    classifier: keras.Model, values: np.ndarray, flags: np.ndarray
) -> np.ndarray:
    """Average precision of each attribute's logit.

    Args:
      classifier: Network to logits of attributes `[B, A]`.
      values: Values that `classifier_inputs` takes, `[N, ...]`.
      flags: Flags of the attributes, bool `[N, A]`.

    Returns:
      float64 `[A]` in [0, 1]; NaN for an attribute that all rows have, or none.

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> import keras
      >>> identity = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
      >>> logits = np.array([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
      >>> flags = np.array([[True, True], [False, True], [False, True]])
      >>> average_precision(identity, logits, flags).tolist()
      [1.0, nan]
    """
    return average_precision_of_scores(classifier_logits(classifier, values), flags)


def attribute_coherence(
    model: MultimodalVAE,
    data: Mapping[str, np.ndarray],
    labels: np.ndarray,
    classifiers: Mapping[str, keras.Model],
    *,
    posterior: str = "product",
    latent: str = "sample",
    seed: int = 0,
    batch_size: int = 64,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, list[float]]]:
    """Average precision of each attribute in modalities decoded from a subset's latent.

    This is `conditional_coherence`, with the same draws, for rows that have attributes
    instead of a class: a target's score is the average precision of its classifier's
    logits. Chance level is the fraction of rows that have the attribute.

    Args:
      model: Model of at most 12 modalities.
      data: All its modalities, complete, `[N, *event_shape]`.
      labels: Flags of the attributes, bool `[N, A]`.
      classifiers: Modality name to a network to logits of attributes `[B, A]`.
      posterior: Posterior of a subset, see `conditional_coherence`.
      latent: Latent that is decoded, see `conditional_coherence`.
      seed: Seed of the draws, which also depend on `batch_size`.
      batch_size: Number of rows at a time.
      progress: Wrapper of the iterable of batches, e.g. `tqdm.tqdm`.

    Returns:
      Subset name to target name to A average precisions in [0, 1]; NaN for an attribute
      that all rows have, or none.

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> import keras
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (2,))], 2, seed=0)
      >>> data = {"a": np.zeros([4, 3], "f"), "b": np.zeros([4, 2], "f")}
      >>> flags = np.array([[True], [True], [False], [False]])
      >>> classifiers = {
      ...     "a": keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
      ...     "b": keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]),
      ... }
      >>> table = attribute_coherence(model, data, flags, classifiers, latent="mean")
      >>> list(table), len(table["a+b"]["b"])
      (['a', 'b', 'a+b'], 1)
    """
    names = model.modality_names
    rows = num_rows(complete_data(model, data))
    labels = check_attributes(labels, rows=rows)
    check_classifiers(classifiers, names)
    check_num_attributes(classifiers, labels.shape[1])
    parts = list(
        subset_logits(
            model,
            data,
            classifiers,
            posterior=posterior,
            latent=latent,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
    )
    logits = {
        name: np.concatenate([part[name] for part in parts]) for name in names
    }  # [N, S, A]
    return {
        subset: {
            name: average_precision_of_scores(logits[name][:, row], labels).tolist()
            for name in names
        }
        for row, subset in enumerate(subset_names(names))
    }
