"""The main numbers of an evaluation, flat: for TensorBoard, terminals, comparisons."""

from collections.abc import Mapping
from typing import Any

#: Entries of evaluation.json that are no measurements.
NOT_NUMBERS = frozenset(
    [
        "options",
        "seed",
        "num_rows",
        "num_samples",
        "num_train",
        "num_posterior_rows",
        "samples_per_row",
        "seconds",
    ]
)
#: Entries too detailed for a summary.
DETAILS = ("by_subset", "by_dimension", "by_attribute")


def main_numbers(report: Mapping[str, Any]) -> dict[str, float]:
    """`"metric/part/..."` to its number, without tables by subset.

    Args:
      report: Of evaluation.json, or entries of it.
    """
    found: dict[str, float] = {}
    for metric, entry in report.items():
        if isinstance(entry, Mapping):
            _collect(entry, metric, found)
    return found


def _collect(entry: Mapping[str, Any], path: str, found: dict[str, float]) -> None:
    for name, value in entry.items():
        if name in NOT_NUMBERS or name in DETAILS:
            continue
        if isinstance(value, Mapping):
            _collect(value, f"{path}/{name}", found)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{path}/{name}"] = float(value)
