"""Which settings a run keeps, and which may be others when it goes on."""

import pathlib
from collections.abc import Mapping
from typing import Any, get_args

from trainers.config.train_config import TrainConfig, make_config
from trainers.errors import UsageError

#: Settings that may be others when a run goes on.
MAY_CHANGE = (
    "epochs",
    "data_dir",
    "evaluate_every",
    "execution",
    "strategy",
    "devices",
    "tpu",
    "wait_minutes",
    "threads",
    "checkpoint_steps",
    "checkpoint_minutes",
    "monitor",
    "monitor_mode",
    "patience",
    "tensorboard_graph",
    "wandb",
    "mlflow",
)


def settings_of(recipe_name: str, config: TrainConfig) -> dict[str, Any]:
    """As config.json has them."""
    return {"recipe": recipe_name, **config.model_dump(mode="json")}


def check_same_run(
    path: pathlib.Path, there: Mapping[str, Any], recipe_name: str, config: TrainConfig
) -> None:
    """Raises a UsageError that names a setting in which the run in `path` differs.

    A run of an earlier version has the defaults of settings added since.
    """
    asked = settings_of(recipe_name, config)
    there = {**settings_of(recipe_name, make_config(type(config), {})), **there}
    for field in sorted((asked.keys() | there.keys()) - _may_change(config)):
        if asked.get(field) != there.get(field):
            raise UsageError(
                f"--out: {path} is a run with {field}={there.get(field)!r}, not "
                f"{asked.get(field)!r}. Choose another folder, or the settings of this "
                "one."
            )


def _may_change(config: TrainConfig) -> set[str]:
    """With the paths of what a `data_set` was made of: its name says what they had."""
    named = bool(getattr(config, "data_set", None))
    return {*MAY_CHANGE, *(path_settings(type(config)) if named else [])}


def path_settings(config_class: type[TrainConfig]) -> list[str]:
    """Names of the settings that are declared as paths, whatever their values."""
    return [
        name
        for name, field in config_class.model_fields.items()
        if pathlib.Path in _types(field.annotation)
    ]


def _types(annotation: Any) -> list[Any]:
    """What an annotation names, also within `X | None` and `Annotated[X, ...]`."""
    return [annotation, *(t for x in get_args(annotation) for t in _types(x))]
