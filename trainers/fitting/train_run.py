"""Trains a recipe into a run folder, or resumes the training there."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError, UsageError
from trainers.fitting.keras_fit import fit
from trainers.fitting.loggers import check_packages
from trainers.fitting.optimizer import compile_options, make_optimizer
from trainers.fitting.signals import Signals
from trainers.fitting.strategy import make_workers
from trainers.fitting.task import TrainingData, TrainingTask
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
    """Trains the run in folder `out`, from its newest checkpoint on if it has one.

    Writes config.json, checkpoints/, model.keras, best.keras, history.json, history.csv
    and logs/ there.

    Args:
      recipe_name: Name by which `mopoe-evaluate` finds the recipe.
      recipe: The recipe.
      config: Configuration of the recipe.
      out: Path of the run's folder.
      callbacks: Callbacks that are called last, after an epoch has been saved.

    Raises:
      UsageError: If the folder is of another run, or another process trains in it.
      RunError: If training fails, or a file can't be written.
      Stopped: If SIGTERM or SIGINT was received.
    """
    check_packages(config)
    with Signals() as signals:
        workers = make_workers(config)  # before TensorFlow does anything
        signals.set_handlers()
        if recipe.resolve:
            config = recipe.resolve(config)
        run = RunFolder(out)
        task = TrainingTask(recipe_name, recipe, config, run, workers, signals)
        with (
            run.exclusive() if workers.chief else contextlib.nullcontext(),
            _one_line_errors(task),
        ):
            _train(task, callbacks)


@contextlib.contextmanager
def _one_line_errors(task: TrainingTask) -> Iterator[None]:
    """Turns failures of disks, memory, data and other workers into a `RunError`."""
    import tensorflow as tf

    failures = (
        tf.errors.DataLossError,
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
        tf.errors.ResourceExhaustedError,
    )
    try:
        yield
    except (OSError, tf.errors.OpError, ValueError) as error:
        message = str(error).splitlines()[0] if str(error) else repr(error)
        if isinstance(error, ValueError):
            if not message.startswith("Modality "):  # of `tf_mopoe.models.batches`
                raise
        elif not isinstance(error, (OSError, *failures)):
            if task.workers.count > 1:
                message = f"worker {task.workers.index} lost the others: {message}"
            elif not isinstance(error, tf.errors.UnavailableError):
                raise
        kept = task.run.checkpoints.describe_newest()
        raise RunError(f"{message.rstrip('.')}. {kept}") from error


def _train(task: TrainingTask, callbacks: Sequence["keras.callbacks.Callback"]) -> None:
    config, run, chief = task.config, task.run, task.workers.chief
    run.prepare(task.recipe_name, config, write=chief)
    checkpoint = run.restore(Monitor(config), write=chief)
    state = checkpoint.state if checkpoint else State()
    if not task.workers.all_workers_equal(state.epoch * 1_000_000_000 + state.step):
        raise UsageError(
            f"--out: the workers see different checkpoints in {run.path}. It must be "
            "on a file system that they share."
        )
    if reason := _stop_reason(config, state):
        task.print(f"{run.path} has been trained for {reason}")
        return
    data = load_training(
        task.recipe, config, first_epoch=state.epoch, first_step=state.step
    )
    if state.steps not in (0, data.steps):
        raise UsageError(
            f"--out: {run.path} has been trained with {state.steps} steps an epoch, "
            f"but its data now make {data.steps}. Choose another folder."
        )
    state = state._replace(steps=data.steps)
    if chief:  # settings in MAY_CHANGE may be new
        run.write_config(task.recipe_name, config)
    if checkpoint:
        task.print(f"Resuming {run.path} after {state} of {config.epochs} epochs.")
    task.print(_describe_run(task, data))
    model = _restore_model(task, data.steps, checkpoint)
    with task.signals.deferred():
        state = fit(task, model, data, state, callbacks)
        task.print(f"Trained {_stop_reason(config, state)}")
        best = run.best_file if run.best_file.exists() else f"no {config.monitor} yet"
        task.print(f"The model: {run.model_file}. The best: {best}")


def load_training(
    recipe: Recipe, config: TrainConfig, *, first_epoch: int = 0, first_step: int = 0
) -> TrainingData:
    """Loads, or makes, a recipe's training data, from a step of an epoch on."""
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
    """Makes the recipe's compiled model, for a training of `num_steps` steps in all.

    Keras's dtype policy is the configuration's for this model alone.
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


def _restore_model(
    task: TrainingTask, steps: int, checkpoint: Checkpoint | None
) -> "MultimodalVAE":
    """The model as it was at the checkpoint, or a new one."""
    import keras

    from trainers.runs.model_state import load_weights, set_generator_states

    # After the data are made: TFDS draws names of folders from the same generator.
    keras.utils.set_random_seed(task.config.seed)
    with task.workers.strategy.scope():
        model = make_model(task.recipe, task.config, task.config.epochs * steps)
        if checkpoint:
            load_weights(model, checkpoint.path / MODEL)
            if checkpoint.state.seeds:
                set_generator_states(model, checkpoint.state.seeds)
    return model


def _stop_reason(config: TrainConfig, state: State) -> str | None:
    """How far training has come, if it is over; else None."""
    if state.epoch >= config.epochs:
        return f"{state.epoch} of {config.epochs} epochs: all done."
    early = Monitor(config).stop_reason(state.history)
    return early and f"{state.epoch} of {config.epochs} epochs, and {early}."


def _describe_run(task: TrainingTask, data: TrainingData) -> str:
    config, num_steps = task.config, task.config.epochs * data.steps
    options = compile_options(config, num_steps)
    execution = "xla" if options["jit_compile"] else "graph"
    if options["run_eagerly"]:
        execution = "eager"
    devices = task.workers.strategy.num_replicas_in_sync
    return (
        f"Training {task.recipe_name}: {num_steps} steps of {data.batch_size} rows, "
        f"{execution}, {config.precision}, {devices} device{'s' * (devices > 1)}"
    )
