"""Keras callbacks of the training application."""

import math

import keras
import numpy as np
import tensorflow as tf

from trainers.config import TrainConfig
from trainers.errors import RunError
from trainers.evaluation import Evaluation, Options
from trainers.measures import MEASURES
from trainers.recipe import Recipe
from trainers.run_folder import History, RunFolder
from trainers.scalars import main_numbers

#: What is measured during training, and of how many rows and draws.
DURING_TRAINING = ("conditional_coherence", "joint_coherence", "linear_probe")
NUM_ROWS = 500


class Checkpoint(keras.callbacks.Callback):
    """After every epoch: a checkpoint with the model, its optimizer and the history."""

    def __init__(self, run: RunFolder, history: History):
        """Goes on with `history`, the metrics of the epochs before."""
        super().__init__()
        self.run = run
        self.history = history

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch's metrics to the history and saves."""
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                raise RunError(
                    f"{name} is {value} after epoch {epoch + 1}; the checkpoint before "
                    "it is kept. Try a smaller learning_rate."
                )
            self.history.setdefault(name, []).append(float(value))
        self.run.save_checkpoint(self.model, self.history)


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
        every: int = 1,
        metrics: tuple[str, ...] = DURING_TRAINING,
        rows: int = NUM_ROWS,
    ):
        """Measures `metrics`, names of `MEASURES`, every so many epochs."""
        super().__init__()
        self.run, self.recipe, self.config = run, recipe, config
        self.every, self.metrics, self.rows = every, metrics, rows
        self._judges: Evaluation | None = None

    def on_train_begin(self, logs=None):
        """Reads the data, and opens the file."""
        self._judges = self._evaluation()
        self._writer = tf.summary.create_file_writer(str(self.run.logs / "evaluate"))

    def on_epoch_end(self, epoch, logs=None):
        """Writes scalars and images of this epoch."""
        if (epoch + 1) % self.every:
            return
        from trainers.figures import draw_figures, figure_pixels

        evaluation = self._evaluation()
        try:
            report = {name: MEASURES[name](evaluation) for name in self.metrics}
        except ValueError as error:
            raise RunError(f"the evaluation of epoch {epoch + 1}: {error}") from error
        figures = draw_figures(
            self.model, evaluation.data.modalities, seed=evaluation.options.seed
        )
        with self._writer.as_default(step=epoch):
            for name, value in main_numbers(report).items():
                tf.summary.scalar(f"evaluation/{name}", value)
            for name, figure in figures.items():
                pixels = figure_pixels(figure)
                tf.summary.image(f"evaluation/{name}", pixels[np.newaxis])
        self._writer.flush()

    def on_train_end(self, logs=None):
        """Closes the file."""
        self._writer.close()

    def _evaluation(self) -> Evaluation:
        """Of the model as it is; data and classifiers are those of the first one."""
        options = Options(rows=self.rows, num_samples=self.rows, fitted_priors=False)
        return Evaluation(
            self.run,
            self.recipe,
            self.config,
            self.model,
            split="validation",
            options=options,
            like=self._judges,
        )
