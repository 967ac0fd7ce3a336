"""Average precision of scores of attributes, and means that leave out NaN."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import average_precision_score

from tf_mopoe.data.checks import plain_array
from tf_mopoe.metrics.labels import check_attributes


def average_precision_of_scores(scores: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Average precision of every attribute, along its thresholds n.

    sum_n (recall_n - recall_{n-1}) precision_n

    Args:
      scores: Finite scores `[N, A]`, such as logits; higher means more likely.
      flags: Flags of the attributes, bool `[N, A]`.

    Returns:
      float64 `[A]` in [0, 1]; NaN for an attribute that all rows have, or none.

    Raises:
      ValueError: If `flags` is not bool `[N, A]`, or `scores` has another shape or is
        not finite.
    """
    flags = check_attributes(flags, name="flags")
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
    """Mean of the values that are not NaN; NaN if there are none."""
    array = np.asarray(values, np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")
