"""Judges of attributes: average precision, of data and of what a model generates."""

from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

from tf_mopoe.data import num_rows
from tf_mopoe.metrics.attribute_scores import (
    average_precision_of_scores,
    check_labels,
)
from tf_mopoe.metrics.classifiers import classifier_logits
from tf_mopoe.metrics.subset_samples import (
    check_attributes,
    check_classifiers,
    complete_data,
    judged_batches,
)
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import subset_names


def average_precision(
    classifier: keras.Model, values: np.ndarray, flags: np.ndarray
) -> np.ndarray:
    """Average precision of each attribute's logit.

    Args:
      classifier: Of attributes.
      values: As of `classifier_inputs`, `[N, ...]`.
      flags: bool `[N, A]`.

    Returns:
      float64 `[A]` in [0, 1], NaN for an attribute that all rows have, or none.
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

    As `conditional_coherence`, with the same draws, but rows have attributes in place
    of a class: a target's score is the average precision of its classifier's logits.
    Chance is the share of rows that have the attribute.

    Args:
      model: As there.
      data: As there.
      labels: bool `[N, A]`.
      classifiers: Modality name to a network to logits `[B, A]`.
      posterior: As there.
      latent: As there.
      seed: As there.
      batch_size: As there.
      progress: As there.

    Returns:
      Subset name to target name to A average precisions in [0, 1]; NaN for an attribute
      that all rows have, or none.

    Raises:
      ValueError: If an argument is not as described.
    """
    names = model.modality_names
    rows = num_rows(complete_data(model, data))
    labels = check_labels(labels, num_classes=None, rows=rows)
    check_classifiers(classifiers, names)
    check_attributes(classifiers, labels.shape[1])
    parts = list(
        judged_batches(
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
