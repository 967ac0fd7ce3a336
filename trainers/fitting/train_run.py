"""Trains a recipe into a run folder, and goes on where it stopped."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError, UsageError
from trainers.fitting.keras_fit import Task, TrainingData, fit
from trainers.fitting.loggers import check_packages
from trainers.fitting.optimizer import compile_options, make_optimizer
from trainers.fitting.signals import Signals
from trainers.fitting.strategy import make_workers
from trainers.recipes.recipe import Recipe
from trainers.runs.checkpoints import MODEL, Checkpoint, State
from trainers.runs.history import Monitor
from trainers.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import keras

    from tf_mopoe.models import MultimodalVAE


def train(
    recipe_name: str,
    recipe: Recipe,
    config: TrainConfig,
    out: str,
    *,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
) -> None:
    """Trains, or goes on training, the run in folder `out`.

    Writes config.json, checkpoints/, model.keras, best.keras, history.json, history.csv
    and logs/ there.

    Args:
      recipe_name: By which `mopoe-evaluate` finds the recipe.
      recipe: The recipe.
      config: Its configuration.
      out: The run's folder.
      callbacks: Are called last, when an epoch has been saved.

    Raises:
      UsageError: If the folder is of another run, or of one that is being trained.
      RunError: If training fails, or a file can't be written.
      Stopped: If SIGTERM or SIGINT came.
    """
    check_packages(config)
    with Signals() as signals:
        workers = make_workers(config)  # before TensorFlow does anything
        signals.set_handlers()
        if recipe.resolve:
            config = recipe.resolve(config)
        task = Task(recipe_name, recipe, config, RunFolder(out), workers, signals)
        with (
            task.run.locked() if workers.chief else contextlib.nullcontext(),
            _among_workers(task),
        ):
            _train(task, callbacks)


@contextlib.contextmanager
def _among_workers(task: Task) -> Iterator[None]:
    """Failures of what workers do together, in one line."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if task.workers.count == 1:
            raise
        first = error.message.splitlines()[0]
        raise RunError(
            f"worker {task.workers.index}: the others are not there: {first}. "
            f"{task.run.checkpoints.kept()}"
        ) from error


def _train(task: Task, callbacks: Sequence["keras.callbacks.Callback"]) -> None:
    config, run, chief = task.config, task.run, task.workers.chief
    run.prepare(task.recipe_name, config, write=chief)
    checkpoint = run.restore(Monitor(config), write=chief)
    state = checkpoint.state if checkpoint else State()
    if not task.workers.same(state.epoch * 1_000_000_000 + state.step):
        raise UsageError(
            f"--out: not all workers see the same checkpoints in {run.path}. It must "
            "be on a file system that they share."
        )
    if over := _why_over(config, state):
        task.say(f"{run.path} has been trained for {over}")
        return
    data = load_training(
        task.recipe, config, first_epoch=state.epoch, first_step=state.step
    )
    if state.steps not in (0, data.steps):
        raise UsageError(
            f"--out: {run.path} has been trained on {state.steps} steps an epoch, and "
            f"its data now make {data.steps}. Choose another folder."
        )
    state = state._replace(steps=data.steps)
    if chief:
        run.write_config(task.recipe_name, config)  # what may change perhaps has
    if checkpoint:
        task.say(f"Resuming {run.path} after {state} of {config.epochs} epochs.")
    task.say(_what_runs(task, data))
    model = _make_model(task, data.steps, checkpoint)
    with task.signals.deferred():
        state = fit(task, model, data, state, callbacks)
        task.say(f"Trained {_why_over(config, state)}")
        best = run.best_file if run.best_file.exists() else f"no {config.monitor} yet"
        task.say(f"The model: {run.model_file}. The best: {best}")


def load_training(
    recipe: Recipe, config: TrainConfig, *, first_epoch: int = 0, first_step: int = 0
) -> TrainingData:
    """Reads, or makes, what the recipe trains on, from a step of an epoch on."""
    from tf_mopoe.data import (
        drop_at_random,
        num_rows,
        ordered_batches,
        shuffled_batches,
    )

    if recipe.training_rows:
        rows = recipe.training_rows(config)
    else:
        rows = recipe.load_data(config, "train").modalities
    if config.missing:
        rows = drop_at_random(rows, config.missing, seed=config.seed)
    count = num_rows(rows)
    batch_size = min(config.batch_size, count)
    batches = shuffled_batches(
        rows,
        batch_size,
        seed=config.seed,
        first_epoch=first_epoch,
        first_step=first_step,
        augment=recipe.augment(config) if recipe.augment else None,
    )
    validation = recipe.load_data(config, "validation").modalities
    return TrainingData(
        batches,
        batch_size,
        count // batch_size,
        ordered_batches(validation, config.batch_size),
    )


def make_model(recipe: Recipe, config: TrainConfig, num_steps: int) -> "MultimodalVAE":
    """The recipe's model, compiled for a training of `num_steps` steps in all.

    Keras's policy is the configuration's for this model alone.
    """
    import keras

    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(config.precision)
        model = recipe.build_model(config, num_steps)
        options = compile_options(config, num_steps)
        model.compile(make_optimizer(config, num_steps), **options)
    finally:
        keras.config.set_dtype_policy(policy)
    return model


def _make_model(
    task: Task, steps: int, checkpoint: Checkpoint | None
) -> "MultimodalVAE":
    """The model as it was at the checkpoint."""
    import keras

    from trainers.runs.model_state import load_weights, set_generator_states

    # Not before the data are made: TFDS draws names of folders from the same generator.
    keras.utils.set_random_seed(task.config.seed)
    with task.workers.strategy.scope():
        model = make_model(task.recipe, task.config, task.config.epochs * steps)
        if checkpoint:
            load_weights(model, checkpoint.path / MODEL)
            if checkpoint.state.seeds:
                set_generator_states(model, checkpoint.state.seeds)
    return model


def _why_over(config: TrainConfig, state: State) -> str | None:
    """How far training has come, if it goes no further."""
    if state.epoch >= config.epochs:
        return f"{state.epoch} of {config.epochs} epochs: all done."
    early = Monitor(config).why_stopped(state.history)
    return early and f"{state.epoch} of {config.epochs} epochs, and {early}."


def _what_runs(task: Task, data: TrainingData) -> str:
    config, num_steps = task.config, task.config.epochs * data.steps
    options = compile_options(config, num_steps)
    execution = "xla" if options["jit_compile"] else "graph"
    if options["run_eagerly"]:
        execution = "eager"
    devices = task.workers.strategy.num_replicas_in_sync
    return (
        f"Training {task.recipe_name}: {num_steps} steps of "
        f"{data.batch_size} rows, {execution}, {config.precision}, {devices} "
        f"device{'s' * (devices > 1)}"
    )
