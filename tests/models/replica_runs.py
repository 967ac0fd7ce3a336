"""Trains tiny models on one device or on several; writes metrics and weights as JSON.

    python -m tests.models.replica_runs OUT [NAMES OF CASES]

A program of its own, since devices must be set before TensorFlow starts. On several
workers where `TF_CONFIG` is set, else on one device and on two.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tests.tiny_models import tiny_batch, tiny_model
from tf_mopoe.distributions import noise
from tf_mopoe.models.replicas import num_replicas
from tf_mopoe.subsets import SubsetSampler


def with_style_and_penalty():
    """A style, and networks with a penalty."""
    dense = keras.layers.Dense(5, kernel_regularizer=keras.regularizers.L2(0.1))
    encoder = keras.Sequential([keras.Input((3,)), dense])
    return {"a": {"encoder": encoder, "style_dim": 2}}


class Case(NamedTuple):
    """What is trained, and how.

    Attributes:
      model: Arguments of the model.
      options: Makes arguments of its modalities, within the strategy's scope.
      holes: Whether values are missing.
      quiet: Whether the noise is 0.
      rows: Number of rows of the data, in batches of 8.
      optimizer: Arguments of Adam.
      policy: Dtype policy of Keras.
      late: Whether the optimizer is set after `compile`.
      whole: Whether to evaluate and predict, too.
      huge: Value of the first row of the second batch, whose gradient overflows.
    """

    model: dict = {}
    options: Callable = dict
    holes: bool = True
    quiet: bool = False
    rows: int = 16
    optimizer: dict = {}
    policy: str = "float32"
    late: bool = False
    whole: bool = False
    huge: float = 0.0


CASES = {
    "complete": Case(holes=False),
    "complete without noise": Case(holes=False, quiet=True, late=True),
    # The last batch has one row: fewer than replicas.
    "holes": Case(rows=17, optimizer={"global_clipnorm": 0.05}, whole=True),
    "holes without noise": Case(quiet=True),
    "sampled subsets, importance-weighted, style, penalty": Case(
        model={"subsets": SubsetSampler(3), "objective": "iwae", "num_samples": 3},
        options=with_style_and_penalty,
    ),
    "overflow in one replica": Case(policy="mixed_float16", huge=3e4),
}

#: Compiled by XLA, which takes its time: of several devices on the one side only.
COMPILED = {"compiled": Case(rows=17), "compiled, complete": Case(holes=False)}


def train(strategy: tf.distribute.Strategy, case: Case):
    """History and weights."""
    x = tiny_batch("abc", rows=case.rows)
    if case.huge:
        x["a"][8] = case.huge
    if case.holes:
        rows = np.arange(case.rows)
        x["present"] = {"a": rows % 3 > 0, "b": rows % 4 < 3}
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(8).with_options(options)
    keras.config.set_dtype_policy(case.policy)
    try:
        with strategy.scope():
            model = tiny_model("abc", options=case.options(), **case.model)
            model.compile(
                keras.optimizers.Adam(0.05, **case.optimizer),
                jit_compile=case in COMPILED.values() and num_replicas() > 1,
            )
            if case.late:
                model.optimizer = keras.optimizers.SGD(0.01)
    finally:
        keras.config.set_dtype_policy("float32")
    normal = noise.standard_normal
    if case.quiet:
        noise.standard_normal = lambda shape, seed, dtype: tf.zeros(shape, dtype)
    try:
        history = model.fit(
            dataset,
            epochs=2,
            shuffle=False,
            validation_data=dataset if case.whole else None,
            verbose=0,
        ).history
    finally:
        noise.standard_normal = normal
    predicted = []
    if case.whole:
        means = model.predict(dataset, verbose=0)
        predicted = [value.tolist() for value in means.values()]
    weights = [weight.tolist() for weight in model.get_weights()]
    return history, weights, predicted


def main(path: str, names: list[str]) -> None:
    """Writes {case: results}, of two devices and one: {case: [two, one]}."""
    if "TF_CONFIG" in os.environ:
        strategies = [tf.distribute.MultiWorkerMirroredStrategy()]
    else:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2,
        )
        one = tf.distribute.get_strategy()
        strategies = [tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), one]
    results = {
        name: [train(strategy, {**CASES, **COMPILED}[name]) for strategy in strategies]
        for name in names or CASES
    }
    with open(path, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
