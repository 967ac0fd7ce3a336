"""`mopoe-tune`: searches settings of a recipe; every trial is a run folder."""

import argparse
import collections
import json
import os
import shlex
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from trainers.config.command_line import (
    ArgumentParser,
    integer_from,
    parse_settings,
    recipe_parser,
)
from trainers.errors import RunError, UsageError, run_command
from trainers.fitting.loggers import check_packages
from trainers.fitting.signals import Signals
from trainers.recipes.registry import RecipeChoice, choose_recipe, list_recipes
from trainers.runs.history import Monitor
from trainers.tuning.run_trial import format_value, run_trial
from trainers.tuning.search_space import describe, make_space

if TYPE_CHECKING:
    from trainers.tuning.study_folder import StudyFolder

DESCRIPTION = """\
Search settings of a recipe with Optuna. Every trial is a run folder in STUDY/trials,
which mopoe-evaluate and mopoe-export accept; trials that fall behind the median of the
others are pruned. After any interruption, run the same command again to resume; several
processes that run it at once, also on several machines, share the work.
"""

EPILOG = f"""\
recipes:
{list_recipes()}

settings of all trials, by precedence: --set and --epochs, --config, the recipe.
Searched unless --set fixes them: latent_dim (from a quarter to 4 times that of the
recipe or FILE), beta and learning_rate (from a tenth to 10 times), in log scale.

examples:
  mopoe-tune polydigits --out studies/first --trials 30 --epochs 4
  mopoe-tune polydigits --out studies/second --space beta=0.5:10:log \\
      latent_dim=16,32,64 precision=float32,mixed_bfloat16 --set learning_rate=1e-3

exit codes:
  0   done
  1   failed: all trials failed, or a failure that their parameters did not cause
  2   wrong usage or settings
  75  stopped by SIGTERM or SIGINT; the same command resumes
"""


def make_parser() -> ArgumentParser:
    """Makes the parser of the command line."""
    parser = recipe_parser("mopoe-tune", DESCRIPTION, EPILOG)
    parser.add_argument(
        "--out", required=True, metavar="STUDY", help="the study's folder"
    )
    parser.add_argument(
        "--space",
        metavar="key=SPEC",
        nargs="+",
        action="extend",
        default=[],
        help="settings to search: LOW:HIGH, LOW:HIGH:log, or choices A,B,...",
    )
    parser.add_argument(
        "--trials",
        type=integer_from(1),
        default=20,
        metavar="N",
        help="number of trials in all, those of other processes included (default 20)",
    )
    parser.add_argument(
        "--monitor",
        metavar="METRIC",
        help="metric of the history whose best value ranks trials; by default "
        "val_elbo, the log-likelihoods of the validation rows minus the divergences, "
        "all with weight 1, which is comparable whatever beta is",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = make_parser().parse_args(arguments)
    return run_command("mopoe-tune", lambda: tune(options))


def tune(options: argparse.Namespace) -> None:
    """Trains until the study has its trials; writes STUDY/study.json.

    Raises:
      UsageError: Before anything is written, unless training raises it.
      RunError: If all trials failed.
      Stopped: By a signal; the current trial can be resumed.
    """
    settings = parse_settings(options)
    fixed = set(settings)
    if options.monitor is not None:
        settings["monitor"] = options.monitor
    choice = choose_recipe(options.recipe, options.config, settings)
    check_packages(choice.config)
    with Signals():
        study = open_study(options, choice, fixed=fixed)
        while True:
            with study.claimed_trial(options.trials) as trial:
                if trial is None:
                    break
                run_trial(choice, study, trial)
    print_summary(study, Monitor(choice.config))


def open_study(
    options: argparse.Namespace, choice: RecipeChoice, *, fixed: Collection[str]
) -> "StudyFolder":
    """Opens or makes the study of these options; `fixed` settings are not searched."""
    config = choice.config
    if config.strategy == "multi_worker":
        raise UsageError(
            "strategy: a trial is trained by one process. Run the command once on each "
            "host, with --out on a file system that they share."
        )
    try:
        import optuna
    except ModuleNotFoundError:
        raise UsageError(
            "this needs the package optuna: pip install 'tf-mopoe[tune]'."
        ) from None

    from trainers.tuning.study_folder import StudyFolder

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = make_space(config, options.space, fixed=fixed)
    settings = {
        "recipe": choice.name,
        "--monitor": config.monitor,
        **{f"--space {name}": describe(spec) for name, spec in space.items()},
        **config.model_dump(mode="json", exclude=set(space)),
    }
    return StudyFolder(
        options.out,
        settings,
        space,
        maximize=Monitor(config).maximize,
        seed=config.seed,
        warmup_epochs=config.epochs // 3,
    )


def print_summary(study: "StudyFolder", monitor: Monitor) -> None:
    """Prints the states, the five best trials, and commands for the best one.

    Raises:
      RunError: If all trials failed.
    """
    trials = study.all_trials()
    states = collections.Counter(trial["state"] for trial in trials)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"{study.path} has {len(trials)} trials: {counts}.")
    if states["running"]:
        print("Other processes train the running ones.")
    if states["fail"] == len(trials):
        raise RunError(f"all trials failed, the first: {trials[0]['reason']}")
    complete = [trial for trial in trials if trial["state"] == "complete"]
    if not complete:
        return
    complete.sort(key=lambda trial: trial["value"], reverse=monitor.maximize)
    rows = [["trial", monitor.metric, "epoch", *study.space]]
    for trial in complete[:5]:
        values = [trial["number"], trial["value"], trial["epoch"]]
        values += [trial["parameters"][name] for name in study.space]
        rows.append([format_value(value) for value in values])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)))
    best = study.path / complete[0]["run"]
    run, config_file = shlex.quote(str(best)), best / "config.json"
    epochs = 2 * json.loads(config_file.read_text())["epochs"]
    print(f"The best:        {best}")
    print(f"To evaluate it:  mopoe-evaluate {run}")
    print(
        f"To train longer: mopoe-train --config {shlex.quote(str(config_file))} "
        f"--out {run} --epochs {epochs}"
    )


if __name__ == "__main__":
    sys.exit(main())
