"""Times a training step compiled as a graph, by XLA, and not at all, in turn.

    python benchmarks/execution.py [--recipe polydigits] [--rounds 9]
        [--set key=value ...]

The fastest is the choice of `execution=auto` of `mopoe-train`, unless the training is
too short for compilation to pay off.
"""

import argparse
import statistics
import time

from trainers.config.command_line import parse_assignments
from trainers.fitting.strategy import make_workers
from trainers.fitting.train_run import load_training, make_model
from trainers.recipes.registry import choose_recipe

KINDS = ("graph", "xla", "eager")


def main() -> None:
    """Prints medians, and each one's ratio to graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="polydigits")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5, help="of each in a round")
    parser.add_argument("--set", dest="settings", nargs="+", default=["pairings=1"])
    options = parser.parse_args()
    settings = parse_assignments(options.settings)
    _, recipe, config = choose_recipe(options.recipe, None, settings)
    make_workers(config)
    batch = next(iter(load_training(recipe, config).batches))
    steps = {}
    for kind in KINDS:
        chosen = config.model_copy(update={"execution": kind})
        model = make_model(recipe, chosen, 1000)
        started = time.perf_counter()
        model.train_on_batch(batch)
        print(f"{kind:6} first step {time.perf_counter() - started:6.1f} s")
        model.train_on_batch(batch)
        steps[kind] = model.train_on_batch
    rounds = []
    for _ in range(options.rounds):
        times = {}
        for kind, step in steps.items():
            started = time.perf_counter()
            for _ in range(options.steps):
                step(batch)
            times[kind] = (time.perf_counter() - started) / options.steps
        rounds.append(times)
    for kind in KINDS:
        milliseconds = 1000.0 * statistics.median(times[kind] for times in rounds)
        ratio = statistics.median(times[kind] / times["graph"] for times in rounds)
        print(f"{kind:6} {milliseconds:8.1f} ms a step, {ratio:.2f} of graph")


if __name__ == "__main__":
    main()
