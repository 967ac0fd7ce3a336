"""Several replicas do what one device does: workarounds for Keras bugs live here.

Keras 3.15 has these defects on several replicas; `tests/models/test_replicas.py` tests
the workarounds on the installed Keras:

1. `MultiWorkerMirroredStrategy`: `fit` reduces a step's results, scalars, over an axis
   that they don't have (keras#20585, keras#20329). `function_of_workers` makes the
   step's function. `fit` also averages a batch's structure to build the model;
   `SteppedModel._maybe_symbolic_build` does nothing, since the model is built.
2. Gradients are clipped, and tested for infinity, before they are summed over
   replicas: another norm on each. `sum_gradients` sums first, and keeps the optimizer
   from doing it again.
3. XLA can't compile a whole step that runs on several replicas. `fit` gets a step
   without it, in which each replica's gradients are compiled.
4. Several steps in one execution and accumulated gradients fail, or lose batches.
   `check_replicas_can` refuses them.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mopoe.distributions.noise import ReplicaSlice
from tf_mopoe.models.batches import Batch


def num_replicas() -> int:
    """Number of replicas of the current strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def with_replica_slice(batch: Batch) -> Batch:
    """The batch with its place in the batch of all replicas; alone as it is."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return batch
    rows = tf.shape(next(iter(batch.values.values())))[:1]
    counts = context.all_gather(rows, axis=0)  # by replica
    before = tf.range(context.num_replicas_in_sync) < context.replica_id_in_sync_group
    start = tf.reduce_sum(tf.where(before, counts, 0))
    present = batch.present
    if present is not None:
        # Not every strategy gathers bools.
        columns = present.shape[-1]
        present = context.all_gather(tf.cast(present, tf.int32), axis=0) > 0
        present = tf.ensure_shape(present, [None, columns])
    replica = ReplicaSlice(start, rows[0], tf.reduce_sum(counts), present)
    return batch._replace(replica=replica)


def check_replicas_can(
    optimizer: keras.optimizers.Optimizer, steps_per_execution: int
) -> None:
    """Raises a ValueError where Keras fails on several replicas, or goes wrong."""
    if steps_per_execution != 1:
        raise ValueError(
            "`steps_per_execution` must be 1 on several replicas, where Keras can't "
            f"run several steps at once. Received: {steps_per_execution}."
        )
    if _inner(optimizer).gradient_accumulation_steps:
        raise ValueError(
            "`gradient_accumulation_steps` of the optimizer must be None on several "
            "replicas, where Keras can't accumulate. Use a larger batch. Received: "
            f"{_inner(optimizer).gradient_accumulation_steps}."
        )


def sum_gradients(
    gradients: list[Any], optimizer: keras.optimizers.Optimizer
) -> list[Any]:
    """Gradients summed over replicas; None stays.

    The optimizer does not sum them again.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return gradients
    _inner(optimizer)._all_reduce_sum_gradients = lambda pairs: pairs
    given = [gradient for gradient in gradients if gradient is not None]
    summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, given))
    return [None if gradient is None else next(summed) for gradient in gradients]


def counter(value: int) -> tf.Variable:
    """A whole number that is the same on all replicas, and no weight of a model."""
    return tf.Variable(
        value,
        trainable=False,
        dtype=tf.int64,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def micro_step(optimizer: keras.optimizers.Optimizer | None) -> tf.Tensor:
    """Number of the batch in training; `iterations` counts steps of the weights only.

    They differ where the optimizer accumulates the gradients of several batches.
    Without an optimizer 0.
    """
    if optimizer is None:
        return tf.constant(0)
    return tf.cast(_inner(optimizer)._iterations.value, tf.int32)


def without_missing_gradients(
    pairs: list[tuple[Any, Any]], optimizer: keras.optimizers.Optimizer
) -> list[tuple[Any, Any]]:
    """Gradients and variables, of those that have a gradient in this batch.

    A decoder whose modality the batch lacks has none. Where gradients are accumulated
    it is 0: Keras would keep what the batches before gave for a later step.
    """
    if _inner(optimizer).gradient_accumulation_steps:
        return [(tf.zeros_like(v) if g is None else g, v) for g, v in pairs]
    return [(g, v) for g, v in pairs if g is not None]


def _inner(optimizer: keras.optimizers.Optimizer) -> Any:
    """The optimizer that loss scaling wraps, or the optimizer."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def mean_over_replicas(metrics: list[keras.metrics.Mean]) -> dict[str, tf.Tensor]:
    """Results by name over what all replicas have seen, in one reduction."""
    context = tf.distribute.get_replica_context()
    sums = tf.stack([[metric.total.value, metric.count.value] for metric in metrics])
    totals, counts = tf.unstack(
        context.all_reduce(tf.distribute.ReduceOp.SUM, sums), axis=1
    )
    means = tf.unstack(tf.math.divide_no_nan(totals, counts))
    return {metric.name: mean for metric, mean in zip(metrics, means)}


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether the strategy is one of several workers."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def function_of_workers(
    strategy: tf.distribute.Strategy, step: Callable[[Any], Any], *, eagerly: bool
) -> Callable[[Any], Any]:
    """What `fit` and `evaluate` call for each batch on several workers."""

    def run(iterator):
        results = strategy.run(step, args=(next(iterator),))
        # The same on all replicas: take those of the first local one.
        return tf.nest.map_structure(
            lambda value: strategy.experimental_local_results(value)[0], results
        )

    return run if eagerly else tf.function(run, autograph=False)
