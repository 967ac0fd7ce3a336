"""`mopoe-export`: publishes a trained run for TensorFlow Serving."""

import argparse
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from export.errors import ExportError, UsageError

#: Signals at which nothing is left behind, Ctrl-C beside them.
STOPPING = (signal.SIGTERM, signal.SIGHUP)
#: Of `export.publish.publish`.
SERVING_OPTIONS = ("keep", "image_bytes", "text_strings", "num_samples")


class ArgumentParser(argparse.ArgumentParser):
    """Exits with code 2 and one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="mopoe-export",
        usage="mopoe-export RUN SERVING_DIR [options] | "
        "mopoe-export RUN OUT --format {litert,onnx} | "
        "mopoe-export --verify VERSION_DIR",
        description="Publish RUN's model as SERVING_DIR/<model name>/<version>/, "
        "or write its networks into OUT for another runtime.",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="the run's folder")
    parser.add_argument(
        "serving_dir", metavar="SERVING_DIR", nargs="?", help="where models are served"
    )
    parser.add_argument(
        "--keep", metavar="N", type=_count, help="delete all but the N newest versions"
    )
    parser.add_argument(
        "--image-bytes",
        metavar="MODALITY",
        nargs="+",
        help="images that requests send as JPEG or PNG files, as <modality>_bytes",
    )
    parser.add_argument(
        "--text-strings",
        metavar="MODALITY",
        nargs="+",
        help="texts that requests send as strings",
    )
    parser.add_argument(
        "--num-samples",
        metavar="K",
        type=_count,
        help="importance samples of log_likelihood (default: 100)",
    )
    parser.add_argument(
        "--format",
        choices=["litert", "onnx"],
        help="write encoder and decoders for another runtime into a new folder OUT",
    )
    parser.add_argument(
        "--verify", metavar="VERSION_DIR", help="check a version that is there"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def run(options: argparse.Namespace) -> None:
    """Exports or verifies, and prints what was done."""
    chosen = {
        field: getattr(options, field)
        for field in SERVING_OPTIONS
        if getattr(options, field) is not None
    }
    if options.verify is not None:
        if options.run is not None or options.format is not None or chosen:
            raise UsageError("--verify takes a version's folder and nothing else.")
        if not pathlib.Path(options.verify, "saved_model.pb").is_file():
            raise UsageError(f"--verify: {options.verify} holds no SavedModel.")
        from export.publish import verify

        print(f"{options.verify}: {verify(options.verify)}")
        return
    if not options.serving_dir:
        raise UsageError("RUN and SERVING_DIR are required, before the options.")
    if options.format is not None and chosen:
        field = next(iter(chosen)).replace("_", "-")
        raise UsageError(f"--{field} is of no use with --format.")
    if not pathlib.Path(options.run, "model.keras").is_file():
        raise UsageError(
            f"RUN: {options.run} has no model.keras. Train with mopoe-train first."
        )
    from export.publish import load_run, publish

    model = load_run(options.run)
    if options.format is None:
        print(f"Published {publish(model, options.serving_dir, **chosen)}")
        return
    from export.portable import write_portable

    print(f"Wrote {write_portable(model, options.serving_dir, options.format)}")


def _stop(*_) -> NoReturn:
    raise ExportError("stopped by a signal.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = make_parser().parse_args(arguments)
    before = {kind: signal.signal(kind, _stop) for kind in STOPPING}
    try:
        run(options)
    except UsageError as error:
        print(f"mopoe-export: error: {error}", file=sys.stderr)
        return 2
    except (ExportError, OSError, KeyboardInterrupt) as error:
        said = error if str(error) else "interrupted."
        print(f"mopoe-export: failed: {said}", file=sys.stderr)
        return 1
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    return 0


if __name__ == "__main__":
    sys.exit(main())
