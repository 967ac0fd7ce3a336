"""`mopoe-evaluate`: measures trained runs on their test split, and reports."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from trainers.config.command_line import ArgumentParser, integer_from
from trainers.errors import UsageError, run_command
from trainers.evaluation.context import Options
from trainers.evaluation.measure_run import (
    DEFAULT_METRICS,
    compare_runs,
    measure_run,
    summarize,
)
from trainers.evaluation.measures import MEASURES, ON_REQUEST
from trainers.recipes.registry import recipe_of_settings
from trainers.runs.run_folder import RunFolder

#: Options that only some metrics use, and these metrics.
USED_BY = {
    "num_samples": {
        *("joint_coherence", "log_likelihood", "log_likelihood_published"),
        "sample_quality",
    },
    "num_train": {"linear_probe"},
    "features": {"sample_quality"},
}


def make_parser() -> ArgumentParser:
    """Makes the parser of the command line."""
    parser = ArgumentParser(
        prog="mopoe-evaluate",
        description="Measure runs: writes RUN/evaluation.json, RUN/report.html and "
        "RUN/figures/*.png. Earlier measurements of the same model are kept.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage.",
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="folders that mopoe-train wrote"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=tuple(MEASURES),
        metavar="NAME",
        help=f"metrics to measure: {', '.join(MEASURES)}; default: all but "
        f"{', '.join(ON_REQUEST)}",
    )
    parser.add_argument(
        "--rows",
        type=integer_from(1),
        metavar="N",
        help="number of rows of the test split, the first ones; default: all, but 50 "
        "for log-likelihoods and calibration",
    )
    parser.add_argument(
        "--num-samples",
        type=integer_from(1),
        metavar="K",
        help="draws of a log-likelihood, and draws from the prior (default: 1000)",
    )
    parser.add_argument(
        "--num-train",
        type=lambda text: 0 if text == "all" else integer_from(1)(text),
        metavar="N",
        help="training rows of a linear probe, or 'all' (default: 500)",
    )
    parser.add_argument(
        "--seed",
        type=integer_from(0),
        default=0,
        metavar="N",
        help="seed of all draws (default: 0)",
    )
    parser.add_argument(
        "--features",
        metavar="FILE",
        help="a Keras model from images in [0, 1] to features, for sample quality; "
        "default: the run's classifiers",
    )
    parser.add_argument(
        "--compare",
        metavar="FILE",
        nargs="?",
        const="comparison.html",
        help="also write a page with all runs side by side (default: comparison.html)",
    )
    return parser


def _make_options(arguments: argparse.Namespace) -> Options:
    """Collects the options of the command line.

    Raises:
      UsageError: If an option has no effect on any of the metrics.
    """
    names = arguments.metrics or DEFAULT_METRICS
    for field, metrics in USED_BY.items():
        if getattr(arguments, field) is not None and not metrics & set(names):
            raise UsageError(
                f"--{field.replace('_', '-')} has no effect with --metrics "
                f"{' '.join(names)}: it is for {', '.join(sorted(metrics))}."
            )
    chosen: dict[str, Any] = {"seed": arguments.seed}
    for field in ("rows", "num_samples", "num_train", "features"):
        if (value := getattr(arguments, field)) is not None:
            chosen[field] = value or None  # 0: all
    return Options(**chosen)


def evaluate(arguments: argparse.Namespace) -> None:
    """Measures and compares what the command line names.

    Raises:
      UsageError: If an option or a run is invalid.
      RunError: If a measure fails; those before it are kept.
    """
    options = _make_options(arguments)
    runs = list({os.path.realpath(run): run for run in arguments.runs}.values())
    for run in map(RunFolder, runs):  # all, before the first is measured
        recipe_of_settings(run.read_settings())
        run.check_model()
    if arguments.compare:
        compare_runs(runs, arguments.metrics, options, arguments.compare)
        print(f"report  {arguments.compare}")
        return
    for run in map(RunFolder, runs):
        report = measure_run(run.path, arguments.metrics, options)
        print(summarize(report))
        for name in report.get("figures", {}).get("files", ()):
            print(f"figure  {run.path / name}")
        print(f"report  {run.report_file}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parsed = make_parser().parse_args(arguments)
    return run_command(
        "mopoe-evaluate",
        lambda: evaluate(parsed),
        interrupted="stopped; complete metrics are kept.",
    )


if __name__ == "__main__":
    sys.exit(main())
