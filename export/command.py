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

#: Signals at which nothing is left behind, Ctrl-C beside them.
STOPPING = (signal.SIGTERM, signal.SIGHUP)
#: Of `export.publication.publish.publish`.
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
        description="Publish a model as SERVING_DIR/<model name>/<version>/, or write "
        "its networks into OUT for another runtime. RUN is a run's folder, or a file "
        "that model.save('model.keras') wrote.",
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="a run's folder, or a .keras file"
    )
    parser.add_argument(
        "serving_dir", metavar="SERVING_DIR", nargs="?", help="where models are served"
    )
    parser.add_argument(
        "--keep",
        metavar="N",
        type=_count(),
        help="delete all but the N newest versions",
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
        type=_count(MAX_SAMPLES),
        help=f"importance samples of log_likelihood (default: {NUM_SAMPLES})",
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


def _count(most: int | None = None) -> Callable[[str], int]:
    """Reads a whole number from 1 to `most`."""
    limit = "from 1" if most is None else f"from 1 to {most}"

    def read(text: str) -> int:
        try:
            return check_whole("number", int(text), least=1, most=most)
        except ValueError:
            message = f"must be a whole number {limit}, not {text[:40]!r}"
            raise argparse.ArgumentTypeError(message) from None

    return read


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
        from export.publication.publish import verify

        print(f"{options.verify}: {verify(options.verify)}")
        return
    if not options.serving_dir:
        raise UsageError("RUN and SERVING_DIR are required, before the options.")
    if options.format is not None and chosen:
        field = next(iter(chosen)).replace("_", "-")
        raise UsageError(f"--{field} is of no use with --format.")
    model = load_run(options.run)
    from export.publication.publish import publish

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
