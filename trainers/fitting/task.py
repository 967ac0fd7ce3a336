"""What is trained: a recipe, its configuration, its folder and its data."""

from typing import TYPE_CHECKING, NamedTuple

from trainers.config.train_config import TrainConfig
from trainers.fitting.signals import Signals
from trainers.fitting.strategy import Workers
from trainers.recipes.recipe import Recipe
from trainers.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import tensorflow as tf


class TrainingTask(NamedTuple):
    """What is trained, where, and by which workers."""

    recipe_name: str
    recipe: Recipe
    config: TrainConfig
    run: RunFolder
    workers: Workers
    signals: Signals

    def print(self, text: str) -> None:
        """Prints a line, in the chief's process only."""
        if self.workers.chief:
            print(text, flush=True)


class TrainingData(NamedTuple):
    """Training and validation data.

    Attributes:
      batches: Endless batches of the training data.
      batch_size: Number of rows in a batch.
      steps: Number of batches in an epoch.
      validation: Batches of the validation data.
    """

    batches: "tf.data.Dataset"
    batch_size: int
    steps: int
    validation: "tf.data.Dataset"
