"""Keras callbacks of the training application; those that save are in `saving`."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError
from trainers.evaluation.context import Evaluation, Options
from trainers.evaluation.main_numbers import main_numbers
from trainers.evaluation.measures import MEASURES
from trainers.fitting.signals import Signals
from trainers.recipes.recipe import Recipe
from trainers.runs.checkpoints import State
from trainers.runs.history import ELBO, validation_elbo
from trainers.runs.model_state import set_running_means
from trainers.runs.run_folder import RunFolder

#: What is measured during training, and of how many rows and draws.
DURING_TRAINING = ("conditional_coherence", "joint_coherence", "linear_probe")
NUM_ROWS = 500


class Resume(keras.callbacks.Callback):
    """Enters an epoch in its middle: the steps done are counted, but not done again.

    So the progress bar, and all else that counts steps, goes on where it was; an epoch
    whose steps are all done is only validated. The batches begin with the first step
    that is to be done.
    """

    def __init__(self, state: State):
        """Goes on from `state`."""
        super().__init__()
        self.state = state
        self._train_function: Callable | None = None

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the running means, which Keras has just reset."""
        if epoch != self.state.epoch or not self.state.step:
            return
        set_running_means(self.model, self.state.metrics)
        result = self.model.get_metrics_result()
        self._train_function = self.model.train_function
        self.model.train_function = lambda iterator: result

    def on_train_batch_begin(self, batch, logs=None):
        """From the first step that is not done on, the steps are those of the model."""
        if self._train_function and batch >= self.state.step:
            self._give_back()

    def on_test_begin(self, logs=None):
        """All steps were done."""
        if self._train_function:
            self._give_back()

    def _give_back(self):
        self.model.train_function, self._train_function = self._train_function, None


class Numbers(keras.callbacks.Callback):
    """Stops at the first number that is not finite; adds two to each epoch.

    Keras has fetched the numbers for its progress bar: this costs no more.
    """

    def __init__(self, config: TrainConfig, steps: int, kept: Callable[[], str]):
        """Says of what use `kept` is when it stops an epoch of so many steps."""
        super().__init__()
        self.config, self.steps, self.kept = config, steps, kept
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers where it is."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Checks the running means, which a single such step spoils."""
        total = self._epoch * self.steps + batch + 1
        self._check(logs, f"at step {total} ({self._step(batch)})")

    def on_epoch_end(self, epoch, logs=None):
        """Checks validation, too."""
        self._check(logs, f"after epoch {epoch + 1}")
        logs[ELBO] = validation_elbo(logs)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)

    def _step(self, batch: int) -> str:
        return f"epoch {self._epoch + 1}, step {batch + 1} of {self.steps}"

    def _check(self, logs, where: str):
        wrong = [f"{k} is {v}" for k, v in logs.items() if not math.isfinite(v)]
        if wrong:
            raise RunError(
                f"{', '.join(wrong)} {where}. {self.kept()} {advice(self.config)}"
            )


def advice(config: TrainConfig) -> str:
    """What to try where numbers are not finite."""
    tries = ["a smaller learning_rate"]
    if config.clip_norm is None:
        tries.append("clip_norm")
    if config.precision == "mixed_float16":
        tries.append("precision=mixed_bfloat16")
    return f"Try, in another folder, {' or '.join(tries)}."


class TensorBoardEvaluation(keras.callbacks.Callback):
    """Every few epochs: the numbers and figures of `mopoe-evaluate`, in TensorBoard.

    Measured on the first rows of the validation split. Classifiers are trained when
    they are first needed, and kept with the run.
    """

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        config: TrainConfig,
        *,
        signals: Signals,
        chief: bool,
        before: Callable[[], None],
    ):
        """Every `config.evaluate_every` epochs, once all workers have called `before`.

        Only the chief evaluates.
        """
        super().__init__()
        self.run, self.recipe, self.config = run, recipe, config
        self.signals, self.chief, self.before = signals, chief, before
        self._judges: Evaluation | None = None
        self._writer: Any = None

    def on_train_begin(self, logs=None):
        """Reads the data, and opens the file."""
        if not self.chief:
            return
        with self.signals.at_once("before training began"):
            self._judges = self._evaluation()
        self._writer = tf.summary.create_file_writer(str(self.run.logs / "evaluate"))

    def on_epoch_end(self, epoch, logs=None):
        """Writes scalars and images of this epoch, whose `logs` get the scalars."""
        if (epoch + 1) % self.config.evaluate_every:
            return
        self.before()
        if not self.chief:
            return
        with self.signals.at_once(f"while epoch {epoch + 1} was evaluated"):
            numbers = self._evaluate(epoch)
        logs.update(numbers)

    def _evaluate(self, epoch: int) -> dict[str, float]:
        from trainers.evaluation.figures import draw_figures, figure_pixels

        evaluation = self._evaluation()
        try:
            report = {name: MEASURES[name](evaluation) for name in DURING_TRAINING}
        except ValueError as error:
            raise RunError(f"the evaluation of epoch {epoch + 1}: {error}") from error
        numbers = {f"evaluation/{k}": v for k, v in main_numbers(report).items()}
        figures = draw_figures(
            self.model, evaluation.data.modalities, seed=evaluation.options.seed
        )
        with self._writer.as_default(step=epoch):
            for name, value in numbers.items():
                tf.summary.scalar(name, value)
            for name, figure in figures.items():
                pixels = figure_pixels(figure)
                tf.summary.image(f"evaluation/{name}", pixels[np.newaxis])
        self._writer.flush()
        return numbers

    def on_train_end(self, logs=None):
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()

    def _evaluation(self) -> Evaluation:
        """Of the model as it is; data and classifiers are those of the first one."""
        options = Options(rows=NUM_ROWS, num_samples=NUM_ROWS, fitted_priors=False)
        return Evaluation(
            self.run,
            self.recipe,
            self.config,
            self.model,
            split="validation",
            options=options,
            like=self._judges,
        )
