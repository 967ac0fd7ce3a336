"""Runs cases on two logical CPUs and on one; writes both results as JSON.

    python -m tests.conformance.two_replicas OUT NAME [NAME ...]

This is a separate program because devices must be configured before TensorFlow starts.
Models draw noise for the whole batch. A layer called by itself does not, so it gets
constant noise here.
"""

import json
import sys
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)

from tests.conformance import cases  # noqa: E402
from tf_mopoe.distributions import noise, subset_draws  # noqa: E402
from tf_mopoe.layers import MixtureOfExperts  # noqa: E402


def constant(value):
    """Returns a function that replaces one that draws random numbers."""
    return lambda shape, seed, dtype=tf.float32: tf.fill(shape, tf.cast(value, dtype))


def first_component(self, loc, present, seed, drawn, num_draws, replica):
    """Replaces the random draw of components."""
    return tf.zeros([num_draws, tf.shape(loc)[0]], tf.int32)


def results_of_model(strategy, case):
    """Returns metrics and weights after a few steps."""
    with strategy.scope():
        model = cases.make_model(case)
        model.compile(keras.optimizers.SGD(1e-2))
    dataset = tf.data.Dataset.from_tensor_slices(cases.batch()).batch(8)
    history = model.fit(dataset, epochs=2, shuffle=False, verbose=0).history
    return [*history.values(), *(w.ravel().tolist() for w in model.get_weights())]


def results_of_function(strategy, function, inputs):
    """Returns the outputs for all rows; each replica computes its part."""
    count = strategy.num_replicas_in_sync
    parts = [
        tf.nest.map_structure(
            lambda x, part=part: (
                np.split(np.asarray(x), count)[part]
                if np.shape(x)[0] == cases.ROWS
                else np.asarray(x)
            ),
            inputs,
        )
        for part in range(count)
    ]
    flat = [tf.nest.flatten(part) for part in parts]
    distributed = [
        strategy.experimental_distribute_values_from_function(
            lambda context, index=index: tf.constant(
                flat[context.replica_id_in_sync_group][index]
            )
        )
        for index in range(len(flat[0]))
    ]

    def run(*tensors):
        return tf.nest.flatten(function(*tf.nest.pack_sequence_as(inputs, tensors)))

    outputs = strategy.run(tf.function(run, autograph=False), args=distributed)
    return [
        np.concatenate(strategy.experimental_local_results(output)).ravel().tolist()
        for output in outputs
    ]


def results_of_layer(strategy, case):
    """Returns the layer's outputs."""
    with strategy.scope():
        layer = case.make()
        layer(*case.inputs)
        rng = np.random.default_rng(0)
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    with (
        mock.patch.object(noise, "standard_normal", constant(0.5)),
        mock.patch.object(noise, "uniform", constant(0.5)),
        mock.patch.object(subset_draws, "uniform", constant(0.5)),
        mock.patch.object(MixtureOfExperts, "_draw_components", first_component),
    ):
        return results_of_function(strategy, layer, case.inputs)


def results_of_distribution(strategy, kwargs):
    """Returns log-density, mean, standard deviation and bound."""
    q = cases.make_distribution(kwargs)

    def evaluate(loc, scale, present):
        q = cases.distributions.MixtureOfProductsOfExperts(
            loc, scale, present, **kwargs
        )
        return q.log_prob(q.mean()), q.mean(), q.stddev(), q.kl_upper_bound()

    return results_of_function(strategy, evaluate, (q.loc, q.scale, q.present))


def main(path, names):
    """Writes {case: [results of two replicas, results of one device]}."""
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    one = tf.distribute.get_strategy()
    results = {}
    for function, table in (
        (results_of_layer, cases.LAYERS),
        (results_of_model, cases.MODELS),
        (results_of_distribution, cases.DISTRIBUTIONS),
    ):
        for name in [name for name in table if name in names]:
            results[name] = [function(two, table[name]), function(one, table[name])]
    with open(path, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
