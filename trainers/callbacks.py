"""Keras callbacks of the training application."""

import math

import keras

from trainers.errors import RunError
from trainers.run_folder import History, RunFolder


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
