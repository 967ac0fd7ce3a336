"""Configurations as files: read for `--config`, printed by `--print-config`."""

import inspect
import math
import os
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from trainers.config import SettingError, TrainConfig, make_config
from trainers.errors import UsageError
from trainers.recipe import Recipe
from trainers.recipes import RECIPES, get_recipe


class Chosen(NamedTuple):
    """A recipe and its configuration."""

    name: str
    recipe: Recipe
    config: TrainConfig


def choose(
    recipe_name: str | None, file: str | None, settings: Mapping[str, str]
) -> Chosen:
    """The configuration: a recipe's defaults, then the file, then `settings`.

    Args:
      recipe_name: May be None if the file names the recipe.
      file: Of YAML or JSON, or None.
      settings: Of the command line.

    Raises:
      UsageError: In one line that names the field, and the file if it is from there.
    """
    values = read_config_file(file) if file is not None else {}
    named = values.pop("recipe", None)
    if recipe_name is None and named is None:
        where = f"{file}: expected a line `recipe: NAME`" if file else "expected RECIPE"
        raise UsageError(f"{where}. Recipes: {', '.join(RECIPES)}.")
    if recipe_name is not None and named not in (None, recipe_name):
        raise UsageError(
            f"{file}: recipe: is {named!r}, while the command line says "
            f"{recipe_name!r}. Give one of them only."
        )
    name = str(named) if recipe_name is None else recipe_name
    try:
        recipe = get_recipe(name)
    except UsageError as error:
        if recipe_name is None:
            raise UsageError(f"{file}: {error}") from None
        raise
    try:
        config = make_config(recipe.config_class, {**values, **settings})
    except SettingError as error:
        if error.field in values and error.field not in settings:
            raise UsageError(f"{file}: {error}") from None
        raise
    return Chosen(name, recipe, config)


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


def format_config(name: str, config: TrainConfig) -> str:
    """YAML that `--config` takes: every field, its value and its meaning."""
    values = config.model_dump(mode="json")
    parts = [_entry("recipe", name, f"One of {', '.join(RECIPES)}.")]
    parts += [_entry(key, values[key], config.help_of(key)) for key in values]
    return "\n".join(parts)


def _entry(field: str, value: Any, meaning: str) -> str:
    comment = textwrap.fill(meaning, 88, initial_indent="# ", subsequent_indent="# ")
    line = yaml.safe_dump({field: value}, allow_unicode=True, width=math.inf)
    return f"{comment}\n{line}"


def list_recipes() -> str:
    """The recipes, a line each: the first one of their modules."""
    width = max(map(len, RECIPES))
    lines = []
    for name, recipe in RECIPES.items():
        about = inspect.getdoc(sys.modules[recipe.config_class.__module__]) or ""
        lines.append(f"  {name:{width}}  {about.partition(chr(10))[0]}")
    return "\n".join(lines)
