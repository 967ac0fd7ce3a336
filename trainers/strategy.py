"""Devices and hosts: what `strategy`, `devices`, `tpu` and `threads` stand for."""

from typing import TYPE_CHECKING

from trainers.config import TrainConfig

if TYPE_CHECKING:
    import tensorflow as tf


class Workers:
    """The processes that train together; one, unless the strategy is multi_worker.

    Attributes:
      strategy: Of tf.distribute; `strategy.scope()` is where models are made.
      index: Of this process, from 0.
      count: Of processes.
      chief: Whether this process writes the run folder.
    """

    def __init__(
        self, strategy: "tf.distribute.Strategy", index: int = 0, count: int = 1
    ):
        self.strategy, self.index, self.count = strategy, index, count
        self.chief = index == 0

    def agree(self, flag: bool) -> bool:
        """Whether any of the workers says so; every worker must ask."""
        return flag


def make_workers(config: TrainConfig) -> Workers:
    """Prepares TensorFlow's devices and threads, once in a process."""
    import tensorflow as tf

    return Workers(tf.distribute.get_strategy())
