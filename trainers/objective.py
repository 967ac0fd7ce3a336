"""What a study optimises: a number of the history of each run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trainers.errors import UsageError, one_of
from trainers.history import LARGER

#: The name of the default objective, which is in no history.
ELBO = "val_elbo"


class Objective(NamedTuple):
    """A metric of the epochs, and which of its values is the best.

    The default is the bound of the validation rows with all weights 1, in nats,

        sum_m log p(x_m | z, s_m) - KL bound(z) - sum_m KL(s_m):

    a lower bound on log p(X) whatever beta is, which is no part of the generative
    model. `val_loss` weighs the divergence with beta, so that a run with a smaller one
    looks better without being so. Of two runs that differ in beta alone the bound
    favours the one near 1: whoever tunes beta for what is generated monitors one of the
    coherences that `evaluate_every` adds to the history.

    Attributes:
      metric: A name in the history, or `ELBO`.
      larger: Whether the larger is the better.
    """

    metric: str
    larger: bool

    @classmethod
    def of(cls, metric: str | None, mode: str) -> "Objective":
        """Of `--monitor`, or the default one, and of `monitor_mode`."""
        if metric is None:
            return cls(ELBO, larger=True)
        if mode == "auto":
            return cls(metric, any(word in metric for word in LARGER))
        return cls(metric, mode == "max")

    def value(self, logs: Mapping[str, float | None]) -> float | None:
        """Of one epoch; None where the epoch has none.

        Raises:
          UsageError: If the terms of the default objective are not there.
        """
        if self.metric != ELBO:
            return logs.get(self.metric)
        gains = [logs[name] for name in logs if _is(name, "log_likelihood")]
        costs = [logs[name] for name in logs if _is(name, "style_kl")]
        if not gains or "val_kl_bound" not in logs:
            raise UsageError(f"--monitor: the history has no terms of {ELBO}")
        costs.append(logs["val_kl_bound"])
        given = [value for value in gains + costs if value is not None]
        if len(given) < len(gains + costs):
            return None
        return sum(given[: len(gains)]) - sum(given[len(gains) :])

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


def _is(name: str, term: str) -> bool:
    return name.startswith("val_") and name.endswith(f"_{term}")
