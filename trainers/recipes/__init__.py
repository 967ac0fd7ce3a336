"""The recipes, by name."""

from trainers.errors import UsageError, one_of
from trainers.recipe import Recipe
from trainers.recipes import polydigits

RECIPES: dict[str, Recipe] = {"polydigits": polydigits.RECIPE}


def get_recipe(name: str) -> Recipe:
    """Looks a recipe up.

    Raises:
      UsageError: If there is none of that name.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}. {one_of(RECIPES, name)}")
    return RECIPES[name]
