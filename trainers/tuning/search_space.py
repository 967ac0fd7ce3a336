"""The search space of a study: which settings are searched, and their ranges."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainers.config.command_line import parse_assignments
from trainers.config.train_config import ConfigT, TrainConfig, make_config
from trainers.errors import UsageError

if TYPE_CHECKING:
    import optuna

Space = dict[str, "optuna.distributions.BaseDistribution"]

#: Searched unless they are set: from the recipe's value divided by it to that times it.
DEFAULT_FACTORS = {"latent_dim": 4, "beta": 10, "learning_rate": 10}


def make_space(
    config: TrainConfig, assignments: Sequence[str], *, fixed: Collection[str] = ()
) -> Space:
    """Makes the default ranges around `config`, and those of `key=SPEC` texts.

    Args:
      config: Values of what is not searched, and types and limits of what is.
      assignments: Texts of `--space`: `LOW:HIGH`, `LOW:HIGH:log` or choices `A,B,...`.
      fixed: Names of settings that are not searched, since `--set` gives them.

    Raises:
      UsageError: In one line that names the setting, if a text is invalid, or the
        configuration refuses a bound, a choice or a combination of them.
    """
    space: Space = {}
    for name, factor in DEFAULT_FACTORS.items():
        value = getattr(config, name)
        if name not in fixed and value > 0:
            integer = isinstance(value, int)
            low = max(1, value // factor) if integer else value / factor
            space[name] = _range(low, value * factor, log=True)
    requested = parse_assignments(assignments, "--space", "key=SPEC")
    for name, text in requested.items():
        if name in fixed:
            raise UsageError(f"--space {name}: --set fixes it. Give one of the two.")
        space[name] = _parse_spec(config, name, text)
    if not space:
        raise UsageError("--space: all settings are fixed, none is left to search.")
    for corner in itertools.product(*(_ends(spec) for spec in space.values())):
        _try_settings(config, dict(zip(space, corner)))
    return space


def with_settings(config: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    """Returns the configuration with some values replaced.

    Raises:
      UsageError: If they are invalid.
    """
    return make_config(type(config), {**dict(config), **values})


def describe(spec: "optuna.distributions.BaseDistribution") -> str:
    """Formats a range or choices as `--space` takes them."""
    import optuna

    if isinstance(spec, optuna.distributions.CategoricalDistribution):
        return ",".join(str(choice) for choice in spec.choices)
    low, high = _ends(spec)
    log = ":log" if getattr(spec, "log", False) else ""
    return f"{low}:{high}{log}"


def _parse_spec(config: TrainConfig, name: str, text: str):
    """The distribution that a SPEC stands for."""
    from optuna import distributions

    if "," in text:
        choices = [_parse_value(config, name, part) for part in text.split(",")]
        if len(set(choices)) < len(choices):
            raise UsageError(f"--space {name}: a choice comes twice in {text!r}.")
        return distributions.CategoricalDistribution(choices)
    parts = text.split(":")
    log = parts[2:] == ["log"]
    if len(parts) != 2 + log:
        _parse_value(config, name, getattr(config, name, ""))  # refuses unknown names
        raise UsageError(
            f"--space {name}: expected LOW:HIGH, LOW:HIGH:log or choices A,B. "
            f"Received: {text!r}."
        )
    low, high = (_parse_value(config, name, part) for part in parts[:2])
    if isinstance(low, bool) or not isinstance(low, int | float):
        raise UsageError(f"--space {name}: is not a number; give choices A,B.")
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise UsageError(
            f"--space {name}: expected finite bounds, the lower first. "
            f"Received: {text!r}."
        )
    if log and low <= 0:
        raise UsageError(
            f"--space {name}: a log scale must begin above 0. Received: {text!r}."
        )
    return _range(low, high, log=log)


def _range(low: float, high: float, *, log: bool):
    """Integers between integers, else floats."""
    from optuna import distributions

    if isinstance(low, int):
        return distributions.IntDistribution(low, int(high), log=log)
    return distributions.FloatDistribution(low, high, log=log)


def _parse_value(config: TrainConfig, name: str, text: Any) -> Any:
    """A bound or a choice, of the setting's type."""
    value = getattr(_try_settings(config, {name: text}), name)
    if not isinstance(value, bool | int | float | str | None):
        raise UsageError(f"--space {name}: only numbers and names can be searched.")
    return value


def _try_settings(config: ConfigT, values: Mapping[str, Any]) -> ConfigT:
    try:
        return with_settings(config, values)
    except UsageError as error:
        raise UsageError(f"--space: {error}") from None


def _ends(spec: Any) -> tuple[Any, ...]:
    """All choices, or both bounds."""
    return getattr(spec, "choices", None) or (spec.low, spec.high)
