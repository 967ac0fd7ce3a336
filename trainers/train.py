"""`mopoe-train`: trains a recipe into a run folder, or resumes a run."""

import argparse
import os
import sys
from collections.abc import Sequence

from trainers.config.command_line import (
    ArgumentParser,
    integer_from,
    parse_settings,
    recipe_parser,
)
from trainers.config.config_file import format_config
from trainers.config.train_config import TrainConfig
from trainers.errors import UsageError, run_command
from trainers.fitting.local_workers import run_workers
from trainers.fitting.loggers import check_packages
from trainers.fitting.train_run import train
from trainers.recipes.registry import RECIPES, choose_recipe, list_recipes

DESCRIPTION = """\
Train a recipe into a run folder. After any interruption, run the same command again to
resume; with more epochs it trains longer.
"""

EPILOG = f"""\
recipes:
{list_recipes()}

settings, by precedence: --set and --epochs, --config, the recipe's defaults.
  mopoe-train RECIPE --print-config    prints all of them, with what they mean

examples:
  mopoe-train polydigits --out runs/first
  mopoe-train polydigits --out runs/small --epochs 4 --set latent_dim=16 patience=none
  mopoe-train polydigits --print-config > my.yaml
  mopoe-train --config my.yaml --out runs/mine
  mopoe-train --config runs/first/config.json --out runs/again --set seed=1

exit codes:
  0   done
  1   failed
  2   wrong usage or settings; nothing was written
  75  stopped by SIGTERM or SIGINT after a checkpoint; the same command resumes
"""


def make_parser() -> ArgumentParser:
    """Makes the parser of the command line."""
    parser = recipe_parser("mopoe-train", DESCRIPTION, EPILOG)
    parser.add_argument("--out", metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--local-workers",
        metavar="N",
        type=integer_from(2),
        help="train with N processes on this machine's CPUs, as N hosts would",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print all settings as YAML for --config, and exit",
    )
    return parser


def worker_arguments(
    name: str, config: TrainConfig, options: argparse.Namespace
) -> list[str]:
    """Returns the command line of each of several workers.

    Args:
      name: Name of the recipe.
      config: Configuration of the recipe.
      options: Parsed command line.

    Raises:
      UsageError: If the configuration has another strategy.
    """
    if config.strategy not in ("one_device", "multi_worker"):
        raise UsageError(
            "--local-workers: trains with strategy=multi_worker. Received: strategy="
            f"{config.strategy}."
        )
    file = ["--config", options.config] if options.config else []
    epochs = ["--epochs", options.epochs] if options.epochs else []
    settings = [x for x in options.settings if not x.startswith("strategy=")]
    return [
        *(name, "--out", options.out, *file, *epochs),
        *("--set", *settings, "strategy=multi_worker"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.out is None and not options.print_config:
        parser.error("the following arguments are required: --out")

    def command():
        settings = parse_settings(options)
        name, recipe, config = choose_recipe(options.recipe, options.config, settings)
        if options.print_config:
            print(format_config(name, config, RECIPES), end="")
            return
        check_packages(config)
        if options.local_workers is None:
            train(name, recipe, config, options.out)
        else:
            run_workers(options.local_workers, worker_arguments(name, config, options))

    return run_command("mopoe-train", command)


if __name__ == "__main__":
    sys.exit(main())
