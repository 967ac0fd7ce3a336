"""A call of Keras's `fit` with all that watches over it."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError
from trainers.fitting.signals import Signals
from trainers.fitting.strategy import Workers
from trainers.recipes.recipe import Recipe
from trainers.runs.checkpoints import State
from trainers.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tf_mopoe.models import MultimodalVAE
    from trainers.fitting.checkpoint_callback import Saving


class Task(NamedTuple):
    """What is trained, and where."""

    recipe_name: str
    recipe: Recipe
    config: TrainConfig
    run: RunFolder
    workers: Workers
    signals: Signals

    def say(self, text: str) -> None:
        """Prints; of several workers only the chief does."""
        if self.workers.chief:
            print(text, flush=True)


class TrainingData(NamedTuple):
    """What a run trains on: endless batches, so many an epoch; those of validation."""

    batches: "tf.data.Dataset"
    batch_size: int
    steps: int
    validation: "tf.data.Dataset"


def fit(
    task: Task,
    model: "MultimodalVAE",
    data: TrainingData,
    state: State,
    more: Sequence["keras.callbacks.Callback"],
) -> State:
    """Trains from `state` on, and returns where that has led."""
    import keras

    from trainers.fitting.checkpoint_callback import Saving

    config, run, workers = task.config, task.run, task.workers
    saving = Saving(run, config, state, workers=workers, signals=task.signals)
    verbose = (1 if sys.stdout.isatty() else 2) if workers.chief else 0
    with _loggers(task) as loggers, _in_one_line(run):
        callbacks = keras.callbacks.CallbackList(
            [*_watching(task, saving), *loggers, saving, *more],
            model=model,
            add_history=True,
            verbose=verbose,
            epochs=config.epochs,
            steps=data.steps,
        )
        try:
            model.fit(
                data.batches,
                shuffle=False,  # the batches are
                initial_epoch=state.epoch,
                epochs=config.epochs,
                steps_per_epoch=data.steps,
                validation_data=data.validation,
                callbacks=callbacks,
                verbose=verbose,
            )
        except BaseException:
            callbacks.on_train_end()  # closes files
            raise
    return saving.state


def _watching(task: Task, saving: "Saving") -> list["keras.callbacks.Callback"]:
    """Callbacks that come before an epoch is reported and saved, in this order."""
    import keras

    from trainers.fitting.callbacks import Numbers, Resume, TensorBoardEvaluation

    config, run, state = task.config, task.run, saving.state
    callbacks = [
        keras.callbacks.ProgbarLogger(),
        Resume(state),
        Numbers(config, state.steps, run.checkpoints.kept),
    ]
    if config.evaluate_every:
        evaluation = TensorBoardEvaluation(
            run,
            task.recipe,
            config,
            signals=task.signals,
            chief=task.workers.chief,
            before=saving.save,
        )
        callbacks.append(evaluation)
    return callbacks


@contextlib.contextmanager
def _loggers(task: Task) -> Iterator[list["keras.callbacks.Callback"]]:
    """What the chief reports to, which learns how the training ended."""
    from trainers.fitting.loggers import finish_loggers, make_loggers

    if not task.workers.chief:
        yield []
        return
    completed = False
    try:
        yield make_loggers(task.config, task.run)
        completed = True
    finally:
        finish_loggers(task.config, completed=completed)


@contextlib.contextmanager
def _in_one_line(run: RunFolder) -> Iterator[None]:
    """Failures that are not the program's, with what is kept."""
    import tensorflow as tf

    failures = (
        tf.errors.DataLossError,
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
        tf.errors.ResourceExhaustedError,
        tf.errors.UnavailableError,
    )
    try:
        yield
    except (OSError, *failures) as error:
        message = str(error).splitlines()[0]
        raise RunError(f"{message}. {run.checkpoints.kept()}") from error
    except ValueError as error:
        if not str(error).startswith("Modality "):  # of `tf_mopoe.models.batches`
            raise
        raise RunError(f"{error} {run.checkpoints.kept()}") from error
