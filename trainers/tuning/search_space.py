"""The search space of a study: which settings are varied, and how far."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainers.config.train_config import (
    ConfigT,
    TrainConfig,
    make_config,
    parse_assignments,
)
from trainers.errors import UsageError

if TYPE_CHECKING:
    import optuna

Space = dict[str, "optuna.distributions.BaseDistribution"]

#: Searched unless they are set: from the recipe's value divided by it to that times it.
DEFAULT_FACTORS = {"latent_dim": 4, "beta": 10, "learning_rate": 10}


def make_space(
    config: TrainConfig, assignments: Sequence[str], *, fixed: Collection[str] = ()
) -> Space:
    """The default ranges around `config`, and those that `key=SPEC` texts ask for.

    Args:
      config: Gives what is not searched, and the types and limits of what is.
      assignments: Of `--space`: `LOW:HIGH`, `LOW:HIGH:log` or choices `A,B,...`.
      fixed: Names of settings that `--set` gives: not searched.

    Raises:
      UsageError: In one line that names the setting, if a text can't be read, or the
        configuration refuses a bound, a choice or a combination of them.
    """
    space: Space = {}
    for name, factor in DEFAULT_FACTORS.items():
        value = getattr(config, name)
        if name not in fixed and value > 0:
            whole = isinstance(value, int)
            low = max(1, value // factor) if whole else value / factor
            space[name] = _range(low, value * factor, log=True)
    asked = parse_assignments(assignments, "--space", "key=SPEC")
    for name, text in asked.items():
        if name in fixed:
            raise UsageError(f"--space {name}: --set fixes it. Give one of the two.")
        space[name] = _distribution(config, name, text)
    if not space:
        raise UsageError("--space: all is set, nothing is left to search.")
    for corner in itertools.product(*(_ends(spec) for spec in space.values())):
        _tried(config, dict(zip(space, corner)))
    return space


def with_settings(config: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    """The configuration with some values replaced, and validated.

    Raises:
      UsageError: If they are not valid.
    """
    return make_config(type(config), {**dict(config), **values})


def describe(spec: "optuna.distributions.BaseDistribution") -> str:
    """A range or choices as `--space` takes them."""
    import optuna

    if isinstance(spec, optuna.distributions.CategoricalDistribution):
        return ",".join(str(choice) for choice in spec.choices)
    low, high = _ends(spec)
    log = ":log" if getattr(spec, "log", False) else ""
    return f"{low}:{high}{log}"


def _distribution(config: TrainConfig, name: str, text: str):
    """What a SPEC stands for."""
    from optuna import distributions

    if "," in text:
        choices = [_value(config, name, part) for part in text.split(",")]
        if len(set(choices)) < len(choices):
            raise UsageError(f"--space {name}: a choice comes twice in {text!r}.")
        return distributions.CategoricalDistribution(choices)
    parts = text.split(":")
    log = parts[2:] == ["log"]
    if len(parts) != 2 + log:
        _value(config, name, getattr(config, name, ""))  # is there such a setting?
        raise UsageError(
            f"--space {name}: expected LOW:HIGH, LOW:HIGH:log or choices A,B. "
            f"Received: {text!r}."
        )
    low, high = (_value(config, name, part) for part in parts[:2])
    if isinstance(low, bool) or not isinstance(low, int | float):
        raise UsageError(f"--space {name}: it is no number; give choices A,B.")
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise UsageError(
            f"--space {name}: expected finite bounds, the lower first. "
            f"Received: {text!r}."
        )
    if log and low <= 0:
        raise UsageError(
            f"--space {name}: a range in log scale starts above 0. Received: {text!r}."
        )
    return _range(low, high, log=log)


def _range(low: float, high: float, *, log: bool):
    """Whole numbers between whole numbers."""
    from optuna import distributions

    if isinstance(low, int):
        return distributions.IntDistribution(low, int(high), log=log)
    return distributions.FloatDistribution(low, high, log=log)


def _value(config: TrainConfig, name: str, text: Any) -> Any:
    """A bound or a choice, of the setting's type."""
    value = getattr(_tried(config, {name: text}), name)
    if not isinstance(value, bool | int | float | str | None):
        raise UsageError(f"--space {name}: only numbers and names can be searched.")
    return value


def _tried(config: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    try:
        return with_settings(config, values)
    except UsageError as error:
        raise UsageError(f"--space: {error}") from None


def _ends(spec: Any) -> tuple[Any, ...]:
    """All choices, or both bounds."""
    return getattr(spec, "choices", None) or (spec.low, spec.high)
