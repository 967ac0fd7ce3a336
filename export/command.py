"""`mopoe-export`: publishes a trained run for TensorFlow Serving."""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from export.errors import ExportError, UsageError


class ArgumentParser(argparse.ArgumentParser):
    """Exits with code 2 and one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="mopoe-export",
        usage="mopoe-export RUN SERVING_DIR | mopoe-export --verify VERSION_DIR",
        description="Publish RUN's model as SERVING_DIR/<model name>/<version>/.",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="the run's folder")
    parser.add_argument(
        "serving_dir", metavar="SERVING_DIR", nargs="?", help="where models are served"
    )
    parser.add_argument(
        "--verify", metavar="VERSION_DIR", help="check a version that is there"
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Exports or verifies, and prints what was done."""
    if options.verify is not None:
        if options.run is not None:
            raise UsageError("--verify takes a version's folder and nothing else.")
        if not pathlib.Path(options.verify, "saved_model.pb").is_file():
            raise UsageError(f"--verify: {options.verify} holds no SavedModel.")
        from export.publish import verify

        print(f"{options.verify}: {verify(options.verify)}")
        return
    if options.serving_dir is None:
        raise UsageError("RUN and SERVING_DIR are required.")
    if not pathlib.Path(options.run, "model.keras").is_file():
        raise UsageError(
            f"RUN: {options.run} has no model.keras. Train with mopoe-train first."
        )
    from export.publish import load_run, publish, verify

    version = publish(load_run(options.run), options.serving_dir)
    print(f"Published {version}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = make_parser().parse_args(arguments)
    try:
        run(options)
    except UsageError as error:
        print(f"mopoe-export: error: {error}", file=sys.stderr)
        return 2
    except (ExportError, OSError) as error:
        print(f"mopoe-export: failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
