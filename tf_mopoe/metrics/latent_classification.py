"""Linear probes: how well labels are read off the latent of each subset."""

import warnings
from collections.abc import Mapping

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_mopoe.checks import whole_number
from tf_mopoe.data import num_rows, ordered_batches
from tf_mopoe.metrics.attribute_scores import (
    average_precision_of_scores,
    check_labels,
    mean_of_defined,
)
from tf_mopoe.metrics.subset_samples import complete_data
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import subset_names

#: Which probe a subset's mean is shown to: one fitted on that subset's means, or the
#: one fitted on those of all modalities.
PROTOCOLS = ("per_subset", "joint")

#: Modalities by name, and the rows' labels.
Split = tuple[Mapping[str, np.ndarray], np.ndarray]


def linear_probe(
    model: MultimodalVAE,
    train: Split,
    test: Split,
    *,
    protocol: str = "per_subset",
    num_train: int | None = 500,
) -> dict[str, float]:
    """Score of a logistic regression on the mean of each subset's product of experts.

    Inputs are standardised by the rows that the probe is fitted on. Of classes the
    score is the accuracy. Of attributes each has a probe of its own, and the score is
    the mean of their average precisions; attributes are left out that all rows have, or
    none, be it in the training rows or in `test`; NaN if none is left. Styles
    have no part in it.

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021 (500 rows).

    Args:
      model: The model, of at most 12 modalities.
      train: All its modalities by name, `[N, *event_shape]`, complete, and labels:
        classes, int `[N]`, or flags of attributes, bool `[N, A]`.
      test: The same of the rows to score.
      protocol: `"per_subset"`: a probe is fitted for every subset; `"joint"`: one, on
        the product of all modalities, scores the means of every subset, so a subset
        must also lie where the joint posterior does.
      num_train: Number of training rows used, the first ones; None: all.

    Returns:
      Subset name (`"m0+m1"`) to the score on `test` in [0, 1].

    Raises:
      ValueError: If an argument is not as described.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"`protocol` must be one of {list(PROTOCOLS)}. Received: {protocol!r}."
        )
    if num_train is not None:
        num_train = whole_number("num_train", num_train, minimum=1)
    values, labels = _checked(model, train)
    values = {name: array[:num_train] for name, array in values.items()}
    labels = labels[:num_train]
    test_values, test_labels = _checked(model, test)
    if labels.shape[1:] != test_labels.shape[1:]:
        raise ValueError(
            "Labels must be of one kind in both splits, classes [N] or as many "
            f"attributes [N, A]. Received: {labels.shape} and {test_labels.shape}."
        )
    latents = _means(model, values, only_joint=protocol == "joint")  # [N, S or 1, D]
    test_latents = _means(model, test_values)  # [N', S, D]
    if labels.ndim == 1 and len(set(labels.tolist())) < 2:
        raise ValueError(
            "The training rows must have at least two classes. Received: only "
            f"{labels[0]} in the first {len(labels)}. Mix the rows, or take more with "
            "`num_train`."
        )
    probes = [_fit(latents[:, index], labels) for index in range(latents.shape[1])]
    return {
        subset: _score(probes[index % len(probes)], test_latents[:, index], test_labels)
        for index, subset in enumerate(subset_names(model.modality_names))
    }


def _checked(model: MultimodalVAE, split: Split):
    """The model's modalities and the labels."""
    data, labels = split
    data = complete_data(model, data)
    most = np.iinfo(np.int64).max if np.ndim(labels) == 1 else None
    return data, check_labels(labels, num_classes=most, rows=num_rows(data))


def _means(model, data, *, only_joint: bool = False) -> np.ndarray:
    """Means of all subsets' products `[N, S, D]`, or of the last one's alone."""
    kept = slice(-1 if only_joint else 0, None)
    return np.concatenate(
        [
            model.subset_posteriors(batch).loc[:, kept]
            for batch in ordered_batches(data, 256)
        ]
    )


def _fit(latents: np.ndarray, labels: np.ndarray) -> dict[int, Pipeline]:
    """The probe of the class, or of each attribute that differs between rows."""
    columns = labels[:, np.newaxis] if labels.ndim == 1 else labels
    probes = {}
    for index, column in enumerate(columns.T):
        if labels.ndim == 2 and column.all() == column.any():
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        with warnings.catch_warnings():
            # The last digits of the optimum don't move the score.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probes[index] = probe.fit(latents, column)
    return probes


def _score(
    probes: dict[int, Pipeline], latents: np.ndarray, labels: np.ndarray
) -> float:
    """Accuracy, or mean average precision over the attributes that have a probe."""
    if labels.ndim == 1:
        return float(probes[0].score(latents, labels))
    if not probes:
        return float("nan")
    scores = [probe.decision_function(latents) for probe in probes.values()]
    return mean_of_defined(
        average_precision_of_scores(np.stack(scores, axis=1), labels[:, list(probes)])
    )
