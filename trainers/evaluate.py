"""`mopoe-evaluate`: measures trained runs on their test split, and reports."""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from trainers.config.command_line import ArgumentParser
from trainers.config.train_config import TrainConfig
from trainers.errors import RunError, UsageError, run_command
from trainers.evaluation.context import Evaluation, Options
from trainers.evaluation.main_numbers import main_numbers
from trainers.evaluation.measures import MEASURES, ON_REQUEST
from trainers.evaluation.report import write_comparison, write_report
from trainers.recipes.recipe import Recipe
from trainers.recipes.registry import recipe_of_settings
from trainers.runs.atomic_files import write_json
from trainers.runs.run_folder import RunFolder

METRICS = tuple(MEASURES)
#: Of evaluation.json; one of another layout is measured anew.
LAYOUT = 2
DEFAULT_METRICS = tuple(name for name in METRICS if name not in ON_REQUEST)

#: Options that not all metrics use, and the metrics that do.
USED_BY = {
    "num_samples": {
        *("joint_coherence", "log_likelihood", "log_likelihood_published"),
        "sample_quality",
    },
    "num_train": {"linear_probe"},
    "features": {"sample_quality"},
}


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="mopoe-evaluate",
        description="Measure runs: RUN/evaluation.json, RUN/report.html and "
        "RUN/figures/*.png. What was measured before of the same model stays in the "
        "report.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage.",
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="folders that mopoe-train wrote"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=METRICS,
        metavar="NAME",
        help=f"which of {', '.join(METRICS)}; default: all but {', '.join(ON_REQUEST)}",
    )
    parser.add_argument(
        "--rows",
        type=_count,
        metavar="N",
        help="rows of the test split, the first ones; default: all, but 50 for "
        "log-likelihoods and calibration",
    )
    parser.add_argument(
        "--num-samples",
        type=_count,
        metavar="K",
        help="draws of a log-likelihood, and draws from the prior (default: 1000)",
    )
    parser.add_argument(
        "--num-train",
        type=lambda text: "all" if text == "all" else _count(text),
        metavar="N",
        help="training rows of a linear probe, or 'all' (default: 500)",
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of all draws (default: 0)"
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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1, not {text!r}"
        )
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to 2^31 - 1, not {text!r}"
        )
    return int(text)


