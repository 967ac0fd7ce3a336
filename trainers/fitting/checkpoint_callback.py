"""The callback that writes checkpoints, the history and the best model, and stops."""

import tempfile
import time
from collections.abc import Iterable

import keras

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError, UsageError, one_of
from trainers.fitting.callbacks import advice
from trainers.fitting.signals import Signals
from trainers.fitting.strategy import Workers
from trainers.runs.checkpoints import State
from trainers.runs.history import ELBO, Monitor, with_epoch
from trainers.runs.model_state import generator_states, not_finite, running_means
from trainers.runs.run_folder import RunFolder


class Saving(keras.callbacks.Callback):
    """Looks after every batch whether to save or to stop, and saves every epoch.

    All workers decide as one, and all of them save, since reading a variable may need
    all of them; the chief's is what is kept.
    """

    def __init__(
        self,
        run: RunFolder,
        config: TrainConfig,
        state: State,
        *,
        workers: Workers,
        signals: Signals,
    ):
        """Goes on from `state`, which is of the run's newest checkpoint."""
        super().__init__()
        self.run, self.config, self.state = run, config, state
        self.workers, self.signals = workers, signals
        self.monitor = Monitor(config)
        self._saved = state
        self._saved_at = time.monotonic()

    def on_train_begin(self, logs=None):
        """Refuses a `monitor` that there can't be, before a step is done."""
        names = [metric.name for metric in self.model.loss_terms]
        names += [*(f"val_{name}" for name in names), ELBO, "learning_rate"]
        every = self.config.evaluate_every
        if not (0 < every <= self.config.epochs and self._monitors_evaluation()):
            self._check_monitor(names)

    def on_train_batch_end(self, batch, logs=None):
        """Saves if it is time; stops if a signal came."""
        if batch < self.state.step:  # done before the training was resumed
            return
        self.state = self.state._replace(step=batch + 1)
        if self.state.step == self.state.steps:  # validation has the same variables
            self.state = self.state._replace(metrics=running_means(self.model))
        every = self.config.checkpoint_steps
        self._look(due=every is not None and self.state.total % every == 0)

    def on_test_batch_end(self, batch, logs=None):
        """Stops if a signal came; the epoch is validated anew when training goes on."""
        self._look(due=False)

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch to the history and saves; says whether training ends here."""
        if self._monitors_evaluation() and any(map(_is_evaluation, logs)):
            self._check_monitor(logs)
        history = with_epoch(self.state.history, logs)
        self.state = State(epoch + 1, 0, self.state.steps, history)
        self.save()
        stop = self.workers.chief and self.monitor.why_stopped(history) is not None
        self.model.stop_training = self.workers.agree(stop)

    def save(self):
        """Writes a checkpoint, unless there is one of this step.

        Raises:
          RunError: If weights are not finite, or it can't be written.
        """
        if self.state[:2] == self._saved[:2]:
            return
        wrong = not_finite(self.model)
        if wrong:
            raise RunError(
                f"{len(wrong)} variables are not finite after {self.state}, {wrong[0]} "
                f"among them. {self.run.checkpoints.kept()} {advice(self.config)}"
            )
        if 0 < self.state.step < self.state.steps:
            self.state = self.state._replace(metrics=running_means(self.model))
        self.state = self.state._replace(seeds=generator_states(self.model))
        failure = None
        try:
            self._write()
        except RunError as error:
            failure = error
        if self.workers.agree(failure is not None):
            raise failure or RunError("another worker can't write the checkpoint.")
        self._saved, self._saved_at = self.state, time.monotonic()

    def _write(self):
        if self.workers.chief:
            self.run.save(self.model, self.state, self.monitor)
            return
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(f"{folder}/model.keras")

    def _look(self, *, due: bool):
        minutes = self.config.checkpoint_minutes
        late = minutes is not None and time.monotonic() - self._saved_at > 60 * minutes
        if self.workers.agree(due or late or self.signals.received is not None):
            self.save()
            if self.workers.agree(self.signals.received is not None):
                self.signals.stop(f"after {self.state}; the same command goes on there")

    def _monitors_evaluation(self) -> bool:
        return _is_evaluation(self.monitor.metric)

    def _check_monitor(self, names: Iterable[str]):
        metric = self.monitor.metric
        if metric not in names:
            every = self.config.evaluate_every
            never = self._monitors_evaluation() and not 0 < every <= self.config.epochs
            hint = f", with evaluate_every={every}" if never else ""
            raise UsageError(
                f"monitor: no epoch has {metric!r}{hint}. {one_of(names, metric)}"
            )


def _is_evaluation(name: str) -> bool:
    return name.startswith("evaluation/")
