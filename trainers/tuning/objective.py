"""What a study optimises: a number of the history of each run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trainers.errors import UsageError, one_of
from trainers.runs.history import LARGER


class Objective(NamedTuple):
    """A metric of the epochs, and which of its values is the best.

    Attributes:
      metric: A name in the history.
      larger: Whether the larger is the better.
    """

    metric: str
    larger: bool

    @classmethod
    def of(cls, metric: str, mode: str) -> "Objective":
        """Of `monitor` and `monitor_mode`."""
        if mode == "auto":
            return cls(metric, any(word in metric for word in LARGER))
        return cls(metric, mode == "max")

    def value(self, logs: Mapping[str, float | None]) -> float | None:
        """Of one epoch; None where the epoch has none."""
        return logs.get(self.metric)

    def best(self, history: Mapping[str, Sequence[float | None]]) -> tuple[float, int]:
        """The best value, and the epoch that has it, counted from 1.

        Raises:
          UsageError: If no epoch has one.
        """
        epochs = [
            dict(zip(history, values)) for values in zip(*history.values(), strict=True)
        ]
        values = [(self.value(logs), epoch) for epoch, logs in enumerate(epochs, 1)]
        found = [(value, epoch) for value, epoch in values if value is not None]
        if not found:
            raise UsageError(
                f"--monitor: no epoch has {self.metric!r}. "
                f"{one_of(history, self.metric)}"
            )
        sign = 1 if self.larger else -1
        return max(found, key=lambda pair: (sign * pair[0], -pair[1]))
