"""`mopoe-train`: trains a recipe into a run folder, and goes on where it stopped."""

import argparse
import os
import sys
from collections.abc import Sequence

from trainers.command_line import ArgumentParser
from trainers.config import make_config, parse_assignments
from trainers.errors import run_command
from trainers.recipes import RECIPES, get_recipe
from trainers.training import train


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="mopoe-train",
        description="Train a recipe into a run folder. The same command resumes.",
        epilog=f"Recipes: {', '.join(RECIPES)}. Exit codes: 0 done, 1 failed, 2 usage.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="name of a recipe")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    parser.add_argument("--epochs", metavar="N", help="number of epochs in all")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="key=value",
        nargs="+",
        action="extend",
        default=[],
        help="override settings of the recipe",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options: argparse.Namespace = make_parser().parse_args(arguments)

    def command():
        settings = parse_assignments(options.settings)
        if options.epochs is not None:
            settings["epochs"] = options.epochs
        recipe = get_recipe(options.recipe)
        config = make_config(recipe.config_class, settings)
        train(options.recipe, recipe, config, options.out)

    return run_command("mopoe-train", command)


if __name__ == "__main__":
    sys.exit(main())
