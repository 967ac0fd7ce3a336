"""Seeds of the noise in training and evaluation."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from tf_mopoe.distributions import noise
from tf_mopoe.models.batches import Batch
from tf_mopoe.models.replicas import counter, micro_step


class StepNoise:
    """Counts steps and rows, so that noise depends only on the seed and a position.

    In training a step's noise depends on the number of the micro-batch. In evaluation a
    row's noise depends on its position in the data. In custom training loops, where the
    model may not know the optimizer, losses are counted.
    """

    def __init__(self):
        """Starts all counts."""
        self._rows_seen = counter(0)
        # The optimizer's step at the last loss of a custom training loop, and the
        # number of losses since then at this step.
        self._last_step = counter(-1)
        self.losses_at_step = counter(0)
        self._in_train_step = False

    @contextlib.contextmanager
    def train_step(self) -> Iterator[None]:
        """Marks losses of the model's own step, whose noise the optimizer counts."""
        self._in_train_step = True
        try:
            yield
        finally:
            self._in_train_step = False

    def count_loss(self, optimizer: keras.optimizers.Optimizer | None) -> None:
        """Counts a training loss, unless the model's own step computes it."""
        if self._in_train_step:
            return
        step = tf.cast(micro_step(optimizer), tf.int64)
        again = tf.cast(tf.equal(step, self._last_step), tf.int64)
        self.losses_at_step.assign((self.losses_at_step + 1) * again)
        self._last_step.assign(step)

    def restart_rows(self) -> None:
        """The next batch of evaluation is the first one."""
        self._rows_seen.assign(0)

    def count_rows(self, batch: Batch) -> None:
        """Counts the rows of a batch that was evaluated."""
        rows = noise.global_batch_size(batch.replica, batch.num_rows())
        self._rows_seen.assign_add(tf.cast(rows, tf.int64))

    def training_seed(
        self, seed: int, optimizer: keras.optimizers.Optimizer | None
    ) -> tf.Tensor:
        """Seed of a training step, int32 `[2]`."""
        pair = noise.fold_in(tf.constant([seed, 1], tf.int32), micro_step(optimizer))
        if self._in_train_step:
            return pair
        again = tf.convert_to_tensor(self.losses_at_step)
        return tf.where(again > 0, noise.fold_in(pair, again), pair)

    def evaluation_seeds(self, seed: int, batch: Batch) -> tf.Tensor:
        """Seed of each row in evaluation, int32 `[B, 2]`."""
        first = tf.convert_to_tensor(self._rows_seen)
        if batch.replica is not None:
            first += tf.cast(batch.replica.start, tf.int64)
        seeds = noise.row_seeds(seed, batch.num_rows(), first)
        return noise.fold_in(noise.seed_pairs(seeds), 1)  # unlike those of `impute`