def evaluate(
    run_path: str,
    metrics: Sequence[str] | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Evaluates a run and writes its evaluation.json and report.html.

    Args:
      run_path: The run's folder.
      metrics: Names from `METRICS`; None: all but those on request.
      options: What the command line may choose.

    Returns:
      The content of evaluation.json.

    Raises:
      UsageError: If this is no run.
    """
    run = RunFolder(run_path)
    recipe, config = _load_recipe(run)  # answered before TensorFlow is imported
    options = options or Options()
    if options.features is not None and not os.path.isfile(options.features):
        raise UsageError(f"--features: there is no file {options.features}.")
    fingerprint = _fingerprint(run)
    model = run.load_model()

    import tf_mopoe

    evaluation = Evaluation(run, recipe, config, model, options=options)
    evaluation.own_features  # noqa: B018  (refused before anything is measured)
    report: dict[str, Any] = _earlier_report(run)
    report |= {
        "layout": LAYOUT,
        "model_sha256": fingerprint,
        "model": type(model).__name__,
        "recipe": model.name,
        "tf_mopoe": tf_mopoe.__version__,
        "split": evaluation.split,
        "steps": int(model.optimizer.iterations),
    }
    for name in metrics or DEFAULT_METRICS:
        started = time.monotonic()
        try:
            entry = MEASURES[name](evaluation)
        except ValueError as error:
            write_report(run, _in_order(report), recipe.published)
            raise RunError(f"{name}: {error}") from error
        entry["seconds"] = round(time.monotonic() - started, 1)
        report[name] = {**entry, "options": options._asdict()}
        # Long: what is done is kept, should the next one be stopped.
        write_json(run.evaluation_file, _in_order(report))
    write_report(run, _in_order(report), recipe.published)
    return _in_order(report)


def _load_recipe(run: RunFolder) -> tuple[Recipe, TrainConfig]:
    """The run's recipe and configuration."""
    return recipe_of_settings(run.read_settings())[1:]


def _in_order(report: dict[str, Any]) -> dict[str, Any]:
    """The header, then the metrics in their order."""
    header = {key: value for key, value in report.items() if key not in MEASURES}
    return header | {name: report[name] for name in METRICS if name in report}


def _earlier_report(run: RunFolder) -> dict[str, Any]:
    """What was measured before of this same model, in this layout."""
    try:
        report = json.loads(run.evaluation_file.read_text())
        model = _fingerprint(run)
    except (OSError, ValueError):
        return {}
    if not isinstance(report, dict) or report.get("layout") != LAYOUT:
        return {}
    return report if report.get("model_sha256") == model else {}


def _fingerprint(run: RunFolder) -> str:
    """Of the run's model; of none if there is none."""
    if not run.model_file.exists():
        return ""
    return hashlib.sha256(run.model_file.read_bytes()).hexdigest()


def compare(
    run_paths: Sequence[str],
    metrics: Sequence[str] | None,
    options: Options,
    path: str,
) -> None:
    """Measures what was not yet with these options; writes one page of all runs."""
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or "."):
        raise UsageError(f"--compare: can't write a file {path}.")
    reports = {}
    recipes: list[Recipe] = []
    for run_path in run_paths:
        run = RunFolder(run_path)
        recipes.append(_load_recipe(run)[0])
        there = _earlier_report(run)
        wanted = metrics or DEFAULT_METRICS
        missing = [
            name
            for name in wanted
            if not isinstance(there.get(name), dict)
            or there[name].get("options") != options._asdict()
        ]
        report = evaluate(run_path, missing, options) if missing else there
        reports[run_path] = {
            name: entry
            for name, entry in report.items()
            if name in wanted or name not in MEASURES
        }
    # Published numbers are of one data set.
    same = all(recipe is recipes[0] for recipe in recipes)
    write_comparison(path, reports, recipes[0].published if same else {})


def summary(report: dict[str, Any]) -> str:
    """The report's main numbers as readable lines."""
    groups: dict[str, list[str]] = {}
    for path, value in main_numbers(report).items():
        group, _, name = path.rpartition("/")
        groups.setdefault(group, []).append(f"{name}: {value:.3f}")
    lines = []
    for group, numbers in groups.items():
        title = group.replace("_", " ").replace("/", ", ")
        lines.append(f"{title:<56}  {'  '.join(numbers)}")
    return "\n".join(lines)


def _options(given: argparse.Namespace) -> Options:
    """What the command line chose.

    Raises:
      UsageError: If an option has no effect on any of the metrics.
    """
    for field, metrics in USED_BY.items():
        names = given.metrics or DEFAULT_METRICS
        if getattr(given, field) is not None and not metrics & set(names):
            raise UsageError(
                f"--{field.replace('_', '-')} is of no use with --metrics "
                f"{' '.join(names)}: it is for {', '.join(sorted(metrics))}."
            )
    chosen = Options(given.seed, given.rows, features=given.features)
    if given.num_samples is not None:
        chosen = chosen._replace(num_samples=given.num_samples)
    if given.num_train is not None:
        number = None if given.num_train == "all" else given.num_train
        chosen = chosen._replace(num_train=number)
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    given: argparse.Namespace = make_parser().parse_args(arguments)

    def command():
        options = _options(given)
        runs = {os.path.realpath(run): run for run in given.runs}.values()
        for run in runs:  # all are looked at before the first is measured
            _load_recipe(RunFolder(run))
            RunFolder(run).check_model()
        if given.compare:
            compare(list(runs), given.metrics, options, given.compare)
            print(f"report  {given.compare}")
            return
        for run in runs:
            report = evaluate(run, given.metrics, options)
            print(summary(report))
            for name in report.get("figures", {}).get("files", ()):
                print(f"figure  {RunFolder(run).path / name}")
            print(f"report  {RunFolder(run).report_file}")

    return run_command(
        "mopoe-evaluate", command, stopped="stopped; complete metrics are kept."
    )


if __name__ == "__main__":
    sys.exit(main())
