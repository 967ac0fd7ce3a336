"""The call of Keras's `fit` with all callbacks."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainers.fitting.task import TrainingData, TrainingTask
from trainers.runs.checkpoints import State

if TYPE_CHECKING:
    import keras

    from tf_mopoe.models import MultimodalVAE


def fit(
    task: TrainingTask,
    model: "MultimodalVAE",
    data: TrainingData,
    state: State,
    more: Sequence["keras.callbacks.Callback"],
) -> State:
    """Trains from `state` on, and returns the final state.

    Args:
      task: What is trained.
      model: Compiled model, as it was at `state`.
      data: Its data; training batches begin at `state`.
      state: State of the newest checkpoint.
      more: Callbacks that are called last.
    """
    import keras

    from trainers.fitting.callbacks import (
        ResumeEpoch,
        TensorBoardEvaluation,
        TerminateOnNonFinite,
    )
    from trainers.fitting.checkpoint_callback import CheckpointCallback

    config, workers = task.config, task.workers
    checkpoint = CheckpointCallback(task, state)
    # In this order: an epoch is checked and evaluated, then reported, then saved.
    callbacks = [
        keras.callbacks.ProgbarLogger(),
        ResumeEpoch(state),
        TerminateOnNonFinite(config, state.steps, task.run.checkpoints),
    ]
    if config.evaluate_every:
        callbacks.append(TensorBoardEvaluation(task, save=checkpoint.save))
    verbose = (1 if sys.stdout.isatty() else 2) if workers.chief else 0
    with _open_loggers(task) as loggers:
        callback_list = keras.callbacks.CallbackList(
            [*callbacks, *loggers, checkpoint, *more],
            model=model,
            add_history=True,
            verbose=verbose,
            epochs=config.epochs,
            steps=data.steps,
        )
        try:
            model.fit(
                data.batches,
                shuffle=False,  # the batches are shuffled already
                initial_epoch=state.epoch,
                epochs=config.epochs,
                steps_per_epoch=data.steps,
                validation_data=data.validation,
                callbacks=callback_list,
                verbose=verbose,
            )
        except BaseException:
            callback_list.on_train_end()  # closes files
            raise
    return checkpoint.state


@contextlib.contextmanager
def _open_loggers(task: TrainingTask) -> Iterator[list["keras.callbacks.Callback"]]:
    """The chief's loggers, which are told at the end whether training completed."""
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
