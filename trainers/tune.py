"""`mopoe-tune`: searches settings of a recipe, trial after trial, each a run folder."""

import argparse
import collections
import json
import os
import shlex
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from trainers.config.command_line import ArgumentParser, recipe_parser
from trainers.config.train_config import add_epochs, parse_assignments
from trainers.errors import RunError, UsageError, run_command
from trainers.fitting.loggers import check_packages
from trainers.fitting.signals import Signals
from trainers.recipes.registry import choose_recipe, list_recipes
from trainers.tuning.objective import Objective
from trainers.tuning.run_trial import Task, run_trial, shown
from trainers.tuning.search_space import describe, make_space

if TYPE_CHECKING:
    from trainers.tuning.study_folder import StudyFolder

DESCRIPTION = """\
Search settings of a recipe with Optuna. Every trial is a run folder in STUDY/trials,
which mopoe-evaluate and mopoe-export take; trials that fall behind the median of the
others are pruned. The same command, after whatever stopped it, goes on where it was;
given several times at once, also on several machines, its processes share the work.
"""

EPILOG = f"""\
recipes:
{list_recipes()}

settings of all trials, in the order in which they win: --set and --epochs, --config,
the recipe. Searched unless --set fixes them: latent_dim (from a quarter to 4 times that
of the recipe or FILE), beta and learning_rate (from a tenth to 10 times), in log scale.

examples:
  mopoe-tune polydigits --out studies/first --trials 30 --epochs 4
  mopoe-tune polydigits --out studies/second --space beta=0.5:10:log \\
      latent_dim=16,32,64 precision=float32,mixed_bfloat16 --set learning_rate=1e-3

exit codes:
  0   done
  1   failed; all trials did, or something that their parameters did not cause
  2   wrong usage or settings
  75  stopped by SIGTERM or SIGINT; the same command resumes
"""


def make_parser() -> ArgumentParser:
    """The command line."""
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
        type=int,
        default=20,
        metavar="N",
        help="number of trials in all, those of other processes included (default 20)",
    )
    parser.add_argument(
        "--monitor",
        metavar="METRIC",
        help="metric of the history whose best value counts; by default val_elbo, the "
        "log-likelihoods of the validation rows minus the divergences, all of weight "
        "1, which can be compared whatever beta is",
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
      UsageError: Before anything is written, unless it is the training that finds it.
      RunError: If all trials failed.
      Stopped: By a signal; the trial at hand is taken up again.
    """
    if options.trials < 1:
        raise UsageError(f"--trials: expected at least 1. Received: {options.trials}.")
    settings = parse_assignments(options.settings)
    add_epochs(settings, options.epochs)
    fixed = set(settings)
    if options.monitor is not None:
        settings["monitor"] = options.monitor
    name, recipe, config = choose_recipe(options.recipe, options.config, settings)
    check_packages(config)
    objective = Objective.of(config.monitor, config.monitor_mode)
    task = Task(name, recipe, config, objective)
    with Signals():
        study = open_study(options, task, fixed=fixed)
        while True:
            with study.claimed_trial(options.trials) as trial:
                if trial is None:
                    break
                run_trial(task, study, trial)
    print_summary(study, objective)


def open_study(
    options: argparse.Namespace, task: Task, *, fixed: Collection[str]
) -> "StudyFolder":
    """The study of these options, new or as it is; `fixed` are not searched."""
    config, objective = task.config, task.objective
    if config.strategy == "multi_worker":
        raise UsageError(
            "strategy: a trial is trained by one process. Give the command once on "
            "each host, with --out on a file system that they share."
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
    asked = {
        "recipe": task.recipe_name,
        "--monitor": objective.metric,
        **{f"--space {name}": describe(spec) for name, spec in space.items()},
        **config.model_dump(mode="json", exclude=set(space)),
    }
    return StudyFolder(
        options.out,
        asked,
        space,
        larger=objective.larger,
        seed=config.seed,
        warmup_epochs=config.epochs // 3,
    )


def print_summary(study: "StudyFolder", objective: Objective) -> None:
    """The states, the five best trials, and how to go on with the best one.

    Raises:
      RunError: If all trials failed.
    """
    trials = study.all_trials()
    states = collections.Counter(trial["state"] for trial in trials)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"{study.path} has {len(trials)} trials: {counts}.")
    if states["running"]:
        print("Other processes are at those that are running.")
    if states["fail"] == len(trials):
        raise RunError(f"all trials failed, the first: {trials[0]['reason']}")
    ranked = sorted(
        (trial for trial in trials if trial["state"] == "complete"),
        key=lambda trial: trial["value"],
        reverse=objective.larger,
    )
    if not ranked:
        return
    names = list(study.space)
    rows = [["trial", objective.metric, "epoch", *names]]
    for trial in ranked[:5]:
        values = [trial["number"], trial["value"], trial["epoch"]]
        values += [trial["parameters"][name] for name in names]
        rows.append([shown(value) for value in values])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)))
    best = study.path / ranked[0]["run"]
    print(f"The best:         {best}")
    print(f"To evaluate it:   mopoe-evaluate {shlex.quote(str(best))}")
    config = json.loads((best / "config.json").read_text())
    print(
        f"To go on with it: mopoe-train --config {shlex.quote(f'{best}/config.json')} "
        f"--out {shlex.quote(str(best))} --epochs {2 * config['epochs']}"
    )


if __name__ == "__main__":
    sys.exit(main())
