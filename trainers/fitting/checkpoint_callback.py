"""The callback that writes checkpoints, the history and the best model, and stops."""

import tempfile
import time
from collections.abc import Iterable

import keras

from trainers.errors import RunError, UsageError, one_of
from trainers.fitting.callbacks import advice_on_non_finite
from trainers.fitting.task import TrainingTask
from trainers.runs.checkpoints import State
from trainers.runs.history import ELBO, Monitor, with_epoch
from trainers.runs.model_state import (
    generator_states,
    non_finite_variables,
    running_means,
)


class CheckpointCallback(keras.callbacks.Callback):
    """Checks after every batch whether to save or to stop, and saves every epoch.

    All workers decide together and all save, since reading a variable may need all of
    them; only the chief's files are kept.

    Attributes:
      state: Progress of the training.
    """

    def __init__(self, task: TrainingTask, state: State):
        """Continues from `state`, which is that of the run's newest checkpoint."""
        super().__init__()
        self.run, self.config, self.state = task.run, task.config, state
        self.workers, self.signals = task.workers, task.signals
        self.monitor = Monitor(task.config)
        self.monitors_evaluation = self.monitor.metric.startswith("evaluation/")
        self.evaluates = 0 < task.config.evaluate_every <= task.config.epochs
        self._saved = state
        self._saved_at = time.monotonic()

    def on_train_begin(self, logs=None):
        """Refuses a `monitor` that no epoch will have, before the first step."""
        names = [metric.name for metric in self.model.loss_terms]
        names += [*(f"val_{name}" for name in names), ELBO, "learning_rate"]
        if not (self.evaluates and self.monitors_evaluation):
            self._check_monitor(names)

    def on_train_batch_end(self, batch, logs=None):
        """Saves if a checkpoint is due; stops if a signal was received."""
        if batch < self.state.step:  # done before the training was resumed
            return
        self.state = self.state._replace(step=batch + 1)
        if self.state.step == self.state.steps:  # validation uses the same variables
            self.state = self.state._replace(metrics=running_means(self.model))
        every = self.config.checkpoint_steps
        self._maybe_checkpoint(due=every is not None and self.state.total % every == 0)

    def on_test_batch_end(self, batch, logs=None):
        """Stops if a signal was received; a resumed run repeats the validation."""
        self._maybe_checkpoint(due=False)

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch to the history and saves; decides whether to stop early."""
        if self.monitors_evaluation and any(x.startswith("evaluation/") for x in logs):
            self._check_monitor(logs)
        history = with_epoch(self.state.history, logs)
        self.state = State(epoch + 1, 0, self.state.steps, history)
        self.save()
        stop = self.workers.chief and self.monitor.stop_reason(history) is not None
        self.model.stop_training = self.workers.any_worker(stop)

    def save(self):
        """Writes a checkpoint, unless there is one of this step.

        Raises:
          RunError: If weights are not finite, or it can't be written.
        """
        if self.state[:2] == self._saved[:2]:
            return
        variables = non_finite_variables(self.model)
        if variables:
            raise RunError(
                f"{len(variables)} variables are not finite after {self.state}, among "
                f"them {variables[0]}. {self.run.checkpoints.describe_newest()} "
                f"{advice_on_non_finite(self.config)}"
            )
        if 0 < self.state.step < self.state.steps:
            self.state = self.state._replace(metrics=running_means(self.model))
        self.state = self.state._replace(seeds=generator_states(self.model))
        failure = None
        try:
            if self.workers.chief:
                self.run.save(self.model, self.state, self.monitor)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    self.model.save(f"{folder}/model.keras")
        except RunError as error:
            failure = error
        if self.workers.any_worker(failure is not None):
            raise failure or RunError("another worker can't write the checkpoint.")
        self._saved, self._saved_at = self.state, time.monotonic()

    def _maybe_checkpoint(self, *, due: bool):
        minutes = self.config.checkpoint_minutes
        late = minutes is not None and time.monotonic() - self._saved_at > 60 * minutes
        if self.workers.any_worker(due or late or self.signals.received is not None):
            self.save()
            if self.workers.any_worker(self.signals.received is not None):
                self.signals.stop(f"after {self.state}")

    def _check_monitor(self, names: Iterable[str]):
        metric = self.monitor.metric
        if metric not in names:
            hint = ""
            if self.monitors_evaluation and not self.evaluates:
                hint = f", with evaluate_every={self.config.evaluate_every}"
            raise UsageError(
                f"monitor: no epoch has {metric!r}{hint}. {one_of(names, metric)}"
            )
