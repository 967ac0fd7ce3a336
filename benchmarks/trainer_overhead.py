"""Times training steps of `mopoe-train` beside the bare compiled step.

    python benchmarks/trainer_overhead.py [--recipe polydigits] [--rounds 7]
        [--set key=value ...]

The bare step is loss, gradients and Adam on one and the same batch, compiled as the
configuration says, without metrics; the trainer's has its data, metrics, progress bar,
watchdog and loggers besides. An epoch of the one and as many steps of the other are
timed in turn, so that the ratio holds when the machine's speed drifts. What comes once
an epoch (validation, evaluation, the checkpoint) is not counted.
"""

import argparse
import statistics
import tempfile
import time

import keras
import tensorflow as tf

from tf_mopoe.models.bounds import bound_terms
from tf_mopoe.models.settings import current_beta
from trainers.config.command_line import parse_assignments
from trainers.fitting.keras_fit import fit
from trainers.fitting.optimizer import compile_options
from trainers.fitting.signals import Signals
from trainers.fitting.strategy import make_workers
from trainers.fitting.task import TrainingTask
from trainers.fitting.train_run import load_training, make_model
from trainers.recipes.registry import choose_recipe
from trainers.runs.checkpoints import State
from trainers.runs.run_folder import RunFolder


def make_bare_step(model, batch, jit: bool):
    """A step on `batch` that computes nothing for people."""

    @tf.function(jit_compile=jit, autograph=False)
    def step():
        with tf.GradientTape() as tape:
            weights = model.loss_weights(current_beta(model))
            seed = model.noise.training_seed(model.seed, model.optimizer)
            checked = model.unpack_batch(batch)
            [terms] = bound_terms(model, checked, seed, weights, training=True)
            loss = tf.reduce_mean(
                terms.objective.loss(terms.reconstruction, terms.divergence, weights)
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss

    model.optimizer.build(model.trainable_variables)
    return step


class Alternate(keras.callbacks.Callback):
    """Before each epoch as many bare steps; milliseconds a step of both, by epoch."""

    def __init__(self, bare, steps: int):
        super().__init__()
        self.bare, self.steps = bare, steps
        self.times: list[tuple[float, float]] = []

    def on_epoch_begin(self, epoch, logs=None):
        started = time.perf_counter()
        for _ in range(self.steps):
            loss = self.bare()
        loss.numpy()
        self._bare = time.perf_counter() - started
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self.steps:
            trainer = time.perf_counter() - self._started
            milliseconds = 1000.0 / self.steps
            self.times.append((self._bare * milliseconds, trainer * milliseconds))


def main() -> None:
    """Prints medians and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="polydigits")
    parser.add_argument("--rounds", type=int, default=7, help="epochs that are timed")
    parser.add_argument("--set", dest="settings", nargs="+", default=["pairings=2"])
    options = parser.parse_args()
    settings = {"epochs": str(options.rounds + 1)}
    settings |= parse_assignments(options.settings)
    name, recipe, config = choose_recipe(options.recipe, None, settings)
    workers = make_workers(config)
    data = load_training(recipe, config)
    total = config.epochs * data.steps
    batch = next(iter(data.batches))
    jit = compile_options(config, total)["jit_compile"]
    bare = make_bare_step(make_model(recipe, config, total), batch, jit)
    for _ in range(3):  # traces, warms up
        bare()
    alternate = Alternate(bare, data.steps)
    with tempfile.TemporaryDirectory() as folder, Signals() as signals:
        run = RunFolder(folder)
        run.prepare(name, config)
        task = TrainingTask(name, recipe, config, run, workers, signals)
        model = make_model(recipe, config, total)
        fit(task, model, data, State(steps=data.steps), [alternate])
    times = alternate.times[1:]  # the first one traces
    bare_ms, trainer_ms = map(statistics.median, zip(*times))
    ratio = statistics.median(trainer / bare for bare, trainer in times)
    print(f"{len(times)} rounds of {data.steps} steps of {data.batch_size} rows")
    print(f"bare step        {bare_ms:8.1f} ms")
    print(f"trainer's step   {trainer_ms:8.1f} ms")
    print(f"trainer / bare   {ratio:8.3f}")


if __name__ == "__main__":
    main()
