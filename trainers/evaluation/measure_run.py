"""Measures runs, and writes evaluation.json, report.html and comparisons."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from typing import Any

from trainers.errors import RunError, UsageError
from trainers.evaluation.context import EvaluationContext, Options
from trainers.evaluation.main_numbers import main_numbers
from trainers.evaluation.measures import MEASURES, ON_REQUEST, measure
from trainers.evaluation.report import write_comparison, write_report
from trainers.recipes.registry import recipe_of_settings
from trainers.runs.atomic_files import write_json
from trainers.runs.run_folder import RunFolder

DEFAULT_METRICS = tuple(name for name in MEASURES if name not in ON_REQUEST)


def measure_run(
    run_path: str | os.PathLike[str],
    metrics: Sequence[str] | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Measures a run and writes its evaluation.json and report.html.

    Args:
      run_path: Path of the run's folder.
      metrics: Names from `MEASURES`; None: all but those on request.
      options: Options of the measures.

    Returns:
      The content of evaluation.json.

    Raises:
      UsageError: If this is no run folder, or an option is invalid.
      RunError: If a measure fails; those before it are kept.
    """
    run = RunFolder(run_path)
    choice = recipe_of_settings(run.read_settings())  # before TensorFlow is imported
    options = options or Options()
    if options.features is not None and not os.path.isfile(options.features):
        raise UsageError(f"--features: there is no file {options.features}.")
    fingerprint = _fingerprint(run)
    model = run.load_model()

    import tf_mopoe

    context = EvaluationContext(
        run, choice.recipe, choice.config, model, options=options
    )
    _ = context.user_features  # refused before anything is measured
    report = read_report(run) | {
        "model_sha256": fingerprint,
        "model": type(model).__name__,
        "recipe": model.name,
        "tf_mopoe": tf_mopoe.__version__,
        "split": context.split,
        "steps": int(model.optimizer.iterations),
    }
    for name in metrics or DEFAULT_METRICS:
        started = time.monotonic()
        try:
            entry = measure(name, context)
        except ValueError as error:
            write_report(run, report, choice.recipe.published)
            raise RunError(f"{name}: {error}") from error
        entry["seconds"] = round(time.monotonic() - started, 1)
        report[name] = {**entry, "options": options._asdict()}
        # After each, since the next one may take long and be stopped.
        write_json(run.evaluation_file, _in_order(report))
    write_report(run, report, choice.recipe.published)
    return _in_order(report)


def _in_order(report: dict[str, Any]) -> dict[str, Any]:
    """The header, then the metrics in the order of `MEASURES`."""
    header = {key: value for key, value in report.items() if key not in MEASURES}
    return header | {name: report[name] for name in MEASURES if name in report}


def read_report(run: RunFolder) -> dict[str, Any]:
    """Returns the run's evaluation.json if it is of the run's present model, or {}."""
    try:
        report = json.loads(run.evaluation_file.read_text())
        if report["model_sha256"] == _fingerprint(run):
            return report
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return {}


def _fingerprint(run: RunFolder) -> str:
    """Checksum of the run's model; empty if there is none."""
    if not run.model_file.exists():
        return ""
    return hashlib.sha256(run.model_file.read_bytes()).hexdigest()


def compare_runs(
    run_paths: Sequence[str], metrics: Sequence[str] | None, options: Options, path: str
) -> None:
    """Measures what has not been measured with these options; writes one page.

    Args:
      run_paths: Paths of the runs' folders.
      metrics: Names from `MEASURES`; None: all but those on request.
      options: Options of the measures.
      path: Path of the page.

    Raises:
      UsageError: If the page can't be written, or a folder holds no run.
      RunError: If a measure fails.
    """
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or "."):
        raise UsageError(f"--compare: can't write a file {path}.")
    names = metrics or DEFAULT_METRICS
    reports, published = {}, []
    for run_path in run_paths:
        run = RunFolder(run_path)
        recipe = recipe_of_settings(run.read_settings()).recipe
        published.append(recipe.published)
        report = read_report(run)
        missing = [
            name
            for name in names
            if not isinstance(report.get(name), dict)
            or report[name].get("options") != options._asdict()
        ]
        if missing:
            report = measure_run(run_path, missing, options)
        reports[run_path] = {
            name: entry
            for name, entry in report.items()
            if name in names or name not in MEASURES
        }
    # Published numbers are of one recipe's data.
    same_recipe = all(numbers is published[0] for numbers in published)
    write_comparison(path, reports, published[0] if same_recipe else {})


def summarize(report: dict[str, Any]) -> str:
    """Formats the report's main numbers as lines for a terminal."""
    groups: dict[str, list[str]] = {}
    for path, value in main_numbers(report).items():
        group, _, name = path.rpartition("/")
        groups.setdefault(group, []).append(f"{name}: {value:.3f}")
    lines = []
    for group, numbers in groups.items():
        title = group.replace("_", " ").replace("/", ", ")
        lines.append(f"{title:<56}  {'  '.join(numbers)}")
    return "\n".join(lines)
