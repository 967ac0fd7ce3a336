"""Command lines: an argparse parser with one-line errors, and `key=value` settings."""

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from trainers.errors import UsageError


class ArgumentParser(argparse.ArgumentParser):
    """Exits with code 2 and one line, without printing the usage first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def integer_from(least: int) -> Callable[[str], int]:
    """Returns a parser of integers from `least` to 2^31 - 1."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(
                f"expected an integer from {least} to 2^31 - 1, not {text!r}"
            )
        return int(text)

    return parse


def recipe_parser(program: str, description: str, epilog: str) -> ArgumentParser:
    """Makes a parser with the arguments that choose a recipe and its settings."""
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
        help="name of a recipe; may be omitted if FILE names it",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="settings: YAML, or a run's config.json"
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
        help="override settings; use `none` to unset",
    )
    return parser


def parse_settings(options: argparse.Namespace) -> dict[str, str]:
    """Returns the settings that `--set` and `--epochs` give.

    Raises:
      UsageError: If a text is no `key=value`, or a setting is given twice.
    """
    settings = parse_assignments(options.settings)
    if options.epochs is not None:
        if "epochs" in settings:
            raise UsageError("epochs: given by --epochs and by --set. Give it once.")
        settings["epochs"] = options.epochs
    return settings


def parse_assignments(
    assignments: Sequence[str], option: str = "--set", form: str = "key=value"
) -> dict[str, str]:
    """Splits the `key=value` texts of an option.

    Raises:
      UsageError: If a text has no `=`, or a key is given twice.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} expects {form}. Received: {assignment!r}.")
        if key in values:
            raise UsageError(f"{option} gives {key!r} twice.")
        values[key] = value
    return values
