"""`mopoe-export`: publishes a trained model for TensorFlow Serving."""

import argparse
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from export.errors import ExportError, UsageError
from export.signatures.contract import MAX_SAMPLES, NUM_SAMPLES
from export.signatures.loading import load_run
from export.signatures.whole_numbers import check_whole

#: Signals after which nothing is left behind, besides Ctrl-C.
STOPPING = (signal.SIGTERM, signal.SIGHUP)
#: Options of `export.publication.publish.publish`.
SERVING_OPTIONS = ("keep", "image_bytes", "text_strings", "num_samples")


class ArgumentParser(argparse.ArgumentParser):
    """Exits with code 2 and one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and exits."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="mopoe-export",
        usage="mopoe-export RUN SERVING_DIR [options] | "
        "mopoe-export RUN OUT --format {litert,onnx} | "
        "mopoe-export --verify VERSION_DIR",
        description="Publish a model as SERVING_DIR/<model name>/<version>/, or write "
        "its networks into OUT for another runtime. RUN is a run's folder, or a file "
        "that model.save('model.keras') wrote.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", help="a run's folder, or a .keras file")
    add("serving_dir", metavar="SERVING_DIR", nargs="?", help="folder of served models")
    add("--keep", metavar="N", type=_count(), help="keep only the N newest versions")
    add(
        "--image-bytes",
        metavar="MODALITY",
        nargs="+",
        help="images that requests send as JPEG or PNG files, as <modality>_bytes",
    )
    add(
        "--text-strings",
        metavar="MODALITY",
        nargs="+",
        help="texts that requests send as strings",
    )
    add(
        "--num-samples",
        metavar="K",
        type=_count(MAX_SAMPLES),
        help=f"importance samples of log_likelihood (default: {NUM_SAMPLES})",
    )
    add(
        "--format",
        choices=["litert", "onnx"],
        help="write encoder and decoders for another runtime into a new folder OUT",
    )
    add("--verify", metavar="VERSION_DIR", help="check a published version")
    return parser


def _count(maximum: int | None = None) -> Callable[[str], int]:
    """A reader of integers from 1 to `maximum`."""
    limit = "from 1" if maximum is None else f"from 1 to {maximum}"

    def read(text: str) -> int:
        try:
            return check_whole("number", int(text), minimum=1, maximum=maximum)
        except ValueError:
            message = f"must be a whole number {limit}, not {text[:40]!r}"
            raise argparse.ArgumentTypeError(message) from None

    return read


def run(options: argparse.Namespace) -> None:
    """Exports or verifies, and prints the result."""
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
        from export.verification.verify import verify

        print(f"{options.verify}: {verify(options.verify)}")
        return
    if not options.serving_dir:
        raise UsageError("RUN and SERVING_DIR are required, before the options.")
    if options.format is not None and chosen:
        field = next(iter(chosen)).replace("_", "-")
        raise UsageError(f"--{field} can't be used with --format.")
    model = load_run(options.run)
    if options.format is None:
        from export.publication.publish import publish

        print(f"Published {publish(model, options.serving_dir, **chosen)}")
        return
    from export.portable import write_portable

    print(f"Wrote {write_portable(model, options.serving_dir, options.format)}")


def _stop(*_) -> NoReturn:
    raise ExportError("stopped by a signal.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code.

    Example:
        main(["runs/polydigits", "serving", "--keep", "3"])
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = make_parser().parse_args(arguments)
    before = {kind: signal.signal(kind, _stop) for kind in STOPPING}
    try:
        run(options)
    except UsageError as error:
        print(f"mopoe-export: error: {error}", file=sys.stderr)
        return 2
    except (ExportError, OSError, KeyboardInterrupt) as error:
        message = error if str(error) else "interrupted."
        print(f"mopoe-export: failed: {message}", file=sys.stderr)
        return 1
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    return 0


if __name__ == "__main__":
    sys.exit(main())
