"""Configurations as files: read for `--config`, printed by `--print-config`."""

import math
import os
import textwrap
from collections.abc import Iterable
from typing import Any

import yaml

from trainers.config.train_config import TrainConfig
from trainers.errors import UsageError


def read_config_file(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Fields and values of a file; values are texts, or lists of texts.

    Raises:
      UsageError: If it can't be read, is no YAML, or holds no fields.
    """
    try:
        with open(file, "rb") as content:
            values = yaml.load(content, _Texts)
    except OSError as error:
        raise UsageError(f"--config: can't read {file}: {error.strerror}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise UsageError(f"--config: {file} is not YAML: {what}") from None
    if not isinstance(values, dict) or not all(isinstance(x, str) for x in values):
        raise UsageError(
            f"--config: {file} must hold lines `field: value`. `mopoe-train RECIPE "
            "--print-config` prints such a file."
        )
    return values


class _Texts(yaml.BaseLoader):
    """Every value is a text, as in `--set`: fields know what they expect.

    YAML itself would read 2e-3 as a text, no as a boolean and 010 as 8. It makes
    nothing but texts, lists and dictionaries.
    """

    def construct_mapping(self, node, deep=False):
        """A dictionary without a key that comes twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} comes twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node):
        """A text; JSON writes some characters as two halves."""
        text = super().construct_scalar(node)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def format_config(name: str, config: TrainConfig, recipes: Iterable[str]) -> str:
    """Formats every field, its value and its meaning as YAML that `--config` takes.

    Args:
      name: Name of the recipe.
      config: Configuration of the recipe.
      recipes: Names of all recipes.
    """
    values = config.model_dump(mode="json")
    parts = [_entry("recipe", name, f"One of {', '.join(recipes)}.")]
    parts += [_entry(key, values[key], config.help_of(key)) for key in values]
    return "\n".join(parts)


def _entry(field: str, value: Any, meaning: str) -> str:
    comment = textwrap.fill(meaning, 88, initial_indent="# ", subsequent_indent="# ")
    line = yaml.safe_dump({field: value}, allow_unicode=True, width=math.inf)
    return f"{comment}\n{line}"
