"""The recipes by name, and how a command chooses one of them."""

import inspect
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from trainers.config.config_file import read_config_file
from trainers.config.train_config import SettingError, TrainConfig, make_config
from trainers.errors import UsageError, one_of
from trainers.recipes import celeba, mnist_svhn_text, polydigits, polymnist
from trainers.recipes.recipe import Recipe

#: To add a recipe, add a line.
RECIPES: dict[str, Recipe] = {
    "celeba": celeba.RECIPE,
    "mnist_svhn_text": mnist_svhn_text.RECIPE,
    "polydigits": polydigits.RECIPE,
    "polymnist": polymnist.RECIPE,
}


class RecipeChoice(NamedTuple):
    """A recipe and its configuration."""

    name: str
    recipe: Recipe
    config: TrainConfig


def get_recipe(name: str) -> Recipe:
    """Returns the recipe of that name.

    Raises:
      UsageError: If there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}. {one_of(RECIPES, name)}")
    return RECIPES[name]


def choose_recipe(
    recipe_name: str | None, file: str | None, settings: Mapping[str, str]
) -> RecipeChoice:
    """Combines a recipe's defaults, a file and `settings`; later ones win.

    Args:
      recipe_name: Name of the recipe; None if the file names it.
      file: Path of a YAML or JSON file, or None.
      settings: Settings of the command line.

    Raises:
      UsageError: In one line that names the field, and the file if it is to blame.
    """
    values = read_config_file(file) if file is not None else {}
    name_in_file = values.pop("recipe", None)
    if recipe_name is None and name_in_file is None:
        where = f"{file}: expected a line `recipe: NAME`" if file else "expected RECIPE"
        raise UsageError(f"{where}. Recipes: {', '.join(RECIPES)}.")
    if recipe_name is not None and name_in_file not in (None, recipe_name):
        raise UsageError(
            f"{file}: recipe: is {name_in_file!r}, but the command line names "
            f"{recipe_name!r}. Give one of them only."
        )
    name = str(name_in_file) if recipe_name is None else recipe_name
    try:
        recipe = get_recipe(name)
        config = make_config(recipe.config_class, {**values, **settings})
    except UsageError as error:
        if isinstance(error, SettingError):
            from_file = error.field in values and error.field not in settings
        else:
            from_file = recipe_name is None
        raise UsageError(f"{file}: {error}" if from_file else str(error)) from None
    return RecipeChoice(name, recipe, config)


def recipe_of_settings(settings: Mapping[str, Any]) -> RecipeChoice:
    """The recipe and configuration that a run's config.json holds.

    Raises:
      UsageError: If the recipe is unknown or a setting is invalid.
    """
    values = dict(settings)
    name = str(values.pop("recipe", ""))
    recipe = get_recipe(name)
    return RecipeChoice(name, recipe, make_config(recipe.config_class, values))


def list_recipes() -> str:
    """One line a recipe: its name and the first line of its module."""
    width = max(map(len, RECIPES))
    lines = []
    for name, recipe in RECIPES.items():
        header = inspect.getdoc(sys.modules[recipe.config_class.__module__]) or ""
        lines.append(f"  {name:{width}}  {header.splitlines()[0]}")
    return "\n".join(lines)
