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
    """Returns the fields and values of a file; values are texts, or lists of texts.

    Raises:
      UsageError: If the file can't be read, is not YAML, or holds no fields.
    """
    try:
        with open(file, "rb") as content:
            values = yaml.load(content, _TextLoader)
    except OSError as error:
        raise UsageError(f"--config: can't read {file}: {error.strerror}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config: {file} is not YAML: {reason}") from None
    if not isinstance(values, dict) or not all(isinstance(x, str) for x in values):
        raise UsageError(
            f"--config: {file} must hold lines `field: value`. `mopoe-train RECIPE "
            "--print-config` prints such a file."
        )
    return values


class _TextLoader(yaml.BaseLoader):
    """Loads every value as a text, as `--set` gives it; the fields parse it.

    YAML's own types would make 2e-3 a text, no a boolean and 010 an 8.
    """

    def construct_mapping(self, node, deep=False):
        """Refuses keys that come twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} comes twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node):
        """Joins surrogate pairs, which JSON's escapes of some characters are."""
        text = super().construct_scalar(node)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def format_config(name: str, config: TrainConfig, recipes: Iterable[str]) -> str:
    """Formats every field, its value and its meaning as YAML for `--config`.

    Args:
      name: Name of the recipe.
      config: Configuration of the recipe.
      recipes: Names of all recipes.
    """

    def entry(field: str, value: Any, meaning: str) -> str:
        comment = textwrap.fill(
            meaning, 88, initial_indent="# ", subsequent_indent="# "
        )
        line = yaml.safe_dump({field: value}, allow_unicode=True, width=math.inf)
        return f"{comment}\n{line}"

    values = config.model_dump(mode="json")
    parts = [entry("recipe", name, f"One of {', '.join(recipes)}.")]
    parts += [entry(key, value, config.help_of(key)) for key, value in values.items()]
    return "\n".join(parts)
