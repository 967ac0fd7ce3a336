"""The recipes, by name."""

from trainers.errors import UsageError, one_of
from trainers.recipe import Recipe
from trainers.recipes import celeba, mnist_svhn_text, polydigits, polymnist

RECIPES: dict[str, Recipe] = {
    "celeba": celeba.RECIPE,
    "mnist_svhn_text": mnist_svhn_text.RECIPE,
    "polydigits": polydigits.RECIPE,
    "polymnist": polymnist.RECIPE,
}


def get_recipe(name: str) -> Recipe:
    """Looks a recipe up.

    Raises:
      UsageError: If there is none of that name.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}. {one_of(RECIPES, name)}")
    return RECIPES[name]
