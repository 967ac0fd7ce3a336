"""Two replicas do what one device does: gradients, losses, metrics."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]

# A process of its own: logical devices must be set before TensorFlow starts.
SCRIPT = """
import json
import sys

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)

from tests.tiny_models import tiny_batch, tiny_model
from tf_mopoe.distributions import noise

x = tiny_batch(rows=16)
x["present"] = {"a": np.arange(16) % 3 > 0}


noise.standard_normal = (
    lambda shape, seed, dtype: tf.zeros(shape, dtype)
)


def train(strategy):
    with strategy.scope():
        encoder = keras.Sequential([
            keras.Input((3,)),
            keras.layers.Dense(5, kernel_regularizer=keras.regularizers.L2(0.1)),
        ])
        # One component: which component a row draws depends on its replica.
        options = {"a": {"encoder": encoder}}
        model = tiny_model(options=options, subsets="full", beta=2.0)
        model.compile(keras.optimizers.SGD(0.05))
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(8, drop_remainder=True)
    history = model.fit(
        dataset, epochs=2, shuffle=False, validation_data=dataset, verbose=0
    ).history
    return history, [weight.tolist() for weight in model.get_weights()]


two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert two.num_replicas_in_sync == 2
results = {"two": train(two), "one": train(tf.distribute.get_strategy())}


model = tiny_model()
seeds = two.run(lambda: model._noise_seed(training=False))
results["seeds"] = [seed.numpy().tolist() for seed in seeds.values]
with open(sys.argv[1], "w") as file:
    json.dump(results, file)
"""


def test_two_replicas_train_like_one_device(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    out = tmp_path / "results.json"
    completed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(out)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr[-4000:]
    results = json.loads(out.read_text())
    (history, weights), (expected_history, expected_weights) = (
        results["two"],
        results["one"],
    )
    assert set(history) == set(expected_history)
    for name, values in expected_history.items():
        # float32 sums in another order.
        np.testing.assert_allclose(history[name], values, rtol=1e-5, err_msg=name)
    for actual, expected in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    # Each replica has noise of its own.
    assert results["seeds"][0] != results["seeds"][1]
