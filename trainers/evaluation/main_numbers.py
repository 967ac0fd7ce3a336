"""The main numbers of an evaluation, flat: for TensorBoard, terminals, comparisons."""

from collections.abc import Mapping
from typing import Any

#: Counts and seed of an entry of evaluation.json, shown with its protocol.
COUNTS = ("num_rows", "num_samples", "num_train", "seed")
#: Parts of an entry that are no measurements, or too detailed for a summary.
_SKIPPED = {
    *(*COUNTS, "options", "num_posterior_rows", "samples_per_row", "seconds"),
    *("by_subset", "by_dimension", "by_attribute"),
}


def main_numbers(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns `"metric/part/..."` to its number, without tables by subset.

    Args:
      report: Content of evaluation.json, or entries of it.
    """
    numbers: dict[str, float] = {}

    def collect(entry: Mapping[str, Any], path: str) -> None:
        for name, value in entry.items():
            if name in _SKIPPED:
                continue
            if isinstance(value, Mapping):
                collect(value, f"{path}/{name}")
            elif isinstance(value, int | float) and not isinstance(value, bool):
                numbers[f"{path}/{name}"] = float(value)

    for metric, entry in report.items():
        if isinstance(entry, Mapping):
            collect(entry, metric)
    return numbers
