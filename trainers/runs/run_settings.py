"""Which settings a run keeps, and which a resumed run may change."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any, get_args

from trainers.config.train_config import TrainConfig, make_config
from trainers.errors import UsageError

#: Settings that a resumed run may change.
MAY_CHANGE = (
    *("epochs", "data_dir", "evaluate_every", "execution", "strategy", "devices"),
    *("tpu", "wait_minutes", "threads", "checkpoint_steps", "checkpoint_minutes"),
    *("monitor", "monitor_mode", "patience", "tensorboard_graph", "wandb", "mlflow"),
)


def to_settings(recipe_name: str, config: TrainConfig) -> dict[str, Any]:
    """Returns the content of config.json."""
    return {"recipe": recipe_name, **config.model_dump(mode="json")}


def check_same_run(
    path: pathlib.Path, settings: Mapping[str, Any], recipe_name: str, config: Any
) -> None:
    """Checks that the run in `path`, with these `settings`, may resume with `config`.

    Settings that config.json lacks have their defaults.

    Raises:
      UsageError: If another setting than those of `MAY_CHANGE`, or of the sources of a
        named data set, differs.
    """
    requested = to_settings(recipe_name, config)
    defaults = to_settings(recipe_name, make_config(type(config), {}))
    existing = {**defaults, **settings}
    may_change = set(MAY_CHANGE)
    if getattr(config, "data_set", None):  # whose name depends on its sources
        may_change.update(path_settings(type(config)))
    check_equal(f"{path} is a run", existing, requested, ignore=may_change)


def check_equal(
    what: str,
    existing: Mapping[str, Any],
    requested: Mapping[str, Any],
    *,
    ignore: Collection[str] = (),
) -> None:
    """Raises a UsageError that names the first setting which differs."""
    for field in sorted((requested.keys() | existing.keys()) - set(ignore)):
        if requested.get(field) != existing.get(field):
            raise UsageError(
                f"--out: {what} with {field}={existing.get(field)!r}, not "
                f"{requested.get(field)!r}. Choose another folder, or these settings."
            )


def path_settings(config_class: type[TrainConfig]) -> list[str]:
    """Names of the settings that are declared as paths, whatever their values."""

    def types_in(annotation: Any) -> list[Any]:  # also in X | None and Annotated
        return [annotation, *(t for x in get_args(annotation) for t in types_in(x))]

    fields = config_class.model_fields.items()
    return [name for name, x in fields if pathlib.Path in types_in(x.annotation)]
