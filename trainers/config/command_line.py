"""argparse, with wrong usage answered in one line; what commands have in common."""

import argparse
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """Exits with code 2 and one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def recipe_parser(program: str, description: str, epilog: str) -> ArgumentParser:
    """A parser of what chooses a recipe and its settings."""
    parser = ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        nargs="?",
        help="name of a recipe; not needed where FILE names it",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="settings, YAML or a run's config.json"
    )
    parser.add_argument(
        "--epochs", metavar="N", help="number of epochs in all (of each trial)"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="key=value",
        nargs="+",
        action="extend",
        default=[],
        help="override settings; `none` where there shall be none",
    )
    return parser
