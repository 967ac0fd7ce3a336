"""The metrics of a run's epochs: the best epoch, and early stopping."""

import csv
import math
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainers.config.train_config import TrainConfig

#: Metric to its values by epoch; None where an epoch has none.
History = dict[str, list[float | None]]
#: Parts of names of metrics whose larger values are better.
LARGER_IS_BETTER = ("log_likelihood", "coherence", "probe", "accuracy", "elbo")
#: Name in the history of what `validation_elbo` returns.
ELBO = "val_elbo"


def validation_elbo(logs: Mapping[str, float]) -> float:
    """Log-likelihoods minus divergences of the validation rows, all with weight 1,

        sum_m log p(x_m | z, s_m) - kl_bound(z) - sum_m KL(s_m),

    in nats per row, from one draw of z. For complete rows its expectation is a lower
    bound on the mean of log p(X), whatever beta is, for every model but `MMJSD`:
    `kl_bound` is KL(q || p) (`MVAE`, the bound of its joint posterior alone) or at
    least that (`MoPoEVAE`, `MMVAE`). The Jensen-Shannon form of `MMJSD` may be smaller
    than KL(q || p): its value is no bound, and not comparable to those of the others.
    Where modalities are missing each term is the mean over the rows that have it, and
    the sum is no bound either.

    `val_loss` weights the divergences with beta, so a run with a smaller beta, or an
    epoch in which beta is still rising, looks better without being so. Of two runs
    that differ in beta alone this value favours the one near 1: where generated
    samples matter, monitor one of the coherences that `evaluate_every` adds.

    Args:
      logs: Metrics of an epoch.
    """
    terms = {name: value for name, value in logs.items() if name.startswith("val_")}
    gains = sum(x for name, x in terms.items() if name.endswith("_log_likelihood"))
    costs = sum(x for name, x in terms.items() if name.endswith("_style_kl"))
    return gains - costs - terms["val_kl_bound"]


def num_epochs(history: History) -> int:
    """Number of complete epochs."""
    return max(map(len, history.values()), default=0)


def with_epoch(history: History, logs: Mapping[str, float]) -> History:
    """Adds an epoch to the history, whose lists keep the same length.

    A number that is not finite, as an evaluation may give, becomes None.
    """
    done = num_epochs(history)
    longer: History = {}
    for name in dict.fromkeys([*history, *logs]):
        values = history.get(name, [])
        value = logs.get(name, math.nan)
        new = float(value) if math.isfinite(value) else None
        longer[name] = [*values, *[None] * (done - len(values)), new]
    return longer


def write_csv(path: pathlib.Path, history: History) -> None:
    """Writes one row per epoch, counted from 1; a missing number is empty."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *history])
        for epoch, values in enumerate(zip(*history.values()), 1):
            writer.writerow([epoch, *("" if v is None else repr(v) for v in values)])


class Monitor:
    """The best epoch by the configuration's `monitor`, and early stopping.

    Everything follows from the history, so that a resumed run decides as an
    uninterrupted one. Of equal epochs the first is the best. Epochs without a value
    are ignored.

    Attributes:
      metric: Name of the metric.
      maximize: Whether larger values are better.
    """

    def __init__(self, config: "TrainConfig"):
        self.metric, self.patience = config.monitor, config.patience
        self.maximize = config.monitor_mode == "max" or (
            config.monitor_mode == "auto"
            and any(part in config.monitor for part in LARGER_IS_BETTER)
        )

    def best_epoch(self, history: History) -> int | None:
        """The best epoch, counted from 0; None if no epoch has a value."""
        values = self._values(history)
        sign = -1 if self.maximize else 1
        return min(
            values, key=lambda epoch: (sign * values[epoch], epoch), default=None
        )

    def stop_reason(self, history: History) -> str | None:
        """Why training stops before its last epoch; None if it does not."""
        best = self.best_epoch(history)
        if self.patience is None or best is None:
            return None
        waited = sum(epoch > best for epoch in self._values(history))
        if waited < self.patience:
            return None
        return (
            f"stopped early after epoch {num_epochs(history)}: in {waited} epochs no "
            f"{self.metric} was better than {history[self.metric][best]:.6g}, of epoch "
            f"{best + 1} (patience={self.patience})"
        )

    def _values(self, history: History) -> dict[int, float]:
        values = enumerate(history.get(self.metric, []))
        return {epoch: value for epoch, value in values if value is not None}
