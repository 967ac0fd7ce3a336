"""The numbers of a run's epochs, and what follows from them: the best, an early end."""

import csv
import math
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainers.config.train_config import TrainConfig

#: Metric to its values by epoch; None where an epoch has none.
History = dict[str, list[float | None]]

#: Parts of names of metrics of which the larger is the better.
LARGER = ("log_likelihood", "coherence", "probe", "accuracy", "elbo")


#: What `validation_elbo` gives, in the history.
ELBO = "val_elbo"


def validation_elbo(logs: Mapping[str, float]) -> float:
    """Log-likelihoods minus divergences of the validation rows, all of weight 1,

        sum_m log p(x_m | z, s_m) - kl_bound(z) - sum_m KL(s_m),

    in nats a row, from one draw of z. Of complete rows its expectation is a lower
    bound on the mean of log p(X), whatever beta is, for every model but `MMJSD`:
    `kl_bound` is KL(q || p) (`MVAE`, the bound of its joint posterior alone) or at
    least that (`MoPoEVAE`, `MMVAE`). The Jensen-Shannon form of `MMJSD` may be smaller
    than KL(q || p): its value is no bound, and not comparable to those of the others.
    Where modalities are missing each term is the mean over the rows that have it, and
    the sum is no bound on anything either.

    `val_loss` weighs the divergences with beta, so that a run with a smaller beta, or
    an epoch in which it is still rising, looks better without being so. Of two runs
    that differ in beta alone this value favours the one near 1: where what is
    generated matters, monitor one of the coherences that `evaluate_every` adds.

    Args:
      logs: An epoch's metrics.
    """
    terms = {name: value for name, value in logs.items() if name.startswith("val_")}
    gains = sum(x for name, x in terms.items() if name.endswith("_log_likelihood"))
    costs = sum(x for name, x in terms.items() if name.endswith("_style_kl"))
    return gains - costs - terms["val_kl_bound"]


def num_epochs(history: History) -> int:
    """Number of complete epochs."""
    return max(map(len, history.values()), default=0)


def with_epoch(history: History, logs: Mapping[str, float]) -> History:
    """The history with one more epoch; all its lists are as long.

    A number that is not finite, as the evaluation may give, counts as none.
    """
    done = num_epochs(history)
    longer: History = {}
    for name in [*history, *(name for name in logs if name not in history)]:
        values = history.get(name, [])
        value = logs.get(name, math.nan)
        new = float(value) if math.isfinite(value) else None
        longer[name] = [*values, *[None] * (done - len(values)), new]
    return longer


def write_csv(path: pathlib.Path, history: History) -> None:
    """Writes one row an epoch, counted from 1; a missing number is empty."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *history])
        for epoch, values in enumerate(zip(*history.values()), 1):
            writer.writerow([epoch, *("" if v is None else repr(v) for v in values)])


class Monitor:
    """Which epoch is the best by one metric, and whether waiting for a better is over.

    All follows from the history, so that a resumed run does what it would have done.
    Of equal epochs the first is the best. Epochs without a value change nothing.
    """

    def __init__(self, config: "TrainConfig"):
        self.metric, self.patience = config.monitor, config.patience
        larger = any(part in config.monitor for part in LARGER)
        if config.monitor_mode != "auto":
            larger = config.monitor_mode == "max"
        self._sign = -1 if larger else 1

    def best_epoch(self, history: History) -> int | None:
        """The best epoch, counted from 0; None if none has a value."""
        values = self._values(history)
        return min(values, key=lambda epoch: (values[epoch], epoch), default=None)

    def _values(self, history: History) -> dict[int, float]:
        """Epoch to what is smaller the better it is."""
        values = enumerate(history.get(self.metric, []))
        return {epoch: self._sign * x for epoch, x in values if x is not None}

    def why_stopped(self, history: History) -> str | None:
        """Why training is over before its last epoch; None if it is not."""
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
