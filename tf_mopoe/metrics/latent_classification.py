"""Linear probes: accuracy of labels predicted from the latent of each subset."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_mopoe.checks import whole_number
from tf_mopoe.data import num_rows, ordered_batches
from tf_mopoe.data.checks import plain_array
from tf_mopoe.metrics.attribute_scores import (
    average_precision_of_scores,
    mean_of_defined,
)
from tf_mopoe.metrics.labels import check_attributes, check_classes
from tf_mopoe.metrics.subset_samples import complete_data
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import subset_names

#: Probe that scores a subset's means: one fitted on that subset's means, or the one
#: fitted on the means of all modalities.
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

    Inputs are standardised by the rows that the probe is fitted on. For classes the
    score is the accuracy. For attributes there is one probe each, and the score is the
    mean of their average precisions. An attribute that all rows have, or none, in the
    training rows or in `test`, is left out; the score is NaN if none is left. Styles
    are not used.

    Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021 (500 rows).

    Args:
      model: Model of at most 12 modalities.
      train: Pair of data and labels: all modalities by name, complete,
        `[N, *event_shape]`; and classes, int `[N]`, or flags of attributes, bool
        `[N, A]`.
      test: Pair of data and labels of the rows to score.
      protocol: `"per_subset"` fits a probe for every subset; `"joint"` fits one on the
        product of all modalities and scores the means of every subset with it, so that
        a subset also has to agree with the joint posterior in location.
      num_train: Number of training rows used, the first ones; None for all.

    Returns:
      Subset name (`"m0+m1"`) to the score on `test` in [0, 1].

    Raises:
      TypeError: If `train` or `test` is not a pair, or an array is of several types.
      ValueError: If an argument is not as described.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (2,))], 2, seed=0)
      >>> a = np.linspace(-1.0, 1.0, 30, dtype="f").reshape(10, 3)
      >>> rows = {"a": a, "b": a[:, :2]}, np.arange(10) // 5
      >>> list(linear_probe(model, rows, rows))
      ['a', 'b', 'a+b']
    """
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"`protocol` must be one of {list(PROTOCOLS)}. Received: {protocol!r}."
        )
    if num_train is not None:
        num_train = whole_number("num_train", num_train, minimum=1)
    values, labels = _checked(model, "train", train)
    values = {name: array[:num_train] for name, array in values.items()}
    labels = labels[:num_train]
    test_values, test_labels = _checked(model, "test", test)
    if labels.shape[1:] != test_labels.shape[1:]:
        raise ValueError(
            "`train` and `test` must both have classes, [N], or both the same number "
            f"of attributes, [N, A]. Received labels of shapes {labels.shape} and "
            f"{test_labels.shape}."
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


def _checked(
    model: MultimodalVAE, argument: str, split: Any
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The model's modalities, and the labels."""
    if not isinstance(split, (tuple, list)) or len(split) != 2:
        raise TypeError(
            f"`{argument}` must be a pair of data and labels, such as "
            f"({{'a': images}}, labels). Received: {type(split).__name__}"
            + (f" of {len(split)}." if isinstance(split, (tuple, list)) else ".")
        )
    data = complete_data(model, split[0])
    name = f"{argument}[1]"
    labels = plain_array(name, split[1])
    check = check_attributes if labels.ndim == 2 else check_classes
    return data, check(labels, rows=num_rows(data), name=name)


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
            # The last digits of the optimum do not change the score.
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
