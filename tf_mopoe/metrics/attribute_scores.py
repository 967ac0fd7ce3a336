"""Labels of rows, classes or attributes, and the score of attributes."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import average_precision_score

from tf_mopoe.data.checks import plain_array


def check_labels(
    labels: np.ndarray, *, num_classes: int | None, rows: int | None = None
) -> np.ndarray:
    """The labels as an array.

    Args:
      labels: Classes, int `[N]`; or flags of attributes, bool `[N, A]`.
      num_classes: C; None if they must be attributes.
      rows: N, of the values beside them; None: any.

    Raises:
      ValueError: If they are not as described.
    """
    labels = plain_array("labels", labels)
    found = f"Received: {labels.dtype} of shape {labels.shape}."
    if num_classes is None:
        if labels.ndim != 2 or labels.dtype != bool or not labels.size:
            raise ValueError(
                "Flags of attributes must be bool [N, A]. "
                f"{found} Convert 0 and 1 with `.astype(bool)`; classes go with "
                "`num_classes`, and have functions of their own."
            )
    elif labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Labels must be classes, int [N]. {found} For attributes, bool [N, A], "
            "leave out `num_classes` or take the function for attributes."
        )
    elif not labels.size or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"Labels must be classes from 0 to {num_classes - 1}, one at least. "
            f"Received: {sorted(set(labels.tolist()))[-20:]}."
        )
    if rows is not None and len(labels) != rows:
        raise ValueError(
            f"Labels must be one for each of the {rows} rows. Received: {len(labels)}."
        )
    return labels


def average_precision_of_scores(scores: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Average precision of every attribute, along its thresholds n.

    sum_n (recall_n - recall_{n-1}) precision_n

    Args:
      scores: The higher, the more likely, finite, `[N, A]`; such as logits.
      flags: bool `[N, A]`.

    Returns:
      float64 `[A]` in [0, 1], NaN for an attribute that all rows have, or none.

    Raises:
      ValueError: If `flags` is not bool `[N, A]`, or `scores` not of its shape or not
        finite.
    """
    flags = check_labels(flags, num_classes=None)
    scores = plain_array("scores", scores)
    if scores.shape != flags.shape:
        raise ValueError(
            f"Scores must have the flags' shape {flags.shape}. Received: "
            f"{scores.shape}; the classifier must have one output for each attribute."
        )
    if not np.isfinite(scores).all():
        raise ValueError("Scores must be finite. Received: NaN or infinity.")
    counts = flags.sum(axis=0)  # [A]
    return np.array(
        [
            average_precision_score(flags[:, index], scores[:, index])
            if 0 < counts[index] < len(flags)
            else np.nan
            for index in range(flags.shape[1])
        ]
    )


def mean_of_defined(values: Sequence[float] | np.ndarray) -> float:
    """Mean of what is not NaN; NaN if nothing is."""
    array = np.asarray(values, np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")
