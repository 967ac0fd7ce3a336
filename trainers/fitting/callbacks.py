"""Callbacks that resume an epoch, stop at NaN, and evaluate during training."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError
from trainers.evaluation.context import EvaluationContext, Options
from trainers.evaluation.main_numbers import main_numbers
from trainers.evaluation.measures import measure
from trainers.fitting.task import TrainingTask
from trainers.runs.checkpoints import Checkpoints, State
from trainers.runs.history import ELBO, validation_elbo
from trainers.runs.model_state import set_running_means

#: Measures during training, and number of rows and draws for them.
DURING_TRAINING = ("conditional_coherence", "joint_coherence", "linear_probe")
NUM_ROWS = 500


class ResumeEpoch(keras.callbacks.Callback):
    """Resumes within an epoch: steps already done are counted, but not repeated.

    So the progress bar, and everything else that counts steps, continues; an epoch
    whose steps are all done is only validated. The batches must begin with the first
    step that is to be done.
    """

    def __init__(self, state: State):
        """Resumes from `state`."""
        super().__init__()
        self.state = state
        self._train_function: Callable | None = None

    def on_epoch_begin(self, epoch, logs=None):
        """Restores the running means, which Keras has just reset."""
        if epoch != self.state.epoch or not self.state.step:
            return
        set_running_means(self.model, self.state.metrics)
        result = self.model.get_metrics_result()
        self._train_function = self.model.train_function
        self.model.train_function = lambda iterator: result

    def on_train_batch_begin(self, batch, logs=None):
        """Restores the training step before the first step that is not done."""
        if batch >= self.state.step:
            self._restore_train_function()

    def on_test_begin(self, logs=None):
        """Restores the training step if all steps were done."""
        self._restore_train_function()

    def _restore_train_function(self):
        if self._train_function:
            self.model.train_function, self._train_function = self._train_function, None


class TerminateOnNonFinite(keras.callbacks.Callback):
    """Stops at the first metric that is not finite; adds two metrics to each epoch.

    Keras has fetched the metrics for its progress bar, so this costs no more.
    """

    def __init__(self, config: TrainConfig, steps: int, checkpoints: Checkpoints):
        """Checks epochs of `steps` steps; errors name the newest of `checkpoints`."""
        super().__init__()
        self.config, self.steps, self.checkpoints = config, steps, checkpoints
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Checks the running means, which stay NaN after one such step."""
        total = self._epoch * self.steps + batch + 1
        within = f"epoch {self._epoch + 1}, step {batch + 1} of {self.steps}"
        self._check(logs, f"at step {total} ({within})")

    def on_epoch_end(self, epoch, logs=None):
        """Checks all metrics; adds val_elbo and learning_rate."""
        self._check(logs, f"after epoch {epoch + 1}")
        logs[ELBO] = validation_elbo(logs)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)

    def _check(self, logs, where: str):
        wrong = [f"{k} is {v}" for k, v in logs.items() if not math.isfinite(v)]
        if wrong:
            raise RunError(
                f"{', '.join(wrong)} {where}. {self.checkpoints.describe_newest()} "
                f"{advice_on_non_finite(self.config)}"
            )


def advice_on_non_finite(config: TrainConfig) -> str:
    """Says what to try if numbers are not finite."""
    tries = ["a smaller learning_rate"]
    if config.clip_norm is None:
        tries.append("clip_norm")
    if config.precision == "mixed_float16":
        tries.append("precision=mixed_bfloat16")
    return f"Try, in another folder, {' or '.join(tries)}."


class TensorBoardEvaluation(keras.callbacks.Callback):
    """Writes numbers and figures of `mopoe-evaluate` for TensorBoard, every few epochs.

    They are measured on the first rows of the validation split, by the chief.
    Classifiers are trained when first needed, and kept with the run.
    """

    def __init__(self, task: TrainingTask, *, save: Callable[[], None]):
        """Evaluates every `evaluate_every` epochs, after all workers called `save`."""
        super().__init__()
        self.task, self.save = task, save
        self._first: EvaluationContext | None = None
        self._writer: Any = None

    def on_train_begin(self, logs=None):
        """Loads the data, and opens the file."""
        if not self.task.workers.chief:
            return
        with self.task.signals.immediate("before training began"):
            self._first = self._make_context()
        self._writer = tf.summary.create_file_writer(
            str(self.task.run.logs / "evaluate")
        )

    def on_epoch_end(self, epoch, logs=None):
        """Writes numbers and images of this epoch, and adds the numbers to `logs`."""
        if (epoch + 1) % self.task.config.evaluate_every:
            return
        self.save()
        if self.task.workers.chief:
            with self.task.signals.immediate(f"while epoch {epoch + 1} was evaluated"):
                numbers = self._evaluate(epoch)
            logs.update(numbers)

    def on_train_end(self, logs=None):
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()

    def _evaluate(self, epoch: int) -> dict[str, float]:
        from trainers.evaluation.figures import draw_figures, figure_pixels

        context = self._make_context()
        try:
            report = {name: measure(name, context) for name in DURING_TRAINING}
        except ValueError as error:
            raise RunError(f"the evaluation of epoch {epoch + 1}: {error}") from error
        numbers = {f"evaluation/{k}": v for k, v in main_numbers(report).items()}
        figures = draw_figures(
            self.model, context.data.modalities, seed=context.options.seed
        )
        with self._writer.as_default(step=epoch):
            for name, value in numbers.items():
                tf.summary.scalar(name, value)
            for name, figure in figures.items():
                pixels = figure_pixels(figure)
                tf.summary.image(f"evaluation/{name}", pixels[np.newaxis])
        self._writer.flush()
        return numbers

    def _make_context(self) -> EvaluationContext:
        """Context of the current model, with the first one's data and classifiers."""
        options = Options(rows=NUM_ROWS, num_samples=NUM_ROWS, fitted_priors=False)
        return EvaluationContext(
            self.task.run,
            self.task.recipe,
            self.task.config,
            self.model,
            split="validation",
            options=options,
            like=self._first,
        )
